"""`supermask tasks`: what there is to learn."""

from __future__ import annotations

from supermask.cli.options import AsJson

__all__ = ["EXAMPLES", "tasks"]

EXAMPLES = ("supermask tasks", "supermask tasks --json")


def tasks(as_json: AsJson = False) -> None:
    """List the tasks that are known by name.

    GLUE tasks are read from a folder with the official files (--data-dir) or
    fetched from the hub; probes are generated.
    """
    from supermask.cli.printing import plain_table, print_json, print_lines, show
    from supermask.tasks import known_tasks
    from supermask.tasks.glue import GLUE_TASKS
    from supermask.tasks.probes import DEV_SIZE, TRAIN_SIZE

    known = known_tasks()
    if as_json:
        rows = [
            {
                "name": task.name,
                "title": task.title,
                "kind": task.kind,
                "paired": task.paired,
                "label_names": task.label_names,
                "metrics": task.metrics,
                "splits": task.splits,
                "sizes": task.expected_sizes if task in GLUE_TASKS else {"train": TRAIN_SIZE, "dev": DEV_SIZE},
                "data": "glue" if task in GLUE_TASKS else "generated",
            }
            for task in known
        ]
        print_json({"tasks": rows})
        return
    glue, probes = (plain_table("task", "learns", "metrics", "train", "dev", right=("train", "dev")) for _ in range(2))
    for task in known:
        generated = task not in GLUE_TASKS
        sizes = {"train": TRAIN_SIZE, "dev": DEV_SIZE} if generated else task.expected_sizes
        (probes if generated else glue).add_row(
            task.name,
            f"{task.labels.in_words} of {'pairs' if task.paired else 'texts'}",
            ", ".join(task.metrics),
            f"{sizes[task.train_split]:,}",
            ", ".join(f"{sizes[split]:,}" for split in task.report_splits),
        )
    print_lines(["GLUE: from a folder with the official TSV files (--data-dir), else from the hub"])
    show(glue)
    print_lines(["Probes: generated, so no data are needed"])
    show(probes)
    print_lines(["Files of your own: supermask train --train-file train.csv --dev-file dev.csv"])
