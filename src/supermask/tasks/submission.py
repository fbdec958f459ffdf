"""Predictions written as the GLUE benchmark's server expects them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from supermask.atomic import write_atomically
from supermask.errors import ConfigurationError, DataError, OutputError
from supermask.tasks.task import Task
from supermask.tasks.tsv import tsv_line

__all__ = ["submission_lines", "write_submission"]


def submission_lines(task: Task, predictions: Sequence[int] | Sequence[float], ids: Sequence[str]) -> list[str]:
    r"""The lines of a submission: a header, then index and prediction separated by a tab.

    A class is written by its text in the benchmark (`entailment`, or `0` and `1`); a score is clipped to the task's
    range and written with three decimals.

    Example:
        >>> from supermask.tasks.glue import glue_row
        >>> submission_lines(glue_row("rte").task, [1, 0], ["0", "1"])
        ['index\tprediction', '0\tnot_entailment', '1\tentailment']
    """
    if len(predictions) != len(ids) or not ids:
        raise DataError(
            f"{len(predictions)} predictions for {len(ids)} ids of the task {task.name!r}; give one for each"
        )
    if len(set(ids)) != len(ids):
        raise DataError(f"an id of the task {task.name!r} stands twice; give every test example once")
    texts = [_prediction_text(task, position, value) for position, value in enumerate(predictions)]
    return ["index\tprediction", *map(tsv_line, zip(ids, texts, strict=True))]


def write_submission(
    task: Task,
    split: str,
    predictions: Sequence[int] | Sequence[float],
    folder: str | Path,
    *,
    ids: Sequence[str],
    overwrite: bool = False,
) -> Path:
    """Write the predictions on a test split as a file of the benchmark's submission (`MRPC.tsv`, `MNLI-mm.tsv` ...).

    The file appears whole or not at all. The server wants one zip with the files of all its tasks, WNLI and AX too.

    Args:
        task: a GLUE task.
        split: the test split that was predicted.
        predictions: class indices, or numbers for regression.
        folder: where the file goes; made where it does not exist.
        ids: `Examples.ids` of the split.
        overwrite: replace a file that is already there.

    Returns:
        The path of the file.

    Raises:
        ConfigurationError: the split has no place in a submission.
        DataError: see `submission_lines`.
        OutputError: the file exists, or cannot be written.
    """
    if split not in task.submission_files:
        places = ", ".join(task.submission_files) or "none"
        raise ConfigurationError(
            f"the split {split!r} of the task {task.name!r} has no submission file; those that do: {places}"
        )
    lines = submission_lines(task, predictions, ids)
    path = Path(folder) / task.submission_files[split]
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; choose another folder or overwrite it")
    write_atomically(path, *((line + "\n").encode() for line in lines))
    return path


def _prediction_text(task: Task, position: int, value: int | float) -> str:
    text = task.labels.submission_text(value)
    if text is None:
        law = task.labels.law
        raise DataError(
            f"prediction {position} of the task {task.name!r} is {value!r}, not {law}; did training diverge?"
        )
    return text
