"""`probe-paraphrase`: do two sentences say the same, when every content word has been replaced?

    The doctor carried the parcel.  |  The physician hauled the package.    equivalent
    The doctor carried the parcel.  |  The physician hauled the mirror.     not equivalent

In both classes the second sentence has the frame of the first and none of its content words. In an equivalent pair
agent, verb and object are all replaced by synonyms; in the other, one to three of them are replaced by a word of the
same kind that means something else, so a single wrong word decides. Overlap, length, position and function words are
the same for both classes, and the words of dev do not occur in train. Chance is an accuracy of 0.5; answering
"equivalent" throughout has an F1 of 0.667.
"""

from __future__ import annotations

from typing import Final

from supermask.tasks.probes.grammar import BySplit, Dice, Probe, Row, Split, flatten, sentence
from supermask.tasks.probes.synonyms import AGENTS, OBJECTS, VERBS, substitution
from supermask.tasks.task import Task

__all__ = ["PARAPHRASE"]

_SLOTS: Final = (AGENTS, VERBS, OBJECTS)

# No `a`: whether it turns into `an` would betray something about the replaced words.
_FRAMES: Final = (
    "the {} {} the {}",
    "the {} {} the {} again",
    "the {} {} your {} too",
    "then the {} {} the {}",
    "once this {} {} that {}",
    "my {} {} your {}",
    "every {} {} some {}",
    "our {} never {} the {}",
)


def _draw_round(dice: Dice, split: Split) -> tuple[Row, ...]:
    frame = dice.pick(_FRAMES)
    rows = []
    for label in (0, 1):
        count_wrong = 0 if label else 1 + dice.below(len(_SLOTS))
        wrong = dice.sample(range(len(_SLOTS)), count_wrong)
        pairs = [
            substitution(dice, slot[split], synonyms=position not in wrong) for position, slot in enumerate(_SLOTS)
        ]
        first, second = (sentence(frame.format(*chosen)) for chosen in zip(*pairs, strict=True))
        rows.append((first, second, label))
    return tuple(rows)


PARAPHRASE: Final = Probe(
    task=Task(
        name="probe-paraphrase",
        title="Probe: paraphrase by synonyms",
        kind="classification",
        label_names=("not_equivalent", "equivalent"),
        metrics=("f1", "accuracy"),
        paired=True,
    ),
    draw_round=_draw_round,
    rows_per_round=2,
    content_words=BySplit(
        train=frozenset(word for slot in _SLOTS for word in flatten(slot.train)),
        dev=frozenset(word for slot in _SLOTS for word in flatten(slot.dev)),
    ),
)
