"""A task model as a plain Hugging Face checkpoint, for whoever has no supermask."""

from __future__ import annotations

from pathlib import Path

from supermask.deltas import TaskDelta
from supermask.interop.export_folder import new_folder, task_config
from supermask.models import Base
from supermask.models.loading import quiet_transformers

__all__ = ["save_checkpoint"]


def save_checkpoint(base: Base, delta: TaskDelta, folder: str | Path) -> Path:
    """Merge a delta into its base and save the result with the tokenizer, in a folder that `from_pretrained` loads.

    The folder appears whole or not at all, and the base comes back as it was. The configuration gets the task's class
    names.

    Args:
        base: the delta's base, with a head of the task's size.
        delta: what the task has changed.
        folder: a place where nothing is yet; it is returned.

    Raises:
        OutputError: if the place is taken, cannot be written to, or has too little space.
        BaseMismatchError: if the base is another one than the delta's.
    """
    needed = sum(parameter.numel() * parameter.element_size() for parameter in base.model.parameters())
    with (
        new_folder(folder, needed_nbytes=needed) as partial,
        task_config(base, delta),
        quiet_transformers(),
        delta.applied(base.model),
    ):
        base.model.save_pretrained(partial)
        base.tokenizer.save_pretrained(partial)
    return Path(folder)
