"""The folder that every export writes: it appears whole or not at all, and names the task's classes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from torch import nn

from supermask.deltas import TaskDelta
from supermask.errors import OutputError
from supermask.models import Base

__all__ = ["check_new_folder", "new_folder", "task_config"]

_TASK_SETTINGS = ("id2label", "label2id", "architectures", "dtype", "pad_token_id")


def check_new_folder(folder: str | Path) -> None:
    """Refuse a place where a file, or a folder with something in it, is."""
    place = Path(folder)
    if place.is_dir() and not any(place.iterdir()):
        return
    if place.exists() or place.is_symlink():
        what = "is a folder that is not empty" if place.is_dir() else "exists and is no folder"
        raise OutputError(f"{place}: {what}; name a new folder")


@contextmanager
def new_folder(folder: str | Path, *, needed_nbytes: int) -> Iterator[Path]:
    """Write files beside a place, and move them there together when the block ends well.

    If the block fails or is interrupted, nothing is left, missing parent folders apart.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     with new_folder(Path(root) / "model", needed_nbytes=3) as partial:
        ...         _ = (partial / "note").write_text("new")
        ...     (Path(root) / "model" / "note").read_text()
        'new'
    """
    place = Path(folder)
    check_new_folder(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _check_space(place, needed_nbytes)
        with tempfile.TemporaryDirectory(prefix=f".{place.name}.", suffix=".part", dir=place.parent) as scratch:
            partial = Path(scratch) / place.name
            partial.mkdir()  # its permissions are those of any new folder, unlike the scratch folder's
            yield partial
            _flush(partial)
            if place.is_dir():
                place.rmdir()  # empty, and not every system renames over an empty folder
            partial.replace(place)
    except OutputError:
        raise
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{place}: cannot be written: {getattr(error, 'strerror', None) or error}; free some space, or choose "
            "another place that you may write to"
        ) from error


@contextmanager
def task_config(base: Base, delta: TaskDelta) -> Iterator[None]:
    """Let the base's configuration speak of the task model for the time of a block.

    It gets the model's class, the classes' names, and what the model was built with where that was changed since, so
    that the same model is built from it.
    """
    config = base.model.config
    before = {name: getattr(config, name) for name in _TASK_SETTINGS if hasattr(config, name)}
    names = delta.task.label_names
    try:
        if len(names) == config.num_labels and len(names) > 1:
            config.id2label = {index: str(name) for index, name in enumerate(names)}
            config.label2id = {str(name): index for index, name in enumerate(names)}
        config.architectures = [type(base.model).__name__]
        config.dtype = base.model.dtype
        built_with = _padding_of_positions(base.model)
        if built_with is not None:
            config.pad_token_id = built_with
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


def _padding_of_positions(model: nn.Module) -> int | None:
    """The padding id that a model counts positions by, where it does so, as RoBERTa.

    It is fixed when the model is built, while its configuration follows the tokenizer. An embedding's own padding id is
    another thing: it has a say in training alone.
    """
    for module in model.modules():
        found = getattr(module, "padding_idx", None)
        if isinstance(found, int) and not isinstance(module, nn.Embedding):
            return found
    return None


def _check_space(place: Path, needed_nbytes: int) -> None:
    free = shutil.disk_usage(place.parent).free
    if free < needed_nbytes:
        raise OutputError(
            f"{place}: {free / 2**20:.0f} MiB are free and about {needed_nbytes / 2**20:.0f} MiB are needed; "
            "free some space, or choose another disk"
        )


def _flush(folder: Path) -> None:
    """Have every file on the disk before the folder takes its place, so that a power cut leaves no empty ones."""
    for path in folder.iterdir():
        if path.is_file():
            with path.open("r+b") as file:
                os.fsync(file.fileno())
