"""What the labels of a task are, by its kind; what a model makes of them is said by `supermask.prediction.kinds`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from supermask.tasks.task import Task

__all__ = ["LABEL_KINDS", "ClassLabels", "LabelKind", "NumberLabels"]


class LabelKind(ABC):
    """The labels of one kind of task: which there are, how they are written, and what measures them.

    A new kind of task is a final child here, another of `supermask.prediction.kinds.Kind`, and a line in each registry.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]

    @abstractmethod
    def faults(self, task: Task) -> Iterator[str]:
        """What in a task's definition contradicts its kind."""

    @abstractmethod
    def default_metrics(self, classes: int) -> tuple[str, ...]:
        """The metrics of a task that names none, the primary one first."""

    @abstractmethod
    def in_words(self, task: Task) -> str:
        """What is learnt, for a table: `3 classes`."""

    @abstractmethod
    def law(self, task: Task) -> str:
        """What every label is, for an error: `a class index from 0 to 2`."""

    @abstractmethod
    def allows(self, task: Task, label: object) -> bool:
        """Whether a value can be the label of an example."""

    @abstractmethod
    def scoring_fault(self, task: Task, what: str, values: NDArray[Any]) -> str | None:
        """Why `what`, predictions or labels, cannot be scored; None if they can."""

    @abstractmethod
    def submission_text(self, task: Task, value: int | float) -> str | None:
        """A prediction as the benchmark wants it written; None if it is none."""


@final
class ClassLabels(LabelKind):
    """One of several classes, by its index."""

    name = "classification"
    metrics = ("accuracy", "f1", "macro_f1", "matthews")

    def faults(self, task: Task) -> Iterator[str]:
        """A class alone, a class twice, or settings of another kind."""
        if len(task.label_names) < 2:
            yield f"a classification task needs at least 2 labels, received {list(task.label_names)}"
        if len(set(task.label_names)) != len(task.label_names):
            yield f"a label is named twice: {list(task.label_names)}"
        if "f1" in task.metrics and len(task.label_names) > 2:
            yield f"f1 is of 2 labels and the task has {len(task.label_names)}; use macro_f1"
        if task.score_range is not None:
            yield "only a regression task has a score_range"

    def default_metrics(self, classes: int) -> tuple[str, ...]:
        """Accuracy, and F1 of class 1 for two classes or macro F1 for more."""
        return ("accuracy", "f1" if classes == 2 else "macro_f1")

    def in_words(self, task: Task) -> str:
        """How many classes."""
        return f"{len(task.label_names)} classes"

    def law(self, task: Task) -> str:
        """From 0 to one less than there are classes."""
        return f"a class index from 0 to {len(task.label_names) - 1}"

    def allows(self, task: Task, label: object) -> bool:
        """A whole number, and no boolean."""
        return type(label) is int and 0 <= label < len(task.label_names)

    def scoring_fault(self, task: Task, what: str, values: NDArray[Any]) -> str | None:
        """Integers within the range can be scored."""
        highest = len(task.label_names) - 1
        if np.issubdtype(values.dtype, np.integer) and values.min() >= 0 and values.max() <= highest:
            return None
        received = f"{values.dtype} from {values.min()} to {values.max()}"
        return f"{what} must be class indices from 0 to {highest}, received {received}"

    def submission_text(self, task: Task, value: int | float) -> str | None:
        """The class's text in the benchmark, or its name."""
        if int(value) != value or not 0 <= value < len(task.label_names):
            return None
        return (task.submission_labels or task.label_names)[int(value)]


@final
class NumberLabels(LabelKind):
    """A number, within a range if the task has one."""

    name = "regression"
    metrics = ("spearman", "pearson")

    def faults(self, task: Task) -> Iterator[str]:
        """Names of classes, or a range that holds nothing."""
        if task.label_names:
            yield f"a regression task has no label names, received {list(task.label_names)}"
        if task.score_range is not None and not task.score_range[0] < task.score_range[1]:
            yield f"score_range {task.score_range} is empty"

    def default_metrics(self, classes: int) -> tuple[str, ...]:
        """Both correlations."""
        return self.metrics

    def in_words(self, task: Task) -> str:
        """A number."""
        return "a number"

    def law(self, task: Task) -> str:
        """Within the range."""
        return "a number from {:g} to {:g}".format(*_range(task))

    def allows(self, task: Task, label: object) -> bool:
        """A finite float within the range."""
        low, high = _range(task)
        return type(label) is float and low <= label <= high and math.isfinite(label)

    def scoring_fault(self, task: Task, what: str, values: NDArray[Any]) -> str | None:
        """All must be finite."""
        bad = int(np.count_nonzero(~np.isfinite(values.astype(np.float64))))
        return f"{bad} of {values.size} {what} are not finite; did training diverge?" if bad else None

    def submission_text(self, task: Task, value: int | float) -> str | None:
        """Clipped to the range, with three decimals."""
        low, high = _range(task)
        return f"{min(max(float(value), low), high):.3f}" if math.isfinite(value) else None


LABEL_KINDS: Final[Mapping[str, LabelKind]] = {kind.name: kind for kind in (ClassLabels(), NumberLabels())}


def _range(task: Task) -> tuple[float, float]:
    return task.score_range or (-math.inf, math.inf)
