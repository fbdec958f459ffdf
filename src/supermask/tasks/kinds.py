"""What the labels of a task are, by its kind; what a model makes of them is said by `supermask.prediction.kinds`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["LABEL_KINDS", "ClassLabels", "Labels", "NumberLabels"]


@dataclass(frozen=True, kw_only=True)
class Labels(ABC):
    """The labels of a task of one kind: which there are, how they are written, and what measures them.

    A new kind of task is a final child here, another of `supermask.prediction.kinds.Kind`, and a line in each registry.

    Args:
        names: of classes, in the order of the model's outputs.
        score_range: smallest and largest number.
        texts: of the classes in a submission; their names by default.
    """

    kind: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]

    names: tuple[str, ...]
    score_range: tuple[float, float] | None = None
    texts: tuple[str, ...] = ()

    @abstractmethod
    def faults(self, metrics: tuple[str, ...]) -> Iterator[str]:
        """What in a task's definition contradicts its kind."""

    @property
    @abstractmethod
    def default_metrics(self) -> tuple[str, ...]:
        """The metrics of a task that names none, the primary one first."""

    @property
    @abstractmethod
    def in_words(self) -> str:
        """What is learnt, for a table: `3 classes`."""

    @property
    @abstractmethod
    def law(self) -> str:
        """What every label is, for an error: `a class index from 0 to 2`."""

    @abstractmethod
    def allows(self, label: object) -> bool:
        """Whether a value can be the label of an example."""

    @abstractmethod
    def scoring_fault(self, what: str, values: NDArray[Any]) -> str | None:
        """Why `what`, predictions or labels, cannot be scored; None if they can."""

    @abstractmethod
    def submission_text(self, value: int | float) -> str | None:
        """A prediction as the benchmark wants it written; None if it is none."""


@final
@dataclass(frozen=True, kw_only=True)
class ClassLabels(Labels):
    """One of several classes, by its index."""

    kind = "classification"
    metrics = ("accuracy", "f1", "macro_f1", "matthews")

    def faults(self, metrics: tuple[str, ...]) -> Iterator[str]:
        """A class alone, a class twice, or settings of another kind."""
        if len(self.names) < 2:
            yield f"a classification task needs at least 2 labels, received {list(self.names)}"
        if len(set(self.names)) != len(self.names):
            yield f"a label is named twice: {list(self.names)}"
        if "f1" in metrics and len(self.names) > 2:
            yield f"f1 is of 2 labels and the task has {len(self.names)}; use macro_f1"
        if self.score_range is not None:
            yield "only a regression task has a score_range"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Accuracy, and F1 of class 1 for two classes or macro F1 for more."""
        return ("accuracy", "f1" if len(self.names) == 2 else "macro_f1")

    @property
    def in_words(self) -> str:
        """How many classes."""
        return f"{len(self.names)} classes"

    @property
    def law(self) -> str:
        """From 0 to one less than there are classes."""
        return f"a class index from 0 to {len(self.names) - 1}"

    def allows(self, label: object) -> bool:
        """A whole number, and no boolean."""
        return type(label) is int and 0 <= label < len(self.names)

    def scoring_fault(self, what: str, values: NDArray[Any]) -> str | None:
        """Integers within the range can be scored."""
        if np.issubdtype(values.dtype, np.integer) and values.min() >= 0 and values.max() < len(self.names):
            return None
        received = f"{values.dtype} from {values.min()} to {values.max()}"
        return f"{what} must be class indices from 0 to {len(self.names) - 1}, received {received}"

    def submission_text(self, value: int | float) -> str | None:
        """The class's text in the benchmark."""
        if int(value) != value or not 0 <= value < len(self.names):
            return None
        return (self.texts or self.names)[int(value)]


@final
@dataclass(frozen=True, kw_only=True)
class NumberLabels(Labels):
    """A number, within a range if the task has one."""

    kind = "regression"
    metrics = ("spearman", "pearson")

    def faults(self, metrics: tuple[str, ...]) -> Iterator[str]:
        """Names of classes, or a range that holds nothing."""
        if self.names:
            yield f"a regression task has no label names, received {list(self.names)}"
        if self.score_range is not None and not self.score_range[0] < self.score_range[1]:
            yield f"score_range {self.score_range} is empty"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Both correlations."""
        return self.metrics

    @property
    def in_words(self) -> str:
        """A number."""
        return "a number"

    @property
    def law(self) -> str:
        """Within the range."""
        return "a number from {:g} to {:g}".format(*self._range)

    def allows(self, label: object) -> bool:
        """A finite float within the range."""
        low, high = self._range
        return type(label) is float and low <= label <= high and math.isfinite(label)

    def scoring_fault(self, what: str, values: NDArray[Any]) -> str | None:
        """All must be finite."""
        bad = int(np.count_nonzero(~np.isfinite(values.astype(np.float64))))
        return f"{bad} of {values.size} {what} are not finite; did training diverge?" if bad else None

    def submission_text(self, value: int | float) -> str | None:
        """Clipped to the range, with three decimals."""
        low, high = self._range
        return f"{min(max(float(value), low), high):.3f}" if math.isfinite(value) else None

    @property
    def _range(self) -> tuple[float, float]:
        return self.score_range or (-math.inf, math.inf)


LABEL_KINDS: Final[Mapping[str, type[Labels]]] = {labels.kind: labels for labels in (ClassLabels, NumberLabels)}
