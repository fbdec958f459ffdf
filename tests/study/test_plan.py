"""What is to be done, and what is wrong, before anything is run; where studies stand."""

import collections
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from supermask.errors import ConfigurationError
from supermask.settings import RunSettings
from supermask.study import RecordStore, load_study, overridden, runs_of
from supermask.study.inputs import slots_of
from supermask.study.orders import RunOrder, claimed, lock_path
from supermask.study.plan import plan_studies, study_status
from tiny_records import fill, tiny_record
from tiny_studies import FULL, MASK, TASK, carried_out, tiny_plan, tiny_study

COMMITTED = Path(__file__).parents[2] / "results" / "minilm-l6"


@pytest.fixture(scope="module")
def done(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of a mask and a full fine-tuning."""
    results = tmp_path_factory.mktemp("done") / "results"
    carried_out(tiny_plan(tiny_study(tiny_base), results))
    return results


def first(study: Any, results: Path, **settings: Any) -> tuple[str, RunOrder]:
    order = tiny_plan(study, results, **settings).runs[0]
    return order.state, order


def test_what_is_recorded_is_found_under_any_name_and_wherever_the_base_lies(
    done: Path, tiny_base: Path, tmp_path: Path
) -> None:
    state, order = first(tiny_study(tiny_base), done)
    assert (state, order.target, order.steps, order.seconds) == ("recorded", f"{TASK}/mask-seed0.json", 2, None)
    assert order.recorded() is not None
    assert first(tiny_study(tiny_base, name="other", arms=[{**MASK, "name": "otherwise"}]), done)[0] == "recorded"
    moved = tmp_path / "moved"
    shutil.copytree(tiny_base, moved)
    assert first(tiny_study(moved), done)[0] == "recorded"
    tensors = load_file(moved / "model.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    save_file(
        {**tensors, name: torch.roll(tensors[name], 1, 0)}, moved / "model.safetensors", metadata={"format": "pt"}
    )
    assert first(tiny_study(moved), done)[0] == "missing"


def test_other_inputs_are_other_runs_and_take_no_record_away(
    done: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny_study(tiny_base)
    _, before = first(study, done)
    state, shorter = first(study, done, limit=8)
    assert state == "missing" and shorter.address != before.address
    assert shorter.target == f"{TASK}/mask-seed0-{shorter.address}.json"
    assert first(study, tmp_path, limit=8)[1].target == f"{TASK}/mask-seed0.json"
    other = tiny_study(tiny_base, arms=[{**MASK, "method": {"kind": "supermask", "init_logit": 0.2}}])
    targets = [run.target for run in tiny_plan([tiny_study(tiny_base, arms=[MASK]), other], tmp_path).runs]
    assert targets[0] == f"{TASK}/mask-seed0.json" and len(set(targets)) == 2
    monkeypatch.setattr("supermask.__version__", "99.0")
    assert first(study, done)[0] == "missing"
    assert first(study, done, any_version=True)[0] == "recorded"


def test_all_faults_are_told_before_anything_is_run(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    arms = [MASK, {**FULL, "name": "odd", "method": {"kind": "freezing", "exclude": ["querry", "encoder"]}}]
    study = tiny_study(tiny_base, arms=arms, tasks=[TASK, "mrpc", "rte"])
    missing = str(tmp_path / "no")
    with pytest.raises(ConfigurationError) as caught:
        tiny_plan(study, tmp_path / "file", work=tmp_path / "file" / "w", data_dir=missing)
    told = str(caught.value)
    assert told.startswith("5 faults before anything was run:")
    for words in ("data folder", "arm odd: exclude: 'querry'", "--results", "--work"):
        assert words in told, told
    assert told.endswith(f"the data of {TASK} are there: --tasks {TASK}")
    with pytest.raises(ConfigurationError, match=r"(?s)2 faults.*no-base"):
        tiny_plan(tiny_study(tmp_path / "no-base", tasks=["mrpc"]), tmp_path / "r", data_dir=missing)
    with pytest.raises(ConfigurationError, match="one base at a time, received a, b"):
        tiny_plan([tiny_study("a"), tiny_study("b")], tmp_path / "r")
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr("supermask.study.inputs.shutil.disk_usage", lambda _: usage(9, 8, 1))
    with pytest.raises(ConfigurationError, match=r"1 fault before.*\n.*0 MiB are free and the runs need about"):
        tiny_plan(tiny_study(tiny_base), tmp_path / "r")


def test_where_runs_are_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    devices = ["0", "1", "2"]
    monkeypatch.setattr("supermask.study.inputs._cuda_devices", lambda: devices)
    for settings, slots in (
        ({}, ("0", "1", "2")),
        ({"use_cpu": True}, (None,)),
        ({"jobs": 2}, ("0", "1")),
        ({"jobs": 4}, ("0", "1", "2", "0")),
        ({"devices": "4,5"}, ("4", "5")),
        ({"use_cpu": True, "jobs": 2}, (None, None)),
        ({"launch": "accelerate launch"}, (None,)),
    ):
        assert slots_of(RunSettings(results=tmp_path, **settings)) == slots, settings  # type: ignore[arg-type]
    devices.clear()
    assert slots_of(RunSettings(results=tmp_path)) == (None,)
    with pytest.raises(ConfigurationError, match="--launch takes all devices"):
        RunSettings(results=tmp_path, launch="accelerate", jobs=2)
    with pytest.raises(ConfigurationError, match="Ray gives out the devices"):
        RunSettings(results=tmp_path, ray="local", devices="0")


def test_an_order_survives_its_file(tiny_base: Path, tmp_path: Path) -> None:
    _, order = first(tiny_study(tiny_base), tmp_path)
    assert RunOrder.model_validate_json(order.save().read_bytes()) == order


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
        status = study_status(study, RecordStore(tmp_path))
    assert [run.state for run in status] == ["recorded", "recorded", "failed", "running", "missing"]
    assert [run.measured for run in status[:2]] == [True, False]
    assert status[0].stored is not None and status[0].stored.path == "mrpc/supermask-seed0.json"
    assert status[2].stored is not None and status[2].stored.record.error == "RuntimeError: the loss is not finite"
    assert status[3].position == "past step 100, since today on here"
    # All like the recorded ones: 100 s of training, 10 s of evaluation.
    assert [round(run.seconds or 0) for run in status] == [0, 0, 110, 110, 110]
    assert study_status(study, RecordStore(tmp_path))[3].state == "missing"  # its holder is gone


def test_time_is_known_of_tasks_that_were_never_run_but_not_of_other_bases(tmp_path: Path) -> None:
    empty = study_status(load_study("table5"), RecordStore(tmp_path))
    assert {(run.state, run.seconds) for run in empty} == {("missing", None)}
    fill(tmp_path, [overridden(load_study("table6"), tasks=["mrpc"])], measured=False)
    status = study_status(overridden(load_study("table4"), tasks=["mrpc", "rte"]), RecordStore(tmp_path))
    assert [run.state for run in status] == ["recorded", "missing"]
    assert status[1].seconds == pytest.approx(100 * 234 / 345 + 10 * 277 / 408, abs=0.1)


def test_committed_records_are_seen() -> None:
    study = overridden(load_study("table5"), tasks=["mrpc", "rte"])
    assert {run.state for run in study_status(study, RecordStore(COMMITTED))} == {"recorded"}
    with pytest.raises(ConfigurationError, match="received no study"):
        plan_studies([], RunSettings(results=COMMITTED))
