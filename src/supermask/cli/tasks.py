"""`supermask tasks`: what there is to learn."""

from __future__ import annotations

from supermask.cli.options import AsJson
from supermask.cli.printing import answer, plain_table

__all__ = ["EXAMPLES", "tasks"]

EXAMPLES = ("supermask tasks", "supermask tasks --json")


def tasks(as_json: AsJson = False) -> None:
    """List the tasks that are known by name.

    GLUE tasks are read from a folder with the official files (--data-dir) or
    fetched from the hub; probes are generated.
    """
    from supermask.tasks import known_tasks
    from supermask.tasks.glue import GLUE_TASKS
    from supermask.tasks.probes import DEV_SIZE, TRAIN_SIZE

    rows = []
    tables = {kind: plain_table("task", "learns", "metrics", ">train", ">dev") for kind in ("glue", "generated")}
    for task in known_tasks():
        kind = "glue" if task in GLUE_TASKS else "generated"
        sizes = task.expected_sizes if kind == "glue" else {"train": TRAIN_SIZE, "dev": DEV_SIZE}
        told = ("name", "title", "kind", "paired", "label_names", "metrics", "splits")
        rows.append({name: getattr(task, name) for name in told} | {"sizes": sizes, "data": kind})
        tables[kind].add_row(
            task.name,
            f"{task.labels.in_words} of {'pairs' if task.paired else 'texts'}",
            ", ".join(task.metrics),
            f"{sizes[task.train_split]:,}",
            ", ".join(f"{sizes[split]:,}" for split in task.report_splits),
        )
    lines = (
        "GLUE: from a folder with the official TSV files (--data-dir), else from the hub",
        tables["glue"],
        "Probes: generated, so no data are needed",
        tables["generated"],
        "Files of your own: supermask train --train-file train.csv --dev-file dev.csv",
    )
    answer({"tasks": rows}, lines, as_json=as_json)
