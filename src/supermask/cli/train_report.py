"""What `train` shows at its end: scores, zeros, size, time, files, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from supermask.cli.inspect_report import draw
from supermask.cli.printing import PlainTable, answer, facts_table, note, percent, plain_table, shown_bytes
from supermask.errors import MissingDependencyError, UnknownNameError
from supermask.tasks import find_task
from supermask.training import Run, RunRecord

if TYPE_CHECKING:
    from supermask.tasks import TaskData

__all__ = ["draw_zeros", "report"]


def draw_zeros(run: Run) -> Path | None:
    """Draw where the zeros of a run are into its folder; None where there is nothing to draw or to draw with."""
    assert run.folder is not None
    path = run.folder / "zeros.png"
    path.unlink(missing_ok=True)  # a run that was replaced may have left one
    if not run.delta.weights:
        return None
    try:
        draw(run.delta.document, path)
    except MissingDependencyError as error:
        note(f"note: no picture of the zeros: {error}")
        return None
    return path


def report(run: Run, data: TaskData, *, method: str, figure: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Print what came of a run with a folder; `data_dir` is for the commands to type next."""
    assert run.folder is not None
    record, inputs, delta = run.record, run.record.inputs, run.folder / "delta"
    notes = [*data.notes, *_cautions(run, data)]
    document = {
        "output": str(run.folder),
        "delta": str(delta),
        "figure": str(figure) if figure is not None else None,
        "notes": notes,
        "record": record.model_dump(mode="json"),
    }
    sizes = ", ".join(f"{info.examples:,} {split}" for split, info in inputs.data.items())
    about = f"{method} on {inputs.base.name}, {record.steps:,} steps, seed {inputs.config.seed}"
    told: list[str | PlainTable] = [
        f"{inputs.task} ({sizes}): {about}",
        *(("scores in percent", _score_table(record)) if record.scores else ()),
        *(f"note: {line}" for line in notes),
        facts_table(_facts(record)),
        "files:",
        *(f"  {place}" for place in (f"{delta}/", run.folder / "record.json", figure) if place is not None),
        "next:",
        *(f"  {command}" for command in _next_commands(run, data_dir)),
    ]
    answer(document, told, as_json=as_json)


def _cautions(run: Run, data: TaskData) -> Iterator[str]:
    if not data.report:
        yield "no labelled dev data, so no score; --dev-file or --validation gives one"
    if run.record.sampled_sparsity is not None and not run.delta.zeros:
        yield "no weight was switched off, so only the head has learnt; train longer or raise --mask-learning-rate"


def _score_table(record: RunRecord) -> PlainTable:
    """Scores in percent: a row a metric, and beside it the mean over sampled masks where the method samples."""
    draws = max((len(spread.values) for row in record.sampled_scores.values() for spread in row.values()), default=0)
    single = ">thresholded mask" if record.sampled_sparsity is not None else ">score"
    table = plain_table("split", "metric", single, *([f">sampled, mean ± sd of {draws}"] if draws else []))
    for split, scores in record.scores.items():
        place = split
        for metric, value in scores.items():
            spread = record.sampled_scores.get(split, {}).get(metric)
            sampled = f"{percent(spread.mean)} ± {percent(spread.sd)}" if spread is not None else "–"
            table.add_row(place, metric, percent(value), *([sampled] if draws else []))
            place = ""
    return table


def _facts(record: RunRecord) -> Iterator[tuple[str, str]]:
    delta = record.delta
    if delta is not None:
        zeros = "none, as values alone were trained"
        if delta.constrained_weights:
            thresholded, sampled = "", ""
            if record.sampled_sparsity is not None:
                thresholded, sampled = "thresholded ", f", sampled {percent(record.sampled_sparsity)} %"
            count = f"({delta.zeros:,} of {delta.constrained_weights:,} weights)"
            zeros = f"{thresholded}{percent(delta.sparsity)} % {count}{sampled}"
        yield "zeros", zeros
        yield "delta", shown_bytes(delta.bytes)
    yield "time", f"training {record.train_seconds:,.0f} s, evaluation {record.evaluation_seconds:,.0f} s"


def _next_commands(run: Run, data_dir: Path | None) -> list[str]:
    assert run.folder is not None
    folder, task = shlex.quote(str(run.folder)), run.record.inputs.task
    try:
        find_task(task)
        data = f" --data-dir {shlex.quote(str(data_dir))}" if data_dir is not None else ""
    except UnknownNameError:
        data = " --file FILE"
    paired = run.delta.task.paired
    text = '--sentence "..." --second "..."' if paired else '--sentence "..."'
    return [
        f"supermask inspect {folder}",
        f"supermask evaluate {folder}{data}",
        f"supermask predict {folder} {text}",
        f"supermask apply {folder} --output {shlex.quote(str(run.folder / 'model'))}",
    ]
