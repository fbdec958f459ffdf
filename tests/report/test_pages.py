"""The tables of docs/reproduction.md and docs/results.md say what the committed records say."""

import json
import re
import runpy
import statistics
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "results" / "minilm-l6"
PAGE = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
SCRIPT = runpy.run_path(str(ROOT / "studies" / "pages.py"), run_name="page")
TASKS = {"RTE": "rte", "MRPC": "mrpc", "STS-B": "stsb", "CoLA": "cola", "QQP subset": "qqp", "MNLI subset": "mnli"}
VALUES, KEYS = ("value", "attention_output"), ("query", "key")


def test_no_table_is_stale() -> None:
    assert SCRIPT["main"](["--check"]) == 0, "run studies/pages.py"
    assert len(SCRIPT["BLOCK"].findall(PAGE)) == PAGE.count("<!-- end of table -->") == 7


def section(number: int) -> list[dict[str, str]]:
    """The first table of a section, a dictionary a row."""
    text = re.split(r"^## ", PAGE, flags=re.MULTILINE)[number]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def matrices(task: str, arm: str, field: str, **places: Any) -> list[float]:
    """Distances of the self-attention matrices of seed 0, those of a role or a block."""
    path = RECORDS / task / f"{arm}-seed0.measures.json"
    tensors = json.loads(path.read_text(encoding="utf-8"))["tensors"] if path.exists() else []
    here = [one for one in tensors if one.get("role") in VALUES + KEYS and len(one["shape"]) > 1]
    return [one[field] for one in here if all(one[name] in wanted for name, wanted in places.items())]


def by_depth(task: str, arm: str, field: str) -> str:
    means = [statistics.fmean(matrices(task, arm, field, block=(block,))) for block in range(6)]
    return f"{statistics.correlation(range(6), means):+.2f}"


def by_role(task: str, arm: str, field: str) -> str:
    means = [statistics.fmean(matrices(task, arm, field, role=roles)) for roles in (VALUES, KEYS)]
    return f"{means[0] / means[1]:.2f}"


def test_steps_and_distances_are_those_of_the_records() -> None:
    steps, angles, lengths = section(2)
    for name, task in TASKS.items():
        record = json.loads((RECORDS / task / "full-seed0.json").read_text(encoding="utf-8"))
        assert steps[name] == f"{record['steps']:,}"
        assert angles[name] == f"{statistics.fmean(matrices(task, 'full', 'angular')):.4f}"
        assert lengths[name] == f"{statistics.fmean(matrices(task, 'full', 'l1')):.3f}"


@pytest.mark.parametrize(("number", "told"), [(3, by_depth), (4, by_role)], ids=["depth", "roles"])
def test_where_distances_are_is_told_as_measured(number: int, told: Any) -> None:
    rows = section(number)
    assert len(rows) == 4
    for row in rows:
        arm, field = "full" if "2e-5" in row[""] else "full-lr1e-4", "l1" if "L1" in row[""] else "angular"
        for name, task in TASKS.items():
            assert row[name] == (told(task, arm, field) if matrices(task, arm, field) else ""), (row[""], name)
