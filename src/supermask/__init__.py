"""Teach a pretrained language model a task by switching weights off; ship the task as a small, exact file.

    model = AutoModelForSequenceClassification.from_pretrained("bert-base-uncased")
    run = supermask.train(model, task="mrpc", method=supermask.Supermask())
    run.delta.save("mrpc-delta")
    supermask.TaskDelta.load("mrpc-delta").apply_(model)

Everything here is imported when it is first used: `import supermask` itself loads neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supermask.deltas import DeltaStore, TaskDelta
    from supermask.errors import SupermaskError
    from supermask.hub import from_pretrained, push_to_hub, save_pretrained
    from supermask.methods import Attachment, Freezing, Method, Pruning, Supermask, make_optimizer
    from supermask.models import Base, known_bases, load_base, map_parameters
    from supermask.prediction import Predictor, evaluate, predict, set_up
    from supermask.tasks import Examples, Task, TaskData, known_tasks, load_files, load_task
    from supermask.training import MethodCallback, Run, RunRecord, TrainingConfig, train

__all__ = [
    "Attachment",
    "Base",
    "DeltaStore",
    "Examples",
    "Freezing",
    "Method",
    "MethodCallback",
    "Predictor",
    "Pruning",
    "Run",
    "RunRecord",
    "Supermask",
    "SupermaskError",
    "Task",
    "TaskData",
    "TaskDelta",
    "TrainingConfig",
    "evaluate",
    "from_pretrained",
    "known_bases",
    "known_tasks",
    "load_base",
    "load_files",
    "load_task",
    "make_optimizer",
    "map_parameters",
    "predict",
    "push_to_hub",
    "save_pretrained",
    "set_up",
    "train",
]

__version__ = "0.1.0"

_HOMES = {
    "deltas": ("DeltaStore", "TaskDelta"),
    "errors": ("SupermaskError",),
    "hub": ("from_pretrained", "push_to_hub", "save_pretrained"),
    "methods": ("Attachment", "Freezing", "Method", "Pruning", "Supermask", "make_optimizer"),
    "models": ("Base", "known_bases", "load_base", "map_parameters"),
    "prediction": ("Predictor", "evaluate", "predict", "set_up"),
    "tasks": ("Examples", "Task", "TaskData", "known_tasks", "load_files", "load_task"),
    "training": ("MethodCallback", "Run", "RunRecord", "TrainingConfig", "train"),
}
_HOME_OF = {name: room for room, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'supermask' has no attribute {name!r}")
    return getattr(importlib.import_module(f"supermask.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
