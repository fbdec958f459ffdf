"""The eight GLUE tasks, from a folder in the official layout or from the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from supermask.errors import UnknownNameError
from supermask.tasks.glue.folder import folded, glue_folder, read_glue_split
from supermask.tasks.glue.hub import examples_from_hub, fetch_hub_splits
from supermask.tasks.glue.rows import GLUE_ROWS, HUB_DATASET, HUB_REVISION, GlueRow
from supermask.tasks.task import Examples, Task, TaskData

__all__ = ["GLUE_ROWS", "GLUE_TASKS", "HUB_DATASET", "HUB_REVISION", "GlueRow", "glue_row", "load_glue"]

GLUE_TASKS: Final[tuple[Task, ...]] = tuple(row.task for row in GLUE_ROWS)


def glue_row(name: str) -> GlueRow:
    """The row of the GLUE task of this name; case, hyphens and underscores do not count.

    Example:
        >>> glue_row("STS-B").task.name
        'stsb'
    """
    for row in GLUE_ROWS:
        if row.task.name == folded(name):
            return row
    raise UnknownNameError(f"{name!r} is no GLUE task; these are: {', '.join(row.task.name for row in GLUE_ROWS)}")


def load_glue(task: str | Task, data_dir: str | Path | None = None, *, splits: Sequence[str] | None = None) -> TaskData:
    """Load a GLUE task from its official TSV files, or from the hub's data set where no folder is given.

    Args:
        task: the task or its name.
        data_dir: the GLUE folder or the task's own; None for the hub (extra `hub`; its cache works offline).
        splits: the splits to load, each of which must be there. None loads train and the report splits, and the test
            splits where they exist.

    Returns:
        The task with its examples. `TaskData.notes` says what is not official about them.

    Raises:
        UnknownNameError: no such task or split.
        DataError: data are missing or malformed; the message names file and line.
        MissingDependencyError: the hub is asked for and `datasets` is not installed.
    """
    row = glue_row(task if isinstance(task, str) else task.name)
    unknown = [split for split in splits or () if split not in row.task.splits]
    if unknown:
        raise UnknownNameError(
            f"the task {row.task.name!r} has no split {', '.join(map(repr, unknown))}; "
            f"splits are: {', '.join(row.task.splits)}"
        )
    if data_dir is None:
        return TaskData(row.task, _from_hub(row, splits))
    folder = glue_folder(row, data_dir)
    if splits is None:
        splits = [
            split
            for split in row.task.splits
            if split not in row.task.test_splits or (folder / row.files[split]).is_file()
        ]
    return TaskData(row.task, {split: read_glue_split(row, folder, split) for split in splits})


def _from_hub(row: GlueRow, splits: Sequence[str] | None) -> dict[str, Examples]:
    fetched: Mapping[str, Any] = fetch_hub_splits(row)
    return {split: examples_from_hub(row, fetched, split) for split in splits or row.task.splits}
