"""A task model as a plain Hugging Face checkpoint, for whoever has no supermask."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from safetensors import SafetensorError

from supermask.deltas import TaskDelta
from supermask.errors import OutputError
from supermask.models import Base
from supermask.models.loading import quiet_transformers

__all__ = ["check_new_folder", "save_checkpoint"]


def check_new_folder(folder: str | Path) -> None:
    """Refuse a place that a new folder cannot be made at.

    Raises:
        OutputError: if a file or a folder with something in it is there.
    """
    place = Path(folder)
    if place.is_dir() and not any(place.iterdir()):
        return
    if place.exists() or place.is_symlink():
        what = "is a folder that is not empty" if place.is_dir() else "exists and is no folder"
        raise OutputError(f"{place}: {what}; name a new folder")


def save_checkpoint(base: Base, delta: TaskDelta, folder: str | Path) -> Path:
    """Merge a delta into its base and save the result with the tokenizer, in a folder that `from_pretrained` loads.

    The folder appears whole or not at all, and the base comes back as it was. The configuration gets the task's class
    names.

    Args:
        base: the delta's base, with a head of the task's size.
        delta: what the task has changed.
        folder: a place where nothing is yet.

    Returns:
        The folder.

    Raises:
        OutputError: if the place is taken, cannot be written to, or has too little space.
        BaseMismatchError: if the base is another one than the delta's.
    """
    place = Path(folder)
    check_new_folder(place)
    config = base.model.config
    before = config.id2label, config.label2id
    names = delta.task.get("label_names")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _check_space(base, place)
        with tempfile.TemporaryDirectory(prefix=f".{place.name}.", suffix=".part", dir=place.parent) as scratch:
            partial = Path(scratch) / place.name
            if isinstance(names, list) and len(names) == config.num_labels and len(names) > 1:
                config.id2label = {index: str(name) for index, name in enumerate(names)}
                config.label2id = {str(name): index for index, name in enumerate(names)}
            with quiet_transformers(), delta.applied(base.model):
                base.model.save_pretrained(partial)
                base.tokenizer.save_pretrained(partial)
            if place.is_dir():
                place.rmdir()  # empty, and not every system renames over an empty folder
            partial.replace(place)
    except OutputError:
        raise
    except OSError as error:
        raise _unwritable(place, error.strerror or str(error)) from error
    except SafetensorError as error:
        raise _unwritable(place, str(error)) from error
    finally:
        config.id2label, config.label2id = before
    return place


def _check_space(base: Base, place: Path) -> None:
    needed = sum(parameter.numel() * parameter.element_size() for parameter in base.model.parameters())
    free = shutil.disk_usage(place.parent).free
    if free < needed:
        raise OutputError(
            f"{place}: {free / 2**20:.0f} MiB are free and the checkpoint needs about {needed / 2**20:.0f} MiB; "
            "free some space, or choose another disk"
        )


def _unwritable(place: Path, reason: str) -> OutputError:
    return OutputError(
        f"{place}: cannot be written: {reason}; free some space, or choose another place that you may write to"
    )
