"""The examples of one split: frozen columns of sentences and labels."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from supermask.errors import ConfigurationError

__all__ = ["Examples"]


@final
@dataclass(frozen=True)
class Examples:
    """The examples of one split, column by column, in the order of their file.

    Args:
        first: the (first) sentence of every example.
        second: the second sentence of every example, or None for a task of single sentences.
        labels: class indices or numbers, or None where the split has no labels.
        ids: the identifier of every example in its file; row numbers from 0 where it has none.
        source: where the examples come from, in words (a path, a hub data set, a generator).
        skipped: number of broken rows that were left out.
        skip_reasons: one sentence for each kind of row left out, naming lines.

    Raises:
        ConfigurationError: the columns differ in length.

    Example:
        >>> pairs = Examples(first=("a", "b", "c"), second=None, labels=(0, 1, 1), ids=("0", "1", "2"))
        >>> len(pairs), pairs.subset([2, 0]).first
        (3, ('c', 'a'))
    """

    first: tuple[str, ...]
    second: tuple[str, ...] | None
    labels: tuple[int, ...] | tuple[float, ...] | None
    ids: tuple[str, ...]
    source: str = ""
    skipped: int = 0
    skip_reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        columns: dict[str, Sequence[object] | None] = {
            "second": self.second,
            "labels": self.labels,
            "ids": self.ids,
        }
        wrong = [f"{len(c)} {name}" for name, c in columns.items() if c is not None and len(c) != len(self.first)]
        if wrong:
            raise ConfigurationError(f"examples of {self.source!r}: {len(self.first)} first, but {', '.join(wrong)}")

    def __len__(self) -> int:
        return len(self.first)

    def __repr__(self) -> str:
        # The columns of a real split would fill a screen for hours.
        return f"Examples({len(self)} rows of {self.source!r})"

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hexadecimal) over the sentences and labels in order.

        Ids and source stay out of it: the same examples have the same hash from a folder and from the hub.
        """
        digest = hashlib.sha256()
        labels: Sequence[int | float | None] = (None,) * len(self) if self.labels is None else self.labels
        second: Sequence[str | None] = (None,) * len(self) if self.second is None else self.second
        for row in zip(self.first, second, labels, strict=True):
            for value in row:
                content = f"{type(value).__name__}:{value}".encode("utf-8", "surrogatepass")
                # The length in front keeps ("ab", "c") and ("a", "bc") apart.
                digest.update(len(content).to_bytes(8, "little") + content)
        return digest.hexdigest()

    def subset(self, indices: Sequence[int]) -> Examples:
        """The examples at these positions, in the order given.

        Args:
            indices: positions from 0, each below `len(self)`.

        Raises:
            ConfigurationError: a position lies outside.
        """
        outside = [index for index in indices if not 0 <= index < len(self)]
        if outside:
            raise ConfigurationError(f"position {outside[0]} is outside the {len(self)} examples of {self.source!r}")
        labels = self.labels
        return dataclasses.replace(
            self,
            first=tuple(self.first[index] for index in indices),
            second=None if self.second is None else tuple(self.second[index] for index in indices),
            labels=None if labels is None else tuple(labels[index] for index in indices),
            ids=tuple(self.ids[index] for index in indices),
        )

    def take(self, count: int) -> Examples:
        """The first `count` examples, or all of them where there are fewer.

        Args:
            count: number of examples, at least 1.

        Raises:
            ConfigurationError: `count` is below 1.
        """
        if count < 1:
            raise ConfigurationError(f"take at least 1 example, received {count}")
        return self.subset(range(min(count, len(self))))

    def holdout(
        self, *, fraction: float | None = None, count: int | None = None, seed: int = 0
    ) -> tuple[Examples, Examples]:
        """Split the examples into those kept for training and those held out for validation.

        The order is that of SHA-256 over (seed, position): the same on every machine and version of Python. Both
        parts keep the order of the file.

        Args:
            fraction: share held out, in (0, 1); rounded to a whole number of examples, at least 1.
            count: number held out; give this or `fraction`.
            seed: which split.

        Returns:
            (training examples, held-out examples).

        Raises:
            ConfigurationError: not exactly one of `fraction` and `count` is given, or one part would be empty.

        Example:
            >>> numbers = Examples(tuple("abcdefghij"), None, None, tuple("0123456789"))
            >>> kept, held_out = numbers.holdout(count=3, seed=1)
            >>> len(kept), len(held_out), sorted(kept.first + held_out.first) == list("abcdefghij")
            (7, 3, True)
        """
        if (fraction is None) == (count is None):
            raise ConfigurationError(f"give either fraction or count, received fraction={fraction}, count={count}")
        if fraction is not None:
            if not 0.0 < fraction < 1.0:
                raise ConfigurationError(f"fraction must lie between 0 and 1, received {fraction}")
            count = max(1, round(fraction * len(self)))
        assert count is not None
        if not 0 < count < len(self):
            raise ConfigurationError(
                f"cannot hold out {count} of the {len(self)} examples of {self.source!r}: both parts need at least one"
            )

        def rank(position: int) -> bytes:
            return hashlib.sha256(f"{seed}:{position}".encode()).digest()

        held_out = set(sorted(range(len(self)), key=rank)[:count])
        kept = [position for position in range(len(self)) if position not in held_out]
        return self.subset(kept), self.subset(sorted(held_out))
