"""Where predictions go: standard output, a file, or the benchmark's submission."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from supermask.atomic import write_atomically
from supermask.cli.printing import note, print_json, print_lines
from supermask.errors import ConfigurationError, OutputError
from supermask.prediction import Predictions
from supermask.tasks import TaskData, tsv_line, write_submission

__all__ = ["check_outputs", "report"]

_FORMATS = (".tsv", ".jsonl")


def check_outputs(data: TaskData, *, output: Path | None, submission: Path | None, overwrite: bool) -> None:
    """Refuse, before any compute is spent, what could not be written afterwards of the one split of these data."""
    places = []
    if output is not None:
        if output.suffix not in _FORMATS:
            raise ConfigurationError(f"{output}: predictions are written as {' or '.join(_FORMATS)}; change its ending")
        places.append(output)
    if submission is not None:
        files = data.task.submission_files
        (split,) = data.splits
        if split not in files:
            known = f"; it has one for: {', '.join(files)}" if files else ""
            raise ConfigurationError(
                f"the benchmark takes no submission of these examples of {data.task.name!r}{known}; leave "
                "--submission out, or choose a GLUE task's test split with --task and --split"
            )
        places.append(submission / files[split])
    for place in places:
        if place.exists() and not overwrite:
            raise OutputError(f"{place}: exists already; name another place, or replace it with --overwrite")


def report(
    data: TaskData,
    predictions: Predictions,
    *,
    output: Path | None,
    submission: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write predictions where they are wanted; print them if that is nowhere else, or say where they are."""
    ((split, examples),) = data.splits.items()
    for line in data.notes:
        note(f"note: {line}")
    rows = [{"id": identifier, **answer} for identifier, answer in zip(examples.ids, predictions.answers, strict=True)]
    written: list[str] = []
    if output is not None:
        lines = _tsv(rows, predictions) if output.suffix == ".tsv" else [json.dumps(row) for row in rows]
        write_atomically(output, "".join(f"{line}\n" for line in lines).encode())
        written.append(str(output))
    if submission is not None:
        values = predictions.values
        path = write_submission(data.task, split, values, submission, ids=examples.ids, overwrite=overwrite)
        written.append(str(path))
    if as_json:
        content = {"files": written} if written else {"predictions": rows}
        print_json({"task": data.task.name, "examples": len(rows), **content, "notes": list(data.notes)})
    elif written:
        print_lines([f"{len(rows):,} predictions written to {place}" for place in written])
    else:
        print("\n".join(_tsv(rows, predictions)))  # escaped cell by cell, with tabs between


def _tsv(rows: list[dict[str, Any]], predictions: Predictions) -> list[str]:
    lines = [["id", "prediction", *(["probability"] if "probabilities" in rows[0] else [])]]
    for row, words in zip(rows, predictions.labels, strict=True):
        sure = [f"{row['probabilities'][row['prediction']]:.4f}"] if "probabilities" in row else []
        lines.append([row["id"], words, *sure])
    return [tsv_line(line) for line in lines]
