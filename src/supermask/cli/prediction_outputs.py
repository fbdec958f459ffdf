"""Where predictions go: standard output, a file, or the benchmark's submission."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from supermask.atomic import write_atomically
from supermask.cli.prediction_inputs import ChosenExamples
from supermask.cli.printing import note, print_json, print_lines
from supermask.errors import ConfigurationError, OutputError
from supermask.tasks import Task, write_submission
from supermask.training import Predictions

__all__ = ["check_outputs", "report"]

_FORMATS = (".tsv", ".jsonl")


def check_outputs(chosen: ChosenExamples, *, output: Path | None, submission: Path | None, overwrite: bool) -> None:
    """Refuse, before any compute is spent, what could not be written afterwards.

    Raises:
        SupermaskError: of the kind that fits.
    """
    places = []
    if output is not None:
        if output.suffix not in _FORMATS:
            raise ConfigurationError(f"{output}: predictions are written as {' or '.join(_FORMATS)}; change its ending")
        places.append(output)
    if submission is not None:
        files = chosen.task.submission_files
        if chosen.split is None or chosen.split not in files:
            known = f"; it has one for: {', '.join(files)}" if files else ""
            raise ConfigurationError(
                f"the benchmark takes no submission of these examples of {chosen.task.name!r}{known}; leave "
                "--submission out, or choose a GLUE task's test split with --task and --split"
            )
        places.append(submission / files[chosen.split])
    for place in places:
        if place.exists() and not overwrite:
            raise OutputError(f"{place}: exists already; name another place, or replace it with --overwrite")


def report(
    chosen: ChosenExamples,
    predictions: Predictions,
    *,
    output: Path | None,
    submission: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write predictions where they are wanted; print them if that is nowhere else, or say where they are.

    Raises:
        SupermaskError: if they cannot be written.
    """
    task, examples = chosen.task, chosen.examples
    for line in chosen.notes:
        note(f"note: {line}")
    rows = list(_rows(task, examples.ids, predictions))
    written: list[str] = []
    if output is not None:
        lines = _tsv(rows) if output.suffix == ".tsv" else [json.dumps(row) for row in rows]
        write_atomically(output, "".join(f"{line}\n" for line in lines).encode())
        written.append(str(output))
    if submission is not None and chosen.split is not None:
        path = write_submission(
            task, chosen.split, predictions.values, submission, ids=examples.ids, overwrite=overwrite
        )
        written.append(str(path))
    if as_json:
        content = {"files": written} if written else {"predictions": rows}
        print_json({"task": task.name, "examples": len(rows), **content, "notes": list(chosen.notes)})
    elif written:
        print_lines([f"{len(rows):,} predictions written to {place}" for place in written])
    else:
        print_lines(_tsv(rows))


def _rows(task: Task, ids: tuple[str, ...], predictions: Predictions) -> Iterator[dict[str, Any]]:
    if task.regression:
        for identifier, value in zip(ids, predictions.values, strict=True):
            yield {"id": identifier, "prediction": float(value)}
        return
    probabilities = torch.softmax(predictions.logits.double(), dim=1).tolist()
    for identifier, label, row in zip(ids, predictions.labels, probabilities, strict=True):
        shares = {name: round(share, 6) for name, share in zip(task.label_names, row, strict=True)}
        yield {"id": identifier, "prediction": label, "probabilities": shares}


def _tsv(rows: list[dict[str, Any]]) -> list[str]:
    if "probabilities" not in rows[0]:
        return ["id\tprediction", *(f"{row['id']}\t{row['prediction']:.6f}" for row in rows)]
    return [
        "id\tprediction\tprobability",
        *(f"{row['id']}\t{row['prediction']}\t{row['probabilities'][row['prediction']]:.4f}" for row in rows),
    ]
