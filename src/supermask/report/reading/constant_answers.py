"""What a model scores that gives the same answer to every example: below that nothing was learnt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from supermask.report.reading.finding import CLOSE_POINTS, names

__all__ = ["CONSTANT_ANSWER_PERCENT", "has_room", "without_room"]

CONSTANT_ANSWER_PERCENT: Final[Mapping[str, float]] = {
    "mnli": 35.4,  # entailment, of dev_matched
    "qqp": 53.8,  # F1 of answering 1 to all
    "qnli": 50.5,
    "sst2": 50.9,
    "cola": 0.0,
    "stsb": 0.0,
    "mrpc": 81.2,  # F1 of answering 1 to all
    "rte": 52.7,
}
"""Primary metric, in percent, of the best constant answer on the official development files."""


def has_room(task: str, baseline_percent: float) -> bool:
    """Whether a baseline lies so far above the best constant answer that a constrained model had something to lose.

    Args:
        task: name of the task; of one that is not known here, nothing is held against it.
        baseline_percent: its score.

    Example:
        >>> has_room("mrpc", 90.7), has_room("mrpc", 84.4)
        (True, False)
    """
    return baseline_percent - CONSTANT_ANSWER_PERCENT.get(task, 0.0) > CLOSE_POINTS


def without_room(tasks: Iterable[str]) -> str:
    """That some tasks are not counted, in a sentence with a space before it; nothing if there are none."""
    told = {task: f"{CONSTANT_ANSWER_PERCENT.get(task, 0.0):.1f}" for task in tasks}
    if not told:
        return ""
    within = f"Not counted, as the baseline itself is within {CLOSE_POINTS} points of a constant answer"
    return f" {within}: {names(told, told)}."
