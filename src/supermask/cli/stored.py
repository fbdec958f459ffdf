"""The delta that a verb was given, and the task that it was learnt on."""

from __future__ import annotations

from pathlib import Path

from supermask.deltas import DeltaDocument, TaskDelta
from supermask.errors import ConfigurationError, UnknownNameError
from supermask.hub import resolve_delta
from supermask.prediction import stored_task
from supermask.tasks import Task, find_task

__all__ = ["delta_path", "known_task", "load_delta", "task_of_columns"]


def delta_path(given: str) -> Path:
    """The delta's own folder or file, where the folder of a run or a place on the hub may be given instead."""
    folder = Path(given)
    inside = folder / "delta"
    if inside.is_dir() and not (folder / "delta.safetensors").exists():
        return inside
    return resolve_delta(given)


def load_delta(given: str) -> TaskDelta:
    """The delta that an argument names."""
    return TaskDelta.load(delta_path(given))


def known_task(document: DeltaDocument, name: str | None) -> Task:
    """The task of a name, or the one that the delta was learnt on if that is known by name."""
    learnt = name if name is not None else stored_task(document).name
    try:
        return find_task(learnt)
    except UnknownNameError:
        if name is not None:
            raise
        raise UnknownNameError(
            f"the delta was learnt on {learnt!r}, which is no task known by name; give the examples with --file FILE "
            "--text COLUMN"
        ) from None


def task_of_columns(document: DeltaDocument, text_pair: str | None) -> Task:
    """The delta's own task, whose texts are pairs or not as the columns given say."""
    task = stored_task(document)
    if task.paired and text_pair is None:
        raise ConfigurationError(
            f"the delta's task {task.name!r} is of pairs; name the column of the second text with --text-pair"
        )
    if text_pair is not None and not task.paired:
        raise ConfigurationError(f"the delta's task {task.name!r} is of single texts; leave --text-pair out")
    return task
