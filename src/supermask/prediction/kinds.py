"""What a task asks of a model, by its kind; what its labels are is said by `supermask.tasks.kinds`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, final

from torch import Tensor

from supermask.tasks import Task

__all__ = ["KINDS", "Classification", "Kind", "Regression", "kind_of"]


class Kind(ABC):
    """One kind of task, as a model sees it: which head it needs, what goes in as labels, what its outputs say.

    No other place asks which kind a task is of. `task` is always a task of the kind, and `logits` are the outputs of
    its head, float32 of shape (examples, outputs).
    """

    name: ClassVar[str]

    @abstractmethod
    def head(self, task: Task) -> dict[str, Any]:
        """What `load_base` must be told for the head to fit."""

    @abstractmethod
    def encode_labels(self, labels: Sequence[float]) -> list[int] | list[float]:
        """Labels as the model's loss wants them: whole numbers become int64, others float32."""

    @abstractmethod
    def decode(self, logits: Tensor) -> list[int] | list[float]:
        """What the outputs say, as `supermask.tasks.score` wants it."""

    @abstractmethod
    def words(self, task: Task, values: Sequence[float]) -> list[str]:
        """Decoded outputs as a person reads them."""

    @abstractmethod
    def answers(self, task: Task, logits: Tensor) -> list[dict[str, Any]]:
        """What the outputs say, example by example, as it goes into a JSON document; always with a `prediction`."""

    @abstractmethod
    def constant_answer(self, task: Task, labels: Sequence[float]) -> list[float]:
        """The outputs that fit the labels best where the input does not count: the bias that a head starts at."""


@final
class Classification(Kind):
    """One of several classes: an output each, and the largest is the answer."""

    name = "classification"

    def head(self, task: Task) -> dict[str, Any]:
        """As many outputs as classes."""
        return {"num_labels": len(task.label_names), "regression": False}

    def encode_labels(self, labels: Sequence[float]) -> list[int]:
        """Indices, for cross-entropy."""
        return [int(label) for label in labels]

    def decode(self, logits: Tensor) -> list[int]:
        """The index of the largest output."""
        classes: list[int] = logits.argmax(dim=1).tolist()
        return classes

    def words(self, task: Task, values: Sequence[float]) -> list[str]:
        """The classes' names."""
        return [task.label_names[int(value)] for value in values]

    def answers(self, task: Task, logits: Tensor) -> list[dict[str, Any]]:
        """The class, and the probability of every class to six digits."""
        shares = logits.double().softmax(dim=1).tolist()
        return [
            {
                "prediction": name,
                "probabilities": {label: round(share, 6) for label, share in zip(task.label_names, row, strict=True)},
            }
            for name, row in zip(self.words(task, self.decode(logits)), shares, strict=True)
        ]

    def constant_answer(self, task: Task, labels: Sequence[float]) -> list[float]:
        """Log frequencies; a class that never occurs is counted half a time.

        Example:
            >>> from supermask.tasks import Task
            >>> task = Task(name="mood", kind="classification", label_names=("bad", "good"), metrics=("accuracy",))
            >>> kind_of(task).constant_answer(task, [1, 1, 0, 1])
            [-1.386..., -0.287...]
        """
        counts = Counter(labels)
        return [math.log(max(counts[index], 0.5) / len(labels)) for index in range(len(task.label_names))]


@final
class Regression(Kind):
    """A number: the one output."""

    name = "regression"

    def head(self, task: Task) -> dict[str, Any]:
        """One output."""
        return {"num_labels": 1, "regression": True}

    def encode_labels(self, labels: Sequence[float]) -> list[float]:
        """Numbers, for squared error."""
        return [float(label) for label in labels]

    def decode(self, logits: Tensor) -> list[float]:
        """The output itself."""
        numbers: list[float] = logits[:, 0].tolist()
        return numbers

    def words(self, task: Task, values: Sequence[float]) -> list[str]:
        """Six digits."""
        return [f"{value:.6f}" for value in values]

    def answers(self, task: Task, logits: Tensor) -> list[dict[str, Any]]:
        """The number."""
        return [{"prediction": value} for value in self.decode(logits)]

    def constant_answer(self, task: Task, labels: Sequence[float]) -> list[float]:
        """The mean."""
        return [sum(labels) / len(labels)]


KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in (Classification(), Regression())}


def kind_of(task: Task) -> Kind:
    """The kind of a task."""
    return KINDS[task.kind]
