"""Studies run in this process: everything but the processes themselves."""

from __future__ import annotations

import io
import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import supermask.training
from supermask.deltas import TaskDelta
from supermask.errors import ConfigurationError
from supermask.report.results import collect
from supermask.study import RecordStore, runs_of
from supermask.study.executors import Executor, Finished, InlineExecutor, ProcessExecutor
from supermask.study.locks import claimed
from supermask.study.measures import RunMeasures
from supermask.study.orders import RunOrder
from supermask.study.progress import PlainReporter, SilentReporter
from supermask.study.records import delta_path, measures_path
from supermask.study.runner import (
    Prepared,
    RunSettings,
    StudyReport,
    default_results,
    make_executor,
    prepare,
    run_prepared,
)
from supermask.study.worker import DONE
from supermask.training import RunRecord
from tiny_studies import FULL, MASK, TASK, tiny_study


def settings(folder: Path, **more: Any) -> RunSettings:
    return RunSettings(results=folder / "results", limit=16, dev_limit=12, use_cpu=True, **more)


def run(study: Any, folder: Path, **more: Any) -> tuple[Prepared, StudyReport, str]:
    said = io.StringIO()
    prepared = prepare([study] if not isinstance(study, list) else study, settings(folder, **more))
    report = run_prepared(prepared, PlainReporter(said), InlineExecutor())
    return prepared, report, said.getvalue()


@pytest.fixture(scope="module")
def done(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prepared, StudyReport, str]:
    folder = tmp_path_factory.mktemp("done")
    return folder, *run(tiny_study(tiny_base), folder)


def test_a_study_is_run_measured_and_recorded(done: tuple[Path, Prepared, StudyReport, str], tiny_base: Path) -> None:
    folder, prepared, report, said = done
    results = folder / "results"
    assert [planned.order.name for planned in report.runs.completed] == [f"{TASK}/mask-seed0", f"{TASK}/full-seed0"]
    assert report.runs.failed == () and report.measured.faults == ()
    store = RecordStore(results)
    cells = collect(tiny_study(tiny_base), store).cells
    assert store.skipped == () and [cell.path for cell in cells] == [
        f"{TASK}/mask-seed0.json",
        f"{TASK}/full-seed0.json",
    ]
    mask, full = (cell.record for cell in cells)
    assert mask is not None and full is not None
    assert mask.inputs.data["train"].examples == 16 and mask.inputs.data["train"].source.endswith("first 16 of 1536")
    assert mask.inputs.data["dev"].examples == 12 and mask.inputs.config.checkpoint_steps == 100
    assert len(mask.sampled_scores["dev"]["f1"].values) == 2
    for cell in cells:
        assert isinstance(cell.measures, RunMeasures) and cell.measures.task == TASK
    assert cells[0].measures is not None and mask.delta is not None and cells[0].measures.zeros == mask.delta.zeros > 0
    # The mask's delta is kept, as it is small; that of full fine-tuning is not; nothing else is left.
    delta = TaskDelta.load(delta_path(results / f"{TASK}/mask-seed0.json"))
    assert delta.training["scores"] == mask.scores
    assert not delta_path(results / f"{TASK}/full-seed0.json").exists()
    assert [path.name for path in (results / ".work").iterdir()] == [".gitignore"]
    lines = said.splitlines()
    assert lines[0].startswith("2 runs: 0 recorded, 2 to do, 1 at a time")
    assert any(line.startswith(f"{TASK}/mask-seed0: f1 ") and "; 1 left, " in line for line in lines)
    assert prepared.plan.runs[0].steps == 2


def test_what_is_recorded_is_not_run_again(
    done: tuple[Path, Prepared, StudyReport, str], tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, *_ = done
    monkeypatch.setattr(supermask.training, "train", None)
    prepared, report, said = run(tiny_study(tiny_base), folder)
    assert [planned.state for planned in prepared.plan.runs] == ["recorded", "recorded"]
    assert report.runs.completed == () and said.startswith("2 runs: 2 recorded, 0 to do")
    # Nor under another name, in another study.
    renamed = tiny_study(tiny_base, name="other", arms=[{**MASK, "name": "otherwise"}])
    assert [planned.state for planned in run(renamed, folder)[0].plan.runs] == ["recorded"]


def test_other_inputs_are_other_runs(
    done: tuple[Path, Prepared, StudyReport, str], tiny_base: Path, tmp_path: Path
) -> None:
    folder, *_ = done
    study = tiny_study(tiny_base)
    before = prepare([study], settings(folder)).plan.runs[0]

    def state(**changes: Any) -> tuple[str, str, str]:
        chosen = settings(folder).model_copy(update=changes)
        planned = prepare([study], chosen).plan.runs[0]
        return planned.state, planned.order.address, planned.order.target

    assert state() == ("recorded", before.order.address, f"{TASK}/mask-seed0-{before.order.address}.json")
    shorter = state(limit=8)
    assert shorter[0] == "new" and shorter[1] != before.order.address
    # The record that is there stays.
    assert shorter[2] == f"{TASK}/mask-seed0-{shorter[1]}.json"
    assert state(results=tmp_path)[2] == f"{TASK}/mask-seed0.json"
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    moved = tmp_path / "moved"
    shutil.copytree(tiny_base, moved)
    same = prepare([tiny_study(moved)], settings(folder)).plan.runs[0]
    assert same.state == "recorded"  # the base is what it is, wherever it lies
    tensors = load_file(moved / "model.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    tensors[name] = torch.roll(tensors[name], 1, 0)
    save_file(tensors, moved / "model.safetensors", metadata={"format": "pt"})
    assert prepare([tiny_study(moved)], settings(folder)).plan.runs[0].state == "new"


def test_the_version_counts_unless_it_is_not_asked(
    done: tuple[Path, Prepared, StudyReport, str], tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, *_ = done
    monkeypatch.setattr("supermask.__version__", "99.0")
    assert prepare([tiny_study(tiny_base)], settings(folder)).plan.runs[0].state == "new"
    assert prepare([tiny_study(tiny_base)], settings(folder, any_version=True)).plan.runs[0].state == "recorded"


def test_a_failed_run_is_recorded_the_rest_goes_on_and_it_is_tried_again(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = supermask.training.train, []

    def train(base: Any, *, method: Any, resume: bool, overwrite: bool, **more: Any) -> Any:
        calls.append((method.kind, resume, overwrite))
        if method.kind == "supermask":
            raise RuntimeError("the machine is tired\nvery")
        return real(base, method=method, resume=resume, overwrite=overwrite, **more)

    monkeypatch.setattr(supermask.training, "train", train)
    study = tiny_study(tiny_base)
    _, report, said = run(study, tmp_path)
    assert [planned.order.label for planned in report.runs.completed] == ["full-seed0"]
    ((failed, error),) = report.runs.failed
    assert failed.order.label == "mask-seed0" and error == "RuntimeError: the machine is tired\nvery"
    assert f"{TASK}/mask-seed0: FAILED: RuntimeError: the machine is tired" in said
    record = RunRecord.load(tmp_path / "results" / TASK / "mask-seed0.json")
    assert (record.status, record.inputs, record.steps) == ("failed", failed.order.inputs, 0)
    assert collect(study, RecordStore(tmp_path / "results")).missing[0].spec.arm == "mask"
    monkeypatch.setattr(supermask.training, "train", real)
    prepared, report, _ = run(study, tmp_path)
    assert [planned.state for planned in prepared.plan.runs] == ["failed", "recorded"]
    assert [planned.order.label for planned in report.runs.completed] == ["mask-seed0"]
    assert RunRecord.load(tmp_path / "results" / TASK / "mask-seed0.json").status == "completed"


def test_a_run_that_fails_while_it_goes_on_is_begun_anew_the_time_after(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = supermask.training.train, []

    def train(*positional: Any, resume: bool, overwrite: bool, output_dir: Path, **more: Any) -> Any:
        calls.append("resume" if resume else "overwrite" if overwrite else "new")
        if len(calls) < 4:
            # As a training does that dies after its folder is made.
            monkeypatch.setattr(sys.modules["supermask.training.train"]._Training, "run", _die)
        else:
            monkeypatch.undo()
        return real(*positional, resume=resume, overwrite=overwrite, output_dir=output_dir, **more)

    def _die(*_: Any, **__: Any) -> Any:
        raise RuntimeError("once more")

    study = tiny_study(tiny_base, arms=[MASK])
    for attempt in range(4):
        monkeypatch.setattr(supermask.training, "train", train)
        _, report, _ = run(study, tmp_path)
        assert len(report.runs.completed) == (attempt == 3), calls
    assert calls == ["new", "resume", "overwrite", "resume"]


def test_two_studies_share_a_run(tiny_base: Path, tmp_path: Path) -> None:
    studies = [
        tiny_study(tiny_base, arms=[MASK]),
        tiny_study(tiny_base, name="second", arms=[{**MASK, "name": "again"}]),
    ]
    prepared, report, _ = run(studies, tmp_path)
    assert len(prepared.plan.runs) == len(report.runs.completed) == 1
    store = RecordStore(tmp_path / "results")
    assert [collect(study, store).cells[0].path for study in studies] == [f"{TASK}/mask-seed0.json"] * 2


def test_studies_of_one_label_and_other_methods_do_not_overwrite_each_other(tiny_base: Path, tmp_path: Path) -> None:
    other = {**MASK, "method": {"kind": "supermask", "init_logit": 0.2}}
    studies = [tiny_study(tiny_base, arms=[MASK]), tiny_study(tiny_base, arms=[other])]
    prepared, report, _ = run(studies, tmp_path)
    assert len(report.runs.completed) == 2
    store = RecordStore(tmp_path / "results")
    paths = [collect(study, store).cells[0].path for study in studies]
    assert paths == [f"{TASK}/mask-seed0.json", f"{TASK}/mask-seed0-{prepared.plan.runs[1].order.address}.json"]


def test_all_faults_are_told_before_anything_is_run(tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    arms = [MASK, {**FULL, "name": "odd", "method": {"kind": "freezing", "exclude": ["querry", "encoder"]}}]
    study = tiny_study(tiny_base, arms=arms, tasks=[TASK, "mrpc", "rte"])
    chosen = RunSettings(results=tmp_path / "file", work=tmp_path / "file" / "w", data_dir=str(tmp_path / "no"))
    with pytest.raises(ConfigurationError) as caught:
        prepare([study], chosen)
    told = str(caught.value)
    assert told.startswith("5 faults before anything was run:")
    for words in ("data folder", "arm odd: exclude: 'querry'", "--results", "--work"):
        assert words in told, told
    assert told.endswith(f"the data of {TASK} are there: --tasks {TASK}")
    study = tiny_study(tmp_path / "no-base", tasks=["mrpc"])
    with pytest.raises(ConfigurationError, match=r"(?s)2 faults.*no-base"):
        prepare([study], RunSettings(results=tmp_path / "r", data_dir=str(tmp_path / "no")))
    with pytest.raises(ConfigurationError, match="one base at a time, received a, b"):
        prepare([tiny_study("a"), tiny_study("b")], RunSettings(results=tmp_path / "r"))


def test_a_disk_without_room_is_a_fault(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import collections

    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr("supermask.study.checking.shutil.disk_usage", lambda _: usage(9, 8, 1))
    with pytest.raises(ConfigurationError, match="0 MiB are free and the runs need about"):
        prepare([tiny_study(tiny_base)], settings(tmp_path))


def test_the_worker_refuses_what_was_not_checked(tiny_base: Path, tmp_path: Path) -> None:
    prepared = prepare([tiny_study(tiny_base, arms=[FULL])], settings(tmp_path))
    order = prepared.plan.runs[0].order
    data = {split: info.model_copy(update={"content_hash": "other"}) for split, info in order.data.items()}
    base = order.base.model_copy(update={"fingerprint": "other"})
    for changed, words in (
        ({"data": data}, "not those that were checked"),
        ({"base": base}, "not the one that was checked"),
    ):
        wrong = order.model_copy(update=changed)
        executor = InlineExecutor()
        executor.start(wrong)
        (finished,) = executor.wait(0)
        assert finished.outcome != DONE
        record = RunRecord.load(order.record_path)
        assert record.status == "failed" and words in str(record.error)


def test_an_order_survives_its_file(tiny_base: Path, tmp_path: Path) -> None:
    order = prepare([tiny_study(tiny_base)], settings(tmp_path)).plan.runs[0].order
    assert RunOrder.load(order.save()) == order


def test_an_interruption_stops_the_workers_and_is_passed_on(tiny_base: Path, tmp_path: Path) -> None:
    class Interrupted(Executor):
        slots = 1
        stopped = closed = False

        def start(self, order: RunOrder) -> None:
            pass

        def wait(self, seconds: float) -> list[Finished]:
            raise KeyboardInterrupt

        def stop(self) -> None:
            self.stopped = True

        def close(self) -> None:
            self.closed = True

    executor = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        run_prepared(prepare([tiny_study(tiny_base)], settings(tmp_path)), SilentReporter(), executor)
    assert executor.stopped and executor.closed


@pytest.mark.parametrize("dies", [True, False])
def test_a_run_of_another_runner_is_left_to_it(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    monkeypatch.setattr("supermask.study.work_loop._LOOK_SECONDS", 0.05)
    monkeypatch.setattr("supermask.study.work_loop._TICK_SECONDS", 0.05)
    study = tiny_study(tiny_base, arms=[FULL])
    order = prepare([study], settings(tmp_path)).plan.runs[0].order
    holding, release = threading.Event(), threading.Event()

    def other() -> None:
        with claimed(order.lock_path) as ours:
            assert ours
            holding.set()
            release.wait(30)
            if not dies:
                record = RunRecord.load(elsewhere)
                record.save(order.record_path)

    if not dies:
        run(study, tmp_path / "other")
    elsewhere = tmp_path / "other" / "results" / TASK / "full-seed0.json"
    thread = threading.Thread(target=other)
    thread.start()
    holding.wait(30)
    prepared = prepare([study], settings(tmp_path))
    assert [planned.state for planned in prepared.plan.runs] == ["elsewhere"]
    threading.Timer(0.3, release.set).start()
    said = io.StringIO()
    report = run_prepared(prepared, PlainReporter(said), InlineExecutor())
    thread.join()
    assert len(report.runs.completed) == 1
    assert ("by another runner" in said.getvalue()) == (not dies)
    assert ("started" in said.getvalue()) == dies


def test_a_record_without_measures_gets_them_from_a_kept_delta(tiny_base: Path, tmp_path: Path) -> None:
    study = tiny_study(tiny_base, arms=[MASK])
    run(study, tmp_path)
    place = measures_path(tmp_path / "results" / TASK / "mask-seed0.json")
    first = json.loads(place.read_text())
    place.unlink()
    _, report, _ = run(study, tmp_path)
    assert report.measured.runs == (f"{TASK}/mask-seed0.json",)
    assert json.loads(place.read_text()) == first


def test_where_runs_are_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("supermask.study.runner._cuda_devices", lambda: ["0", "1", "2"])

    def slots(**more: Any) -> int:
        executor = make_executor(RunSettings(results=tmp_path, **more))
        assert isinstance(executor, ProcessExecutor)
        return executor.slots

    assert (slots(), slots(use_cpu=True), slots(jobs=2), slots(devices=("4", "5")), slots(use_cpu=True, jobs=4)) == (
        3,
        1,
        2,
        2,
        4,
    )
    assert slots(launch=("accelerate", "launch")) == 1
    with pytest.raises(ConfigurationError, match="--launch takes all devices"):
        slots(launch=("accelerate",), jobs=2)
    with pytest.raises(ConfigurationError, match="Ray gives out the devices"):
        make_executor(RunSettings(results=tmp_path, ray="local", devices=("0",)))
    monkeypatch.setattr("supermask.study.runner._cuda_devices", list)
    assert slots() == 1


def test_default_results_are_a_folder_a_base() -> None:
    assert default_results("./my model/").as_posix() == "results/my-model"
    assert default_results("../..").as_posix() == "results/base"


def test_seeds_are_runs_of_their_own(tiny_base: Path) -> None:
    assert len(runs_of(tiny_study(tiny_base, seeds=[0, 1, 2]))) == 6
