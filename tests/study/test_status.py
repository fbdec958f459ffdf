from __future__ import annotations

import shutil
from pathlib import Path

from supermask.study import RecordStore, load_study, overridden, runs_of
from supermask.study.locks import claimed, lock_path
from supermask.study.status import study_status
from tiny_records import fill, tiny_record

COMMITTED = Path(__file__).parents[2] / "results" / "minilm-l6"


def test_each_run_has_a_state(tmp_path: Path) -> None:
    study = load_study("table6")
    runs = runs_of(study)
    fill(tmp_path, [study], leave_out=lambda run: run.arm != "supermask")
    tiny_record(runs[1]).save(tmp_path / "unmeasured.json")
    tiny_record(runs[2], status="failed").save(tmp_path / "failed.json")
    work = tmp_path / "work"
    checkpoint = work / "run" / "checkpoints" / "checkpoint-100"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").touch()
    note = {"key": runs[3].key, "work": str(work), "host": "here", "started": "today"}
    with claimed(lock_path(tmp_path, "address"), note):
        (status,) = study_status([study], RecordStore(tmp_path))
    assert [run.state for run in status.runs] == ["recorded", "recorded", "failed", "running", "missing"]
    assert [run.measured for run in status.runs[:2]] == [True, False]
    assert status.runs[0].path == "mrpc/supermask-seed0.json"
    assert status.runs[2].error == "RuntimeError: the loss is not finite"
    assert status.runs[3].position == "past step 100, since today on here"
    # All like the recorded ones: 100 s of training, 10 s of evaluation.
    assert [round(run.seconds or 0) for run in status.runs] == [0, 0, 110, 110, 110]
    assert round(status.seconds_left or 0) == 330
    (status,) = study_status([study], RecordStore(tmp_path))
    assert status.runs[3].state == "missing"  # its holder is gone


def test_nothing_is_known_of_an_empty_folder(tmp_path: Path) -> None:
    (status,) = study_status([load_study("table5")], RecordStore(tmp_path))
    assert {run.state for run in status.runs} == {"missing"} and status.seconds_left is None


def test_time_is_known_of_tasks_that_were_never_run(tmp_path: Path) -> None:
    fill(tmp_path, [overridden(load_study("table6"), tasks=["mrpc"])], measured=False)
    (status,) = study_status([overridden(load_study("table4"), tasks=["mrpc", "rte"])], RecordStore(tmp_path))
    assert [run.state for run in status.runs] == ["recorded", "missing"]
    seconds = status.runs[1].seconds
    assert seconds is not None and round(seconds, 1) == round(100 * 234 / 345 + 10 * 277 / 408, 1)


def test_committed_records_are_seen(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    shutil.copytree(
        COMMITTED, folder, ignore=lambda _, names: [n for n in names if Path(n).suffix not in ("", ".json")]
    )
    (status,) = study_status([overridden(load_study("table5"), tasks=["mrpc", "rte"])], RecordStore(folder))
    assert {run.state for run in status.runs} == {"recorded"} and status.seconds_left == 0.0
