"""`supermask tasks`."""

from supermask.tasks import known_tasks
from tiny_command import said, told


def test_table_fits_80_columns_and_names_every_task() -> None:
    text = said("tasks")
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    for task in known_tasks():
        assert all(metric in rows[task.name] for metric in task.metrics)
    assert "392,702" in rows["mnli"]
    assert "a number of pairs" in rows["stsb"]


def test_json() -> None:
    rows = {row["name"]: row for row in told("tasks")["tasks"]}
    assert list(rows) == [task.name for task in known_tasks()]
    assert rows["rte"]["sizes"]["dev"] == 277
    assert rows["rte"]["data"] == "glue"
    assert rows["probe-sentiment"]["data"] == "generated"
    assert rows["mnli"]["label_names"] == list(known_tasks()[5].label_names)
