"""`supermask study table`, `figure` and `report`."""

import csv
import json
import shlex
from pathlib import Path

import pytest

from supermask.cli.study_show import FIGURE_EXAMPLES, REPORT_EXAMPLES, TABLE_EXAMPLES
from supermask.study import load_study, overridden
from tiny_command import call, said
from tiny_records import fill


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of two tables and a figure on two tasks."""
    folder = tmp_path_factory.mktemp("shown") / "minilm-l6"
    names = ("table5", "table6", "figure6", "figure9")
    fill(folder, [overridden(load_study(name), tasks=["mrpc"], seeds=[0, 1]) for name in names])
    return folder


def test_a_table_on_the_terminal(results: Path) -> None:
    outcome = call("study", "table", "table5", "--results", results)
    assert outcome.exit_code == 0 and outcome.stderr == ""
    lines = outcome.stdout.splitlines()
    assert lines[0] == "Table 5. Low-sparsity supermasks against the baseline"
    assert any("Supermask, sampled" in line for line in lines) and any("(91.3)" in line for line in lines)
    missing = next(line for line in lines if line.startswith("Missing: "))
    assert "RTE (seed 0)" in missing and "supermask study run table5" in missing


def test_the_four_formats_agree(results: Path, tmp_path: Path) -> None:
    texts = {}
    for kind in ("text", "markdown", "csv", "html"):
        path = tmp_path / f"table.{kind}"
        outcome = call("study", "table", "table6", "--results", results, "--format", kind, "--output", path)
        assert outcome.exit_code == 0 and outcome.stdout == f"{path}\n"
        texts[kind] = path.read_text(encoding="utf-8")
        printed = call("study", "table", "table6", "--results", results, "--format", kind).stdout
        assert kind == "text" or printed == texts[kind]
    cells = [line["text"] for line in csv.DictReader(texts["csv"].splitlines()) if line["text"]]
    assert len(cells) >= 25
    for kind in ("text", "markdown", "html"):
        assert all(cell in texts[kind] for cell in cells), kind


def test_all_tables_go_to_a_folder(results: Path, tmp_path: Path) -> None:
    said("study", "table", "all", "--results", results, "--format", "markdown", "--output", tmp_path / "tables")
    names = sorted(path.name for path in (tmp_path / "tables").iterdir())
    assert names == ["appendix-a.md", "conventions.md", *(f"table{number}.md" for number in range(1, 7))]


def test_only_the_tasks_and_seeds_that_are_named(results: Path) -> None:
    found = call("study", "table", "table5", "--results", results, "--tasks", "mrpc", "--seeds", "1", "--format", "csv")
    lines = list(csv.DictReader(found.stdout.splitlines()))
    assert {line["column"] for line in lines} == {"mrpc"}
    assert next(line for line in lines if line["row"] == "full.score")["records"] == "mrpc/full-seed1.json"


def test_a_figure_is_three_files(results: Path, tmp_path: Path) -> None:
    outcome = call("study", "figure", "figure6", "--results", results, "--output", tmp_path)
    assert outcome.exit_code == 0
    paths = [Path(line) for line in outcome.stdout.splitlines()]
    assert [path.name for path in paths] == ["figure6.svg", "figure6.png", "figure6.csv"]
    assert all(path.stat().st_size > 1000 for path in paths)
    assert "missing: full, full-lr1e-4, supermask: MNLI" in outcome.stderr
    document = json.loads(
        call("study", "figure", "figure6", "--results", results, "--output", tmp_path, "--json").stdout
    )
    assert document == {"files": [str(path) for path in paths]}


def test_a_report(results: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    outcome = call("study", "report", "--results", results, "--study", "table6", "--output", path)
    assert outcome.exit_code == 0 and outcome.stderr == ""
    content = path.read_bytes()
    assert outcome.stdout.startswith(f"{path}: {len(content):,} bytes") and str(results) in outcome.stdout
    assert content.startswith(b"<!doctype html>") and b'id="table6"' in content
    document = json.loads(
        call("study", "report", "--results", results, "--study", "table6", "--output", path, "--json").stdout
    )
    assert document["bytes"] == len(content)


def test_a_file_that_is_no_record_is_told(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "minilm-l6"
    fill(folder, [load_study("table6")], measured=False)
    (folder / "broken.json").write_text("{")
    outcome = call("study", "report", "--results", folder, "--study", "table6", "--output", tmp_path / "report.html")
    assert outcome.exit_code == 0 and "broken.json is no record" in outcome.stderr


def test_the_base_is_that_of_the_records(results: Path, tmp_path: Path) -> None:
    def of_another_base(run: object, record):  # type: ignore[no-untyped-def]
        base = record.inputs.base.model_copy(update={"name": "my-bert"})
        return record.model_copy(update={"inputs": record.inputs.model_copy(update={"base": base})})

    fill(tmp_path, [load_study("table6")], change=of_another_base, measured=False)
    outcome = call("study", "table", "table6", "--results", tmp_path)
    assert outcome.exit_code == 0 and "Missing" not in outcome.stdout
    fill(tmp_path / "more", [load_study("appendix-a")], leave_out=lambda run: run.seed > 0, measured=False)
    assert "Missing" in call("study", "table", "table6", "--results", tmp_path).stdout  # minilm-l6 is there, too


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("table", "table5"), "holds no records"),
        (("report",), "holds no records"),
        (("figure", "table5"), "table5 is a table, not a figure"),
        (("table", "tabel5"), "table5"),
        (("table", "table5", "--format", "pdf"), "pdf"),
    ],
)
def test_what_cannot_be_shown(results: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    folder = tmp_path if message == "holds no records" else results
    outcome = call("study", *arguments, "--results", folder, "--output", tmp_path / "out")
    assert outcome.exit_code == 2 and message in outcome.stderr and outcome.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("example", [*TABLE_EXAMPLES, *FIGURE_EXAMPLES, *REPORT_EXAMPLES])
def test_the_examples_of_the_help_work(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").symlink_to(results.parent)
    words = shlex.split(example)[1:]
    if words[1] == "report":  # all studies take long; one stands for them
        words += ["--study", "table6"]
    stand_ins = {"table": "table6", "figure": "figure9"}
    words = [stand_ins[words[1]] if word == "all" else word for word in words]
    outcome = call(*words)
    assert outcome.exit_code == 0, outcome.stderr
