"""What `training/test_distributed.py` does in two processes, and in one: trainings by `supermask.train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import supermask
from supermask import Freezing, Method, Pruning, Supermask, TrainingConfig
from tiny_models import NO_DROPOUT, tiny_model
from tiny_tasks import tiny_data, tiny_run
from two_processes import as_tensors

CONFIG = TrainingConfig(epochs=2, batch_size=4, head_learning_rate=1e-2, learning_rate=1e-2, logging_steps=1)
MASK = Supermask(learning_rate=3.0)

CASES: dict[str, tuple[Method, dict[str, Any]]] = {
    "supermask": (MASK, {}),
    "per-rank": (MASK, {"mask_draws": "per_rank"}),
    "checkpointing": (MASK, {"gradient_checkpointing": True, "gradient_accumulation": 2}),
    "8bit": (MASK, {"mask_optimizer_state": "8bit", "precision": "bf16"}),
    "freezing": (Freezing(exclude="key"), {}),
    "pruning": (Pruning(sparsity=0.4), {}),
}


def train(case: str, folder: Path | None = None, **options: Any) -> supermask.Run:
    """One training: 11 examples, so that the last batch is of 3 and cannot be halved."""
    method, settings = CASES[case]
    model, data = tiny_model("bert", **NO_DROPOUT), tiny_data(train=11, dev=4)
    return tiny_run(
        method, CONFIG.model_copy(update=settings), model=model, data=data, output_dir=folder, draws=2, **options
    )


def act(case: str, folder: Path) -> Any:
    """What one of two processes does, and what it comes to."""
    if case == "refusals":
        return _refusals(folder)
    run = train(case, folder / case)
    assert run.first == (torch.distributed.get_rank() == 0)
    return as_tensors(run.delta), run.record.model_dump(mode="json")


def _refusals(folder: Path) -> dict[str, tuple[str, str]]:
    """Errors by what was tried after `supermask` has been learnt; and when that began, told by resuming it."""
    tries = {
        "taken": lambda: train("supermask", folder / "supermask"),
        "indivisible": lambda: tiny_run(MASK, CONFIG.model_copy(update={"batch_size": 3})),
    }
    errors = {}
    for name, attempt in tries.items():
        try:
            attempt()
        except supermask.SupermaskError as error:
            errors[name] = (type(error).__name__, str(error))
    errors["finished"] = ("", train("supermask", folder / "supermask", resume=True).record.started)
    return errors
