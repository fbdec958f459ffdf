import json
import shutil
from pathlib import Path

import pytest

from supermask.report.results import collect
from supermask.study import RecordStore, load_study, overridden, runs_of
from supermask.study.records import measures_path, pair_path
from tiny_records import FINGERPRINT, fill, tiny_measures, tiny_pair, tiny_record
from tiny_studies import changed

COMMITTED = Path(__file__).parents[2] / "results" / "minilm-l6"
SMALL = ("mrpc", "rte", "stsb", "cola")


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """A copy of the records in the repository."""
    folder = tmp_path / "minilm-l6"
    shutil.copytree(
        COMMITTED, folder, ignore=lambda _, names: [n for n in names if Path(n).suffix not in ("", ".json")]
    )
    return folder


def test_committed_records_answer_the_specs_whatever_they_are_called(committed: Path) -> None:
    for index, path in enumerate(sorted(committed.rglob("*-seed*.json"))):
        if not path.name.endswith(".measures.json"):
            path.rename(path.with_name(f"record{index}.json"))
    shutil.rmtree(committed / "pairs", ignore_errors=True)
    store = RecordStore(committed)
    assert store.skipped == () and len(store.records) >= 31
    table5 = collect(load_study("table5"), store)
    for task in SMALL:
        for arm in ("full", "full-lr1e-4", "supermask"):
            cell = next(cell for cell in table5.observe(arm, task).cells if cell.spec.seed == 0)
            assert cell.record is not None and cell.path is not None and "record" in cell.path, (task, arm)
            assert cell.record.inputs.task == task and cell.record.inputs.config.seed == 0
    assert any(cell.record for cell in collect(load_study("figure8"), store).observe("pruning-50", "rte").cells)
    assert any(cell.record for cell in collect(load_study("appendix-a"), store).observe("head-only", "mrpc").cells)
    assert any(cell.record for cell in collect(load_study("table3"), store).observe("freezing-1-2-3", "mrpc").cells)
    # eps 1e-8 through the sigmoid is the default supermask under another label.
    conventions = collect(load_study("conventions"), store)
    assert next(cell.path is not None for cell in conventions.observe("supermask", "mrpc").cells)


def test_the_default_supermask_is_found_with_the_score_that_was_recorded(committed: Path) -> None:
    cell = next(c for c in collect(load_study("table5"), RecordStore(committed)).observe("supermask", "mrpc").cells)
    assert cell.path == "mrpc/supermask-seed0.json"
    content = json.loads((COMMITTED / "mrpc" / "supermask-seed0.json").read_text())
    assert cell.record is not None and cell.record.scores["dev"]["f1"] == content["scores"]["dev"]["f1"]


def test_only_the_same_run_answers(tmp_path: Path) -> None:
    study = load_study("table6")
    run, other = runs_of(study)[:2]
    record = tiny_record(run)
    record.save(tmp_path / "any" / "name.json")
    hashes = {split: info.content_hash for split, info in record.inputs.data.items()}

    def found(**asked: object) -> bool:
        return RecordStore(tmp_path).find(run, **asked) is not None  # type: ignore[arg-type]

    assert found() and found(base="minilm-l6", fingerprint=FINGERPRINT, data=hashes, version="0.1.0")
    assert found(base="elsewhere", fingerprint=FINGERPRINT)  # the fingerprint is what tells bases apart
    assert not found(base="elsewhere")
    assert not found(fingerprint="other")
    assert not found(data={**hashes, "dev": "other"})
    assert not found(data={"train": hashes["train"]})
    assert not found(version="0.2.0")
    assert RecordStore(tmp_path).find(other) is None
    assert RecordStore(tmp_path).find(runs_of(changed(study, draws=11))[0]) is None  # 10 draws are too few
    assert RecordStore(tmp_path).find(runs_of(changed(study, draws=3))[0]) is not None


def test_precision_must_be_what_is_asked_for(tmp_path: Path) -> None:
    study = load_study("table6")
    run = runs_of(study)[0]
    tiny_record(run).save(tmp_path / "a.json")  # auto, which was bf16
    store = RecordStore(tmp_path)
    asked = {name: runs_of(changed(study, config={"precision": name}))[0] for name in ("auto", "bf16", "fp32")}
    assert [store.find(asked[name]) is not None for name in asked] == [True, True, False]


def test_a_record_of_held_out_data_answers_nothing(tmp_path: Path) -> None:
    run = runs_of(load_study("table6"))[0]
    record = tiny_record(run)
    data = {"train": record.inputs.data["train"], "validation": record.inputs.data["dev"]}
    record.model_copy(update={"inputs": record.inputs.model_copy(update={"data": data})}).save(tmp_path / "a.json")
    assert RecordStore(tmp_path).find(run) is None


def test_settings_that_came_later_have_their_defaults(tmp_path: Path) -> None:
    run = runs_of(load_study("table6"))[0]
    content = json.loads(tiny_record(run).model_dump_json())
    del content["inputs"]["method"]["gradient"], content["inputs"]["config"]["head_bias"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert RecordStore(tmp_path).find(run) is not None


def test_of_several_the_largest_then_the_newest_counts_and_failures_do_not(tmp_path: Path) -> None:
    run = next(run for run in runs_of(load_study("table5")) if run.task == "mnli")
    tiny_record(run, subset=True).model_copy(update={"started": "2030"}).save(tmp_path / "part.json")
    assert RecordStore(tmp_path).find(run).path == "part.json"  # type: ignore[union-attr]
    tiny_record(run).model_copy(update={"started": "2020"}).save(tmp_path / "old.json")
    tiny_record(run).model_copy(update={"started": "2021"}).save(tmp_path / "new.json")
    tiny_record(run, status="failed").model_copy(update={"started": "2040"}).save(tmp_path / "failed.json")
    store = RecordStore(tmp_path)
    assert store.find(run).path == "new.json"  # type: ignore[union-attr]
    assert store.failed(run, base="minilm-l6").path == "failed.json"  # type: ignore[union-attr]
    assert store.failed(run, base="other") is None


def test_what_is_no_record_is_named_and_left_out(tmp_path: Path) -> None:
    run = runs_of(load_study("table6"))[0]
    (tmp_path / "mrpc").mkdir()
    tiny_record(run).save(tmp_path / "mrpc" / "good.json")
    good = (tmp_path / "mrpc" / "good.json").read_bytes()
    (tmp_path / "mrpc" / "cut.json").write_bytes(good[: len(good) // 2])
    (tmp_path / "empty.json").write_bytes(b"")
    (tmp_path / "foreign.json").write_text('{"name": "package", "version": "1.0"}')
    (tmp_path / "newer.json").write_bytes(good.replace(b'"schema_version": 1', b'"schema_version": 2'))
    (tmp_path / "link.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "a.json").write_text("{")
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "a.json").write_text("{")
    (tmp_path / "mrpc" / "good.measures.json").write_text("{")
    (tmp_path / "notes.txt").write_text("{")
    store = RecordStore(tmp_path)
    assert [stored.path for stored in store.records] == ["mrpc/good.json"]
    assert {skipped.path: skipped.reason.partition(":")[0] for skipped in store.skipped} == {
        "empty.json": "is no run record",
        "foreign.json": "is no run record",
        "newer.json": "is no run record",
        "mrpc/cut.json": "is no run record",
    }
    cell = collect(load_study("table6"), store).cells[0]
    assert cell.record is not None and cell.measures is None
    assert "mrpc/good.measures.json" in {skipped.path for skipped in store.skipped}


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "nowhere")
    assert store.records == store.skipped == store.pairs(["a.json"]) == ()


def test_measures_and_pairs_are_found_beside_their_records(tmp_path: Path) -> None:
    study = load_study("figure7")
    fill(tmp_path, [study], leave_out=lambda run: run.task not in ("mrpc", "rte", "cola"))
    results = collect(study, RecordStore(tmp_path))
    assert [cell.spec.task for cell in results.cells if cell.measures] == ["cola", "mrpc", "rte"]
    assert {(pair.first, pair.second) for pair in results.pairs} == {
        ("cola/supermask-seed0", "mrpc/supermask-seed0"),
        ("cola/supermask-seed0", "rte/supermask-seed0"),
        ("mrpc/supermask-seed0", "rte/supermask-seed0"),
    }
    assert collect(load_study("table4"), RecordStore(tmp_path)).pairs == ()
    assert measures_path(tmp_path / "a.json") == tmp_path / "a.measures.json"
    assert pair_path("a/b.json", "c/d.json") == "pairs/a-b--c-d.json"
    run = runs_of(study)[0]
    assert tiny_pair(run, run).first == f"{run.task}/{run.label}" and tiny_measures(run).task == run.task


def test_further_seeds_that_are_recorded_are_taken_along(tmp_path: Path) -> None:
    study = overridden(load_study("table5"), tasks=["mrpc"], seeds=[0, 1, 5])
    fill(tmp_path, [study], leave_out=lambda run: run.arm != "supermask" and run.seed == 5, measured=False)
    only_zero = overridden(load_study("table5"), tasks=["mrpc", "rte"])
    results = collect(only_zero, RecordStore(tmp_path))
    assert [cell.spec.label for cell in results.observe("supermask", "mrpc").cells] == [
        "supermask-seed0",
        "supermask-seed1",
        "supermask-seed5",
    ]
    assert [cell.spec.seed for cell in results.observe("full", "mrpc").cells] == [0, 1]
    assert [cell.record for cell in results.observe("full", "rte").cells] == [None]
    assert len(results.missing) == 3
    assert len(collect(only_zero, RecordStore(tmp_path), more_seeds=False).cells) == 6
    other_base = overridden(only_zero, base="other")
    assert all(cell.record is None for cell in collect(other_base, RecordStore(tmp_path)).cells)
