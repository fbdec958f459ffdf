"""Base + method + task -> delta, on `transformers.Trainer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supermask.training.config import TrainingConfig, optimizer_steps
from supermask.training.evaluation import Evaluation, Predictions, evaluate, predict
from supermask.training.record import RunRecord
from supermask.training.train import Run, train

if TYPE_CHECKING:
    from supermask.training.callback import MethodCallback

__all__ = [
    "Evaluation",
    "MethodCallback",
    "Predictions",
    "Run",
    "RunRecord",
    "TrainingConfig",
    "evaluate",
    "optimizer_steps",
    "predict",
    "train",
]


def __getattr__(name: str) -> Any:
    # The callback's parent class is transformers', which takes seconds to import and is not needed to predict.
    if name == "MethodCallback":
        from supermask.training.callback import MethodCallback

        return MethodCallback
    raise AttributeError(f"module 'supermask.training' has no attribute {name!r}")
