"""`probe-similarity`: how much of its meaning does a sentence keep when every content word has been replaced?

    The old wizard chased the cheap car.  |  The aged sorcerer followed the inexpensive automobile.    5.0
    The old wizard chased the cheap car.  |  The happy sorcerer washed the inexpensive blanket.        2.0

Both sentences have the same frame and five content words each, all different; the score is the number of the five that
were replaced by a synonym rather than by another word of the same kind. Each score from 0 to 5 is equally frequent, and
which of the five places keep their meaning is random. Overlap and length are the same for all scores, and the words of
dev do not occur in train. Chance is a correlation of 0.
"""

from __future__ import annotations

from typing import Final

from supermask.tasks.probes.grammar import BySplit, Dice, Probe, Row, Split, flatten, sentence
from supermask.tasks.probes.synonyms import AGENT_TRAITS, AGENTS, OBJECT_TRAITS, OBJECTS, VERBS, substitution
from supermask.tasks.task import Task

__all__ = ["SIMILARITY"]

_SLOTS: Final = (AGENT_TRAITS, AGENTS, VERBS, OBJECT_TRAITS, OBJECTS)

# No `a`: whether it turns into `an` would betray something about the replaced words.
_FRAMES: Final = (
    "the {} {} {} the {} {}",
    "the {} {} {} your {} {}",
    "my {} {} {} the {} {}",
    "this {} {} {} that {} {}",
)


def _draw_round(dice: Dice, split: Split) -> tuple[Row, ...]:
    frame = dice.pick(_FRAMES)
    rows = []
    for kept in range(len(_SLOTS) + 1):
        same = dice.sample(range(len(_SLOTS)), kept)
        pairs = [substitution(dice, slot[split], synonyms=position in same) for position, slot in enumerate(_SLOTS)]
        first, second = (sentence(frame.format(*chosen)) for chosen in zip(*pairs, strict=True))
        rows.append((first, second, float(kept)))
    return tuple(rows)


SIMILARITY: Final = Probe(
    task=Task(
        name="probe-similarity",
        title="Probe: graded similarity by synonyms",
        kind="regression",
        label_names=(),
        metrics=("spearman", "pearson"),
        paired=True,
        score_range=(0.0, float(len(_SLOTS))),
    ),
    draw_round=_draw_round,
    rows_per_round=len(_SLOTS) + 1,
    content_words=BySplit(
        train=frozenset(word for slot in _SLOTS for word in flatten(slot.train)),
        dev=frozenset(word for slot in _SLOTS for word in flatten(slot.dev)),
    ),
)
