"""`supermask study run all --smoke`: every study end to end. What is checked is the structure, not the values."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from supermask.report.results import collect
from supermask.study import RecordStore, Study, load_study, study_names
from supermask.study.smoke import SMOKE_TASKS, make_tiny_base, smoke_study
from tiny_command import Outcome, call

RUNS = 54
FIGURES = [name for name in study_names() if name.startswith("figure")]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("smoke") / "results"
    return folder, call("study", "run", "all", "--smoke", "--results", folder)


def tiny(name: str, folder: Path) -> Study:
    return smoke_study(load_study(name), str(folder / ".base"))


def test_all_runs_are_made_and_recorded(smoke: tuple[Path, Outcome]) -> None:
    folder, outcome = smoke
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout == f"{folder}: {RUNS} runs made, 0 recorded before\n"
    assert "FAILED" not in outcome.stderr
    store = RecordStore(folder)
    assert len(store.records) == RUNS and store.skipped == ()
    assert {stored.record.status for stored in store.records} == {"completed"}


@pytest.mark.parametrize("name", study_names())
def test_every_study_is_complete(smoke: tuple[Path, Outcome], name: str) -> None:
    folder, _ = smoke
    results = collect(tiny(name, folder), RecordStore(folder), more_seeds=False)
    assert results.missing == ()
    assert {cell.spec.arm for cell in results.cells} == {arm.name for arm in load_study(name).arms}
    assert {cell.spec.task for cell in results.cells} <= set(SMOKE_TASKS.values())
    assert len({cell.spec.seed for cell in results.cells}) == (2 if name in ("table3", "appendix-a") else 1)
    for cell in results.cells:
        assert cell.record is not None and cell.measures is not None
        assert cell.record.inputs.data["train"].examples == 24 and cell.record.steps == 3
        masked = cell.spec.method["kind"] != "freezing"
        assert (cell.measures.zeroed is not None) == masked
        assert bool(cell.record.sampled_scores) == (cell.spec.method["kind"] == "supermask")
    assert len(results.pairs) == (name == "figure7")


def test_masks_have_moved(smoke: tuple[Path, Outcome]) -> None:
    folder, _ = smoke
    for cell in collect(tiny("figure9", folder), RecordStore(folder)).cells:
        assert cell.record is not None and cell.record.delta is not None
        assert cell.record.delta.sparsity != pytest.approx(cell.spec.method["initial_sparsity"], abs=1e-4)


def test_tables_figures_and_a_report_are_made(smoke: tuple[Path, Outcome]) -> None:
    folder, _ = smoke
    for name in study_names():
        if name in FIGURES:
            assert ElementTree.parse(folder / "figures" / f"{name}.svg").getroot().tag.endswith("svg")
            assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        else:
            rows = (folder / "tables" / f"{name}.csv").read_text().splitlines()
            assert len(rows) > 1, name
            assert (folder / "tables" / f"{name}.md").read_text().count("|") > 8
    page = (folder / "report.html").read_text(encoding="utf-8")
    for name in study_names():
        assert load_study(name).paper in page or load_study(name).title in page, name


def test_a_second_time_nothing_is_run(smoke: tuple[Path, Outcome]) -> None:
    folder, _ = smoke
    outcome = call("study", "run", "table6", "--smoke", "--results", folder)
    assert outcome.exit_code == 0
    assert outcome.stdout == f"{folder}: 0 runs made, 5 recorded before\n"


def test_the_tiny_base_is_the_same_everywhere(smoke: tuple[Path, Outcome], tmp_path: Path) -> None:
    folder, _ = smoke
    again = make_tiny_base(tmp_path / "again")
    for name in ("model.safetensors", "tokenizer.json"):
        assert (again / name).read_bytes() == (folder / ".base" / name).read_bytes()


def test_smoke_and_dry_run_exclude_each_other() -> None:
    outcome = call("study", "run", "table6", "--smoke", "--dry-run")
    assert outcome.exit_code == 2 and "leave one of the two out" in outcome.stderr
