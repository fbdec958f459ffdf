"""`supermask evaluate`: score a stored delta."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from supermask.cli.options import (
    AllowNew,
    AsJson,
    Cpu,
    DataDir,
    DeltaPath,
    Revision,
    StoredBase,
    TaskName,
    TextColumn,
    TextPairColumn,
    refuse_together,
)

if TYPE_CHECKING:
    from supermask.deltas import DeltaDocument
    from supermask.tasks import TaskData
    from supermask.training import Evaluation

__all__ = ["EXAMPLES", "evaluate"]

EXAMPLES = (
    "supermask evaluate sentiment",
    "supermask evaluate mrpc --data-dir glue",
    "supermask evaluate mrpc --task mrpc --data-dir glue --split train --json",
    "supermask evaluate mine --file dev.csv --text sentence --label label",
)


def evaluate(
    delta: DeltaPath,
    task: TaskName = None,
    data_dir: DataDir = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            metavar="SPLIT",
            help="Labelled split to score. Repeatable. \\[default: the dev splits]",
            rich_help_panel="Data",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="A labelled file of your own instead.", rich_help_panel="Data"),
    ] = None,
    text: TextColumn = None,
    text_pair: TextPairColumn = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label", metavar="COLUMN", help="Column of the label. \\[default: label]", rich_help_panel="Data"
        ),
    ] = None,
    base: StoredBase = None,
    revision: Revision = None,
    allow_new: AllowNew = None,
    cpu: Cpu = False,
    as_json: AsJson = False,
) -> None:
    """Score a stored delta on labelled examples.

    Without --task or --file, the examples are those of the task that the
    delta was learnt on. The base is the one that it names.
    """
    import supermask
    from supermask.cli.stored import delta_path, file_data, known_data, known_task, stored_base

    stored = supermask.TaskDelta.load(delta_path(delta))
    if file is not None:
        refuse_together("--file", {"--task": task, "--data-dir": data_dir, "--split": split})
        data = file_data(stored.document, file, text=text, text_pair=text_pair, label=label)
    else:
        refuse_together("a known task", {"--text": text, "--text-pair": text_pair, "--label": label})
        chosen = known_task(stored.document, task)
        data = known_data(chosen, data_dir, split or chosen.report_splits)
    loaded = stored_base(stored.document, base, revision, allow_new)
    result = supermask.evaluate(loaded, task=data, delta=stored, splits=tuple(data.splits), use_cpu=cpu)
    _report(stored.document, data, result, as_json=as_json)


def _report(document: DeltaDocument, data: TaskData, result: Evaluation, *, as_json: bool) -> None:
    from supermask.cli.printing import percent, plain_table, print_json, print_lines, show

    same_data = data.task.name == document.task.name
    recorded = document.training.scores if same_data else {}
    if as_json:
        print_json(
            {
                "task": data.task.name,
                "delta": document.digest,
                "base": {"name": document.base.name, "digest": document.base.digest},
                "method": document.method.kind,
                "examples": {split: len(data[split]) for split in result.scores},
                "scores": result.scores,
                "recorded_scores": recorded,
                "notes": list(result.notes),
            }
        )
        return
    print_lines([f"{data.task.name}: {(document.method.kind or 'delta')} on {document.base.name}, scores in percent"])
    numbers = ("examples", "score", "recorded")
    table = plain_table("split", "examples", "metric", "score", "recorded", right=numbers)
    for split, scores in result.scores.items():
        first = True
        for metric, value in scores.items():
            before = recorded.get(split, {}).get(metric)
            shown = percent(before) if isinstance(before, float) else "–"
            table.add_row(
                split if first else "", f"{len(data[split]):,}" if first else "", metric, percent(value), shown
            )
            first = False
    show(table)
    print_lines([f"note: {line}" for line in result.notes])
