"""The examples that a run reads: the training split, cut if that is asked for, and the splits it is scored on."""

from __future__ import annotations

import dataclasses

from supermask.tasks import TaskData, find_task, load_task
from supermask.tasks.glue import GLUE_TASKS

__all__ = ["load_run_data"]


def load_run_data(
    task: str, data_dir: str | None = None, *, limit: int | None = None, dev_limit: int | None = None
) -> TaskData:
    """Load what a run of a study reads, and nothing else.

    Args:
        task: name of the task.
        data_dir: folder with the GLUE files; None for the hub. Probes are generated and need none.
        limit: train on the first so many examples; None for all.
        dev_limit: score on the first so many examples of each split; None for all.

    Returns:
        The data; a split that was cut says so in its source, and its size differs from the official one.

    Raises:
        SupermaskError: as `supermask.tasks.load_task`.

    Example:
        >>> data = load_run_data("probe-sentiment", limit=100)
        >>> len(data.train), data.train.source.endswith("first 100 of 1536")
        (100, True)
    """
    known = find_task(task)
    data = load_task(
        known.name, data_dir if known in GLUE_TASKS else None, splits=(known.train_split, *known.report_splits)
    )
    for split, most in ((known.train_split, limit), *((split, dev_limit) for split in known.report_splits)):
        whole = data[split]
        if most is not None and most < len(whole):
            source = f"{whole.source}, first {most} of {len(whole)}"
            data = data.with_split(split, dataclasses.replace(whole.take(most), source=source))
    return data
