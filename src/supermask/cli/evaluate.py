"""`supermask evaluate`: score a stored delta."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from supermask.cli import options
from supermask.cli.options import DEFAULT_LABEL, DEFAULT_TEXT, option, refuse_together
from supermask.cli.printing import answer, percent, plain_table

__all__ = ["EXAMPLES", "evaluate"]

EXAMPLES = (
    "supermask evaluate sentiment",
    "supermask evaluate mrpc --data-dir glue",
    "supermask evaluate mrpc --task mrpc --data-dir glue --split train --json",
    "supermask evaluate mine --file dev.csv --text sentence --label label",
)

_SPLITS = "Labelled split to score. Repeatable. \\[default: the dev splits]"
_LABEL = f"Column of the label. \\[default: {DEFAULT_LABEL}]"


def evaluate(
    delta: options.DeltaPath,
    task: options.TaskName = None,
    data_dir: options.DataDir = None,
    split: Annotated[list[str] | None, option("Data", "SPLIT", _SPLITS)] = None,
    file: Annotated[Path | None, option("Data", "FILE", "A labelled file of your own instead.")] = None,
    text: options.TextColumn = None,
    text_pair: options.TextPairColumn = None,
    label: Annotated[str | None, option("Data", "COLUMN", _LABEL)] = None,
    base: options.StoredBase = None,
    revision: options.Revision = None,
    allow_new: options.AllowNew = None,
    cpu: options.Cpu = False,
    as_json: options.AsJson = False,
) -> None:
    """Score a stored delta on labelled examples.

    Without --task or --file, the examples are those of the task that the
    delta was learnt on. The base is the one that it names.
    """
    from supermask import prediction
    from supermask.cli.stored import known_task, load_delta, task_of_columns
    from supermask.tasks import load_files, load_task

    stored = load_delta(delta)
    document = stored.document
    if file is None:
        refuse_together("a known task", {"--text": text, "--text-pair": text_pair, "--label": label})
        known = known_task(document, task)
        data = load_task(known.name, data_dir=data_dir, splits=tuple(split or known.report_splits))
    else:
        refuse_together("--file", {"--task": task, "--data-dir": data_dir, "--split": split})
        own = task_of_columns(document, text_pair)
        data = load_files(
            dev=file,
            text=text or DEFAULT_TEXT,
            text_pair=text_pair,
            label=label or DEFAULT_LABEL,
            regression=own.regression,
            name=own.name,
            metrics=own.metrics,
            label_names=own.label_names or None,
        )
    loaded = prediction.stored_base(document, base, revision, allow_new)
    result = prediction.evaluate(loaded, task=data, delta=stored, splits=tuple(data.splits), use_cpu=cpu)
    recorded = document.training.scores if data.task.name == document.task.name else {}
    told = {
        "task": data.task.name,
        "delta": document.digest,
        "base": {"name": document.base.name, "digest": document.base.digest},
        "method": document.method.kind,
        "examples": {split: len(data[split]) for split in result.scores},
        "scores": result.scores,
        "recorded_scores": recorded,
        "notes": list(result.notes),
    }
    table = plain_table("split", ">examples", "metric", ">score", ">recorded")
    for name, scores in result.scores.items():
        place = (name, f"{len(data[name]):,}")
        for metric, value in scores.items():
            table.add_row(*place, metric, percent(value), percent(recorded.get(name, {}).get(metric)))
            place = ("", "")
    title = f"{data.task.name}: {document.method.kind or 'delta'} on {document.base.name}, scores in percent"
    answer(told, [title, table, *(f"note: {line}" for line in result.notes)], as_json=as_json)
