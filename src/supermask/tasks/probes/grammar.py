"""What all probes share: seeded choices, vocabularies in two halves, and the loop that draws a split."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar, final

from supermask.errors import ConfigurationError
from supermask.tasks.examples import Examples
from supermask.tasks.task import Task

__all__ = [
    "BySplit",
    "Dice",
    "Fields",
    "Probe",
    "Row",
    "Split",
    "draw_examples",
    "fields",
    "flatten",
    "sentence",
    "words",
]

T = TypeVar("T")
Split = Literal["train", "dev"]
Row = tuple[str, "str | None", "int | float"]
Fields = tuple[tuple[str, ...], ...]

# A round that repeats an earlier row is thrown away; so many in succession mean that hardly any new row is left.
_FRUITLESS_ROUNDS: Final = 500


@final
@dataclass(frozen=True)
class BySplit(Generic[T]):
    """One value for each split: what the words of a split are is decided here and nowhere else.

    Example:
        >>> BySplit(train="sun", dev="moon")["dev"]
        'moon'
    """

    train: T
    dev: T

    def __getitem__(self, split: Split) -> T:
        return self.train if split == "train" else self.dev


@final
class Dice:
    """Seeded choices that fall the same on every machine and every version of Python.

    Of the module `random`, Python promises a lasting sequence for `Random.random()` under an integer seed and for
    nothing else, so every choice is made from that alone; the seed is SHA-256 over the key.

    Args:
        key: what the sequence belongs to; another key gives an unrelated sequence.

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
        """So many of `choices`, no position twice, in random order."""
        left = list(choices)
        return tuple(left.pop(self.below(len(left))) for _ in range(count))


@final
@dataclass(frozen=True)
class Probe:
    """A task together with the grammar that writes its rows.

    Args:
        task: what there is to learn.
        draw_round: one row for each label, in any order, with the vocabulary of a split. Whatever is not a content word
            (the frame of the sentence, its function words) is the same for all rows of a round, so it tells no label.
        rows_per_round: number of rows of a round.
        content_words: the nouns, verbs and adjectives that the rows of a split are made of.
    """

    task: Task
    draw_round: Callable[[Dice, Split], Sequence[Row]]
    rows_per_round: int
    content_words: BySplit[frozenset[str]]


def words(text: str) -> tuple[str, ...]:
    """The words of a text.

    Example:
        >>> words("sun moon")
        ('sun', 'moon')
    """
    return tuple(text.split())


def fields(text: str) -> Fields:
    """Groups of words that belong together, a bar between two groups.

    Example:
        >>> fields("big large | old aged")
        (('big', 'large'), ('old', 'aged'))
    """
    return tuple(words(group) for group in text.split("|"))


def flatten(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """The words of all groups in order.

    Example:
        >>> flatten(fields("big large | old aged"))
        ('big', 'large', 'old', 'aged')
    """
    return tuple(word for group in groups for word in group)


def sentence(*parts: str) -> str:
    """The parts as one sentence: single spaces, commas closed up, a capital in front, a full stop behind.

    Example:
        >>> sentence("this was good", "", ", not bad")
        'This was good, not bad.'
    """
    joined = " ".join(" ".join(parts).split()).replace(" ,", ",")
    return f"{joined[0].upper()}{joined[1:]}."


def draw_examples(probe: Probe, split: Split, *, size: int, seed: int) -> Examples:
    """Draw the rows of one split.

    Rows come in rounds that hold every label once in random order, so the labels are balanced to within one row and a
    smaller split is the beginning of a larger one. A round that repeats an earlier row is drawn again as a whole.

    A grammar with fewer different rows than asked for is an error.
    """
    dice = Dice(probe.task.name, probe.task.version, split, seed)
    rows: list[Row] = []
    seen: set[tuple[str, str | None]] = set()
    fruitless = 0
    while len(rows) < size:
        drawn = dice.sample(probe.draw_round(dice, split), probe.rows_per_round)
        texts = {(first, second) for first, second, _ in drawn}
        if len(texts) < len(drawn) or not seen.isdisjoint(texts):
            fruitless += 1
            if fruitless == _FRUITLESS_ROUNDS:
                raise ConfigurationError(
                    f"{probe.task.name}: {size} {split} rows asked for, but its grammar has no new ones after "
                    f"{len(rows)}; ask for fewer"
                )
            continue
        fruitless = 0
        seen |= texts
        rows += drawn
    rows = rows[:size]
    return Examples(
        first=tuple(first for first, _, _ in rows),
        second=tuple(second for _, second, _ in rows if second is not None) if probe.task.paired else None,
        labels=_labels(probe.task, rows),
        ids=tuple(str(number) for number in range(size)),
        source=f"{probe.task.name} version {probe.task.version}, {split}, seed {seed} (generated)",
    )


def _labels(task: Task, rows: Sequence[Row]) -> tuple[int, ...] | tuple[float, ...]:
    if task.label_names:
        return tuple(int(label) for _, _, label in rows)
    return tuple(float(label) for _, _, label in rows)
