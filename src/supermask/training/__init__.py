"""Base + method + task -> delta, on `transformers.Trainer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supermask.settings import TrainingConfig
from supermask.training.batches import optimizer_steps
from supermask.training.record import RunRecord
from supermask.training.train import Run, train

if TYPE_CHECKING:
    from supermask.training.trainer import MethodCallback

__all__ = ["MethodCallback", "Run", "RunRecord", "TrainingConfig", "optimizer_steps", "train"]


def __getattr__(name: str) -> Any:
    # The callback's parent class is transformers', which takes seconds to import and is not needed for records.
    if name == "MethodCallback":
        from supermask.training.trainer import MethodCallback

        return MethodCallback
    raise AttributeError(f"module 'supermask.training' has no attribute {name!r}")
