"""`supermask evaluate`: score a stored delta."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    option,
)

if TYPE_CHECKING:
    from supermask.deltas import DeltaDocument
    from supermask.prediction import Evaluation
    from supermask.tasks import TaskData

__all__ = ["EXAMPLES", "evaluate"]

EXAMPLES = (
    "supermask evaluate sentiment",
    "supermask evaluate mrpc --data-dir glue",
    "supermask evaluate mrpc --task mrpc --data-dir glue --split train --json",
    "supermask evaluate mine --file dev.csv --text sentence --label label",
)

_SPLIT = "Labelled split to score. Repeatable. \\[default: the dev splits]"


def evaluate(
    delta: DeltaPath,
    task: TaskName = None,
    data_dir: DataDir = None,
    split: Annotated[list[str] | None, option("Data", "--split", "SPLIT", _SPLIT)] = None,
    file: Annotated[Path | None, option("Data", "--file", "FILE", "A labelled file of your own instead.")] = None,
    text: TextColumn = None,
    text_pair: TextPairColumn = None,
    label: Annotated[str | None, option("Data", "--label", "COLUMN", "Column of the label. \\[default: label]")] = None,
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
    from supermask.cli.examples import labelled_data
    from supermask.cli.stored import delta_path
    from supermask.prediction import stored_base

    stored = supermask.TaskDelta.load(delta_path(delta))
    data = labelled_data(
        stored.document,
        file=file,
        text=text,
        text_pair=text_pair,
        label=label,
        task=task,
        data_dir=data_dir,
        splits=split,
    )
    loaded = stored_base(stored.document, base, revision, allow_new)
    result = supermask.evaluate(loaded, task=data, delta=stored, splits=tuple(data.splits), use_cpu=cpu)
    _report(stored.document, data, result, as_json=as_json)


def _report(document: DeltaDocument, data: TaskData, result: Evaluation, *, as_json: bool) -> None:
    from supermask.cli.printing import percent, plain_table, print_json, print_lines, show

    recorded = document.training.scores if data.task.name == document.task.name else {}
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
    print_lines([f"{data.task.name}: {document.method.kind or 'delta'} on {document.base.name}, scores in percent"])
    numbers = ("examples", "score", "recorded")
    table = plain_table("split", "examples", "metric", "score", "recorded", right=numbers)
    for split, scores in result.scores.items():
        told = (split, f"{len(data[split]):,}")
        for metric, value in scores.items():
            before = recorded.get(split, {}).get(metric)
            table.add_row(*told, metric, percent(value), "–" if before is None else percent(before))
            told = ("", "")
    show(table)
    print_lines([f"note: {line}" for line in result.notes])
