"""What all probes share: seeded choices, vocabularies in two halves, and the loop that draws a split."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar, final

from supermask.errors import ConfigurationError
from supermask.tasks.task import Examples, Task

__all__ = [
    "LARGEST_SPLIT",
    "BySplit",
    "Dice",
    "Fields",
    "Probe",
    "Row",
    "Split",
    "draw_examples",
    "fields",
    "sentence",
    "words",
]

T = TypeVar("T")
Split = Literal["train", "dev"]
Row = tuple[str, "str | None", "int | float"]
Fields = tuple[tuple[str, ...], ...]

LARGEST_SPLIT: Final = 10_000
# A draw that repeats an earlier row is thrown away; so many rounds in a row without a new row mean that there are no more.
_FRUITLESS_ROUNDS: Final = 200


@final
@dataclass(frozen=True)
class BySplit(Generic[T]):
    """One value for each split; vocabularies differ from split to split, and this is where they do.

    Args:
        train: the value for training rows.
        dev: the value for development rows.
    """

    train: T
    dev: T

    def __getitem__(self, split: Split) -> T:
        return self.train if split == "train" else self.dev


@final
class Dice:
    """Seeded choices that fall the same on every machine and every version of Python.

    Python promises a stable sequence for `Random.random()` under an integer seed and for nothing else in the module, so every
    choice here is made from that alone; the integer is taken from SHA-256 over the key.

    Args:
        key: what the sequence belongs to; other keys give unrelated sequences.

    Example:
        >>> Dice("probe", 0).sample("abcdef", 3) == Dice("probe", 0).sample("abcdef", 3)
        True
    """

    def __init__(self, *key: str | int) -> None:
        digest = hashlib.sha256("\n".join(map(str, key)).encode()).digest()
        self._random = random.Random(int.from_bytes(digest, "big"))

    def below(self, bound: int) -> int:
        """An integer from 0 to `bound` - 1, all equally likely."""
        return int(self._random.random() * bound)

    def pick(self, choices: Sequence[T]) -> T:
        """One of `choices`, all equally likely."""
        return choices[self.below(len(choices))]

    def sample(self, choices: Sequence[T], count: int) -> tuple[T, ...]:
        """So many of `choices` at distinct positions, in random order."""
        left = list(choices)
        return tuple(left.pop(self.below(len(left))) for _ in range(count))

    def shuffled(self, choices: Sequence[T]) -> tuple[T, ...]:
        """All of `choices` in random order."""
        return self.sample(choices, len(choices))


@final
@dataclass(frozen=True)
class Probe:
    """A task together with the grammar that writes its rows.

    Args:
        task: what there is to learn.
        draw_round: one row for each label, in any order, from the vocabulary of a split.
        content_words: the nouns, verbs and adjectives that the rows of a split are made of.
        train_size: number of training rows unless asked otherwise.
        dev_size: number of development rows unless asked otherwise.
    """

    task: Task
    draw_round: Callable[[Dice, Split], Sequence[Row]]
    content_words: BySplit[frozenset[str]]
    train_size: int = 1600
    dev_size: int = 400


def words(text: str) -> tuple[str, ...]:
    """The words of a text.

    Example:
        >>> words("sun moon")
        ('sun', 'moon')
    """
    return tuple(text.split())


def fields(text: str) -> Fields:
    """Groups of words that belong together: one group between two bars.

    Example:
        >>> fields("big large | old aged")
        (('big', 'large'), ('old', 'aged'))
    """
    return tuple(words(group) for group in text.split("|"))


def sentence(*parts: str) -> str:
    """The parts as one sentence: first letter large, `a` before a vowel made `an`, full stop at the end.

    Example:
        >>> sentence("this is", "a", "old", "car")
        'This is an old car.'
    """
    text = " ".join(parts).split()
    for position, (word, following) in enumerate(zip(text, text[1:], strict=False)):
        if word == "a" and following[0] in "aeiou":
            text[position] = "an"
    joined = " ".join(text)
    return f"{joined[0].upper()}{joined[1:]}."


def draw_examples(probe: Probe, split: Split, *, size: int, seed: int) -> Examples:
    """Draw the rows of one split.

    Rows come in rounds that hold every label once in random order, so the classes are balanced to within one row and a smaller
    split is the beginning of a larger one. A row that repeats an earlier one is drawn again with its whole round.

    Args:
        probe: whose rows.
        split: which vocabulary.
        size: number of rows.
        seed: which draw.

    Raises:
        ConfigurationError: the probe has fewer distinct rows than asked for.
    """
    dice = Dice(probe.task.name, probe.task.version, split, seed)
    rows: list[Row] = []
    seen: set[tuple[str, str | None]] = set()
    fruitless = 0
    while len(rows) < size:
        drawn = dice.shuffled(probe.draw_round(dice, split))
        texts = {(first, second) for first, second, _ in drawn}
        if len(texts) < len(drawn) or not seen.isdisjoint(texts):
            fruitless += 1
            if fruitless == _FRUITLESS_ROUNDS:
                raise ConfigurationError(
                    f"{probe.task.name}: {size} {split} rows asked for, but the grammar ran out of new ones after {len(rows)}; "
                    f"ask for fewer"
                )
            continue
        fruitless = 0
        seen |= texts
        rows.extend(drawn)
    rows = rows[:size]
    return Examples(
        first=tuple(first for first, _, _ in rows),
        second=tuple(str(second) for _, second, _ in rows) if probe.task.paired else None,
        labels=tuple(label for _, _, label in rows),  # type: ignore[arg-type]
        ids=tuple(str(number) for number in range(size)),
        source=f"generated: {probe.task.name} version {probe.task.version}, {split}, seed {seed}",
    )
