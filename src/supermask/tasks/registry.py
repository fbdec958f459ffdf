"""The tasks there are, by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from supermask.errors import ConfigurationError, UnknownNameError
from supermask.tasks.glue import GLUE_TASKS, load_glue
from supermask.tasks.glue.folder import folded
from supermask.tasks.task import Task, TaskData

__all__ = ["find_task", "known_tasks", "load_task"]


def known_tasks() -> tuple[Task, ...]:
    """All tasks that can be loaded by name: the eight of GLUE, then the probes that need no data.

    Example:
        >>> [task.name for task in known_tasks()][:3]
        ['cola', 'sst2', 'mrpc']
    """
    from supermask.tasks.probes import PROBES

    return (*GLUE_TASKS, *PROBES)


def find_task(name: str) -> Task:
    """The task of this name; case, hyphens and underscores do not count.

    Raises:
        UnknownNameError: there is no such task; the message lists close names and all.

    Example:
        >>> find_task("SST-2").name
        'sst2'
    """
    wanted = folded(name)
    tasks = {folded(task.name): task for task in GLUE_TASKS}
    if wanted in tasks:
        return tasks[wanted]
    tasks = {folded(task.name): task for task in known_tasks()}
    if wanted in tasks:
        return tasks[wanted]
    close = [tasks[match].name for match in difflib.get_close_matches(wanted, tasks, n=3, cutoff=0.6)]
    hint = f" did you mean {' or '.join(map(repr, close))}?" if close else ""
    names = ", ".join(task.name for task in tasks.values())
    raise UnknownNameError(
        f"no task is called {name!r};{hint} tasks are: {names}; for files of your own: load_files, or --train-file"
    )


def load_task(
    name_or_task: str | Task, data_dir: str | Path | None = None, *, splits: Sequence[str] | None = None
) -> TaskData:
    """Load a task's examples: GLUE from a folder, or from the hub without one; a probe by generating it.

    Args:
        name_or_task: a task of `known_tasks()` or its name.
        data_dir: folder with the GLUE files; not for probes.
        splits: the splits to load; None for all that are needed and those that are there.

    Returns:
        The task with its examples.

    Raises:
        UnknownNameError: no such task or split.
        ConfigurationError: a folder is given for a probe, or a task that is not one of those known.
        DataError: data are missing or malformed.
        MissingDependencyError: the hub is asked for and `datasets` is not installed.
    """
    task = find_task(name_or_task if isinstance(name_or_task, str) else name_or_task.name)
    if isinstance(name_or_task, Task) and name_or_task != task:
        raise ConfigurationError(
            f"the task {task.name!r} given is not the known one of that name; load your own files with load_files"
        )
    if task in GLUE_TASKS:
        return load_glue(task, data_dir, splits=splits)
    if data_dir is not None:
        raise ConfigurationError(f"the probe {task.name!r} is generated, not read: leave --data-dir {data_dir} out")
    from supermask.tasks.probes import load_probe

    data = load_probe(task.name)
    return data if splits is None else TaskData(task, {split: data[split] for split in splits})
