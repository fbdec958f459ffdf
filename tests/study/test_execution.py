"""Runs made, in this process and in processes of their own: failed, killed, stopped, shared, gone on with."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch

import supermask.training
from supermask.deltas import TaskDelta
from supermask.errors import ConfigurationError
from supermask.report.results import collect
from supermask.study import RecordStore
from supermask.study.execution import Executor, ProcessExecutor, RayExecutor
from supermask.study.measures import RunMeasures
from supermask.study.orders import RunOrder, claimed, holders
from supermask.study.records import delta_path, measures_path
from supermask.study.worker import BUSY, FAILED, execute
from supermask.training import RunRecord
from tiny_command import call
from tiny_studies import FULL, MASK, TASK, carried_out, tiny_plan, tiny_study, weights_with, yaml_of

PATIENCE = 120.0
LONG: dict[str, Any] = {"max_steps": 24, "batch_size": 8, "max_length": 24}
linux = pytest.mark.skipif(sys.platform != "linux", reason="kills processes and looks at /proc")


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def order_of(base: Path, results: Path, **changes: Any) -> RunOrder:
    return tiny_plan(tiny_study(base, **{"arms": [FULL], **changes}), results).runs[0]


def test_a_study_is_run_measured_and_recorded_once(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of two studies with a run in common, under other names.
    studies = [tiny_study(tiny_base), tiny_study(tiny_base, name="second", arms=[{**MASK, "name": "again"}])]
    report, said = carried_out(tiny_plan(studies, tmp_path))
    names = [f"{TASK}/mask-seed0", f"{TASK}/full-seed0"]
    assert [order.name for order in report.completed] == names
    assert report.failed == () and report.measured.faults == ()
    store = RecordStore(tmp_path)
    cells = collect(studies[0], store).cells
    assert store.skipped == () and [cell.path for cell in cells] == [f"{name}.json" for name in names]
    mask, full = (cell.record for cell in cells)
    assert mask is not None and full is not None
    assert mask.inputs.data["train"].examples == 16 and mask.inputs.data["train"].source.endswith("first 16 of 1536")
    assert mask.inputs.data["dev"].examples == 12 and mask.inputs.config.checkpoint_steps == 100
    assert len(mask.sampled_scores["dev"]["f1"].values) == 2
    for cell in cells:
        assert isinstance(cell.measures, RunMeasures) and cell.measures.task == TASK
    assert cells[0].measures is not None and mask.delta is not None and cells[0].measures.zeros == mask.delta.zeros > 0
    # The mask's delta is kept, as it is small; that of full fine-tuning is not; nothing else is left.
    assert TaskDelta.load(delta_path(tmp_path / f"{names[0]}.json")).training.scores == mask.scores
    assert not delta_path(tmp_path / f"{names[1]}.json").exists()
    assert [path.name for path in (tmp_path / ".work").iterdir()] == [".gitignore"]
    assert said.startswith("2 runs: 0 recorded, 2 to do, 1 at a time")

    monkeypatch.setattr(supermask.training, "train", None)
    place = measures_path(tmp_path / f"{names[0]}.json")
    before = json.loads(place.read_text())
    place.unlink()  # as if the measuring had failed
    report, said = carried_out(tiny_plan(studies, tmp_path))
    assert report.completed == () and said.startswith("2 runs: 2 recorded, 0 to do")
    assert report.measured.runs == (f"{names[0]}.json",) and json.loads(place.read_text()) == before


def test_a_failed_run_is_recorded_the_rest_goes_on_and_it_is_tried_again(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = supermask.training.train

    def train(base: Any, *, method: Any, **more: Any) -> Any:
        if method.kind == "supermask":
            raise RuntimeError("the machine is tired\nvery")
        return real(base, method=method, **more)

    monkeypatch.setattr(supermask.training, "train", train)
    study = tiny_study(tiny_base)
    report, said = carried_out(tiny_plan(study, tmp_path))
    assert [order.label for order in report.completed] == ["full-seed0"]
    ((failed, error),) = report.failed
    assert failed.label == "mask-seed0" and error == "RuntimeError: the machine is tired\nvery"
    assert f"{TASK}/mask-seed0: FAILED: RuntimeError: the machine is tired" in said
    record = RunRecord.load(tmp_path / TASK / "mask-seed0.json")
    assert (record.status, record.inputs, record.steps) == ("failed", failed.inputs, 0)
    assert collect(study, RecordStore(tmp_path)).missing[0].spec.arm == "mask"
    monkeypatch.setattr(supermask.training, "train", real)
    plan = tiny_plan(study, tmp_path)
    assert [run.state for run in plan.runs] == ["failed", "recorded"]
    assert [order.label for order in carried_out(plan)[0].completed] == ["mask-seed0"]
    assert RunRecord.load(tmp_path / TASK / "mask-seed0.json").status == "completed"


def test_a_run_that_fails_while_it_goes_on_is_begun_anew_the_time_after(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = supermask.training.train, []

    def _die(*_: Any, **__: Any) -> Any:
        raise RuntimeError("once more")

    def train(*positional: Any, resume: bool, overwrite: bool, **more: Any) -> Any:
        calls.append("resume" if resume else "overwrite")
        if len(calls) < 4:
            # As a training does that dies after its folder is made.
            monkeypatch.setattr(sys.modules["supermask.training.train"]._Training, "run", _die)
        else:
            monkeypatch.undo()
        return real(*positional, resume=resume, overwrite=overwrite, **more)

    order = order_of(tiny_base, tmp_path, arms=[MASK])
    order.work.mkdir(parents=True)
    monkeypatch.setattr(supermask.training, "train", train)
    assert [execute(order) for _ in range(4)] == [FAILED, FAILED, FAILED, 0]
    assert calls == ["overwrite", "resume", "overwrite", "resume"]


def test_the_worker_refuses_what_was_not_checked(tiny_base: Path, tmp_path: Path) -> None:
    order = order_of(tiny_base, tmp_path)
    data = {split: info.model_copy(update={"content_hash": "other"}) for split, info in order.inputs.data.items()}
    base = order.inputs.base.model_copy(update={"fingerprint": "other"})
    for changed, words in (
        ({"data": data}, "not those that were checked"),
        ({"base": base}, "not the one that was checked"),
    ):
        inputs = order.inputs.model_copy(update=changed)
        assert execute(order.model_copy(update={"inputs": inputs})) == FAILED
        record = RunRecord.load(order.record_path)
        assert record.status == "failed" and words in str(record.error)


def test_an_interruption_stops_the_workers_and_is_passed_on(tiny_base: Path, tmp_path: Path) -> None:
    class Interrupted(Executor):
        slots = 1
        stopped = False

        def submit(self, order: RunOrder) -> Future[int]:
            raise KeyboardInterrupt

        def stop(self) -> None:
            self.stopped = True

    executor = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        carried_out(tiny_plan(tiny_study(tiny_base), tmp_path), executor)
    assert executor.stopped


@pytest.mark.parametrize("dies", [True, False])
def test_a_run_of_another_runner_is_left_to_it(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    monkeypatch.setattr("supermask.study.execution._TICK_SECONDS", 0.02)
    study = tiny_study(tiny_base, arms=[FULL])
    order = order_of(tiny_base, tmp_path / "shared")
    if not dies:
        carried_out(tiny_plan(study, tmp_path / "other"))
    holding, release = threading.Event(), threading.Event()

    def other() -> None:
        with claimed(order.lock_path) as ours:
            assert ours
            holding.set()
            release.wait(30)
            if not dies:
                RunRecord.load(tmp_path / "other" / TASK / "full-seed0.json").save(order.record_path)

    thread = threading.Thread(target=other)
    thread.start()
    holding.wait(30)
    assert execute(order) == BUSY
    plan = tiny_plan(study, tmp_path / "shared")
    assert [run.state for run in plan.runs] == ["running"]
    threading.Timer(0.2, release.set).start()
    report, said = carried_out(plan)
    thread.join()
    assert len(report.completed) == 1
    assert ("by another runner" in said, "started" in said) == (not dies, dies)


def test_what_a_worker_process_says_of_its_end(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = order_of(tiny_base, tmp_path)

    def end(script: str) -> int:
        executor = ProcessExecutor(launch=("sh", "-c", script))
        try:
            return executor.submit(order).result(PATIENCE)
        finally:
            executor.stop()

    assert end(f"exit {BUSY}") == BUSY
    with pytest.raises(ChildProcessError, match=r"ended with exit code 3: out of luck \(see "):
        end("echo out of luck; exit 3")
    with pytest.raises(ChildProcessError, match="ended by SIGKILL; was there too little memory"):
        end("kill -9 $$")
    # What started the worker may have an exit code of its own: the record counts.
    assert end(f"mkdir -p {order.record_path.parent}; echo > {order.record_path}; exit 1") == 1
    report, _ = carried_out(tiny_plan(tiny_study(tiny_base, arms=[FULL]), tmp_path / "r", launch="false"),
                            ProcessExecutor(launch=("false",)))  # fmt: skip
    ((_, error),) = report.failed
    assert error.startswith("the worker ended with exit code 1: it printed nothing")
    record = RecordStore(tmp_path / "r").records[0].record
    assert (record.status, record.error) == ("failed", error)


def test_each_slot_has_its_device_and_its_share_of_the_cores(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    both_are_here = f"touch {tmp_path}/$$.here; while [ $(ls {tmp_path}/*.here | wc -l) -lt 2 ]; do :; done"
    show = "echo $CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS"
    executor = ProcessExecutor(["0", "1"], launch=("sh", "-c", f"{show}; {both_are_here}; exit {BUSY}"))
    orders = [order_of(tiny_base, tmp_path, seeds=[seed]) for seed in (0, 1)]
    for future in [executor.submit(order) for order in orders]:
        assert future.result(PATIENCE) == BUSY
    assert {order.log_path.read_text().strip() for order in orders} == {"0 4", "1 4"}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert executor.submit(orders[0]).result(PATIENCE) == BUSY
    assert orders[0].log_path.read_text().strip().endswith(" 3")
    executor.stop()


@linux
def test_stopping_ends_a_worker_and_all_that_it_started(tiny_base: Path, tmp_path: Path) -> None:
    executor = ProcessExecutor(launch=("sh", "-c", f"sleep 300 & echo $! > {tmp_path}/child; wait"))
    future = executor.submit(order_of(tiny_base, tmp_path))
    child = int(until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text()))
    executor.stop()
    until(lambda: not alive(child))
    with pytest.raises(ChildProcessError, match="SIGTERM"):
        future.result(PATIENCE)


def command_for(base: Path, folder: Path) -> tuple[list[str], Path]:
    (folder / "tiny.yaml").write_text(yaml_of(tiny_study(base, arms=[MASK], config=LONG)))
    results = folder / "results"
    command = ["study", "run", str(folder / "tiny.yaml"), "--results", str(results), "--limit", "64"]
    return [*command, "--checkpoint-steps", "5", "--cpu"], results


def begun(command: list[str], results: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """A runner whose run has a checkpoint, and what the worker noted."""
    runner = subprocess.Popen([sys.executable, "-m", "supermask", *command], stderr=subprocess.PIPE, text=True)
    until(lambda: [*results.glob(".work/*/run/checkpoints/checkpoint-*/trainer_state.json")])
    (note,) = holders(results).values()
    return runner, note


@linux
def test_after_kill_9_of_the_runner_nothing_is_lost_and_the_delta_is_the_same(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command, results = command_for(tiny_base, tmp_path)
    runner, note = begun(command, results)
    runner.send_signal(signal.SIGKILL)
    runner.communicate()
    until(lambda: not alive(note["process"]))  # the worker does not outlive its runner
    assert holders(results) == {}
    assert not list(results.glob(f"{TASK}/*.json"))
    ((_, order),) = ((path, json.loads(path.read_text())) for path in results.glob(".work/*/order.json"))
    study = tiny_study(tiny_base, arms=[MASK], config=LONG)
    plan = tiny_plan(study, results, limit=64, dev_limit=None, checkpoint_steps=5)
    assert plan.orders[0].address == order["address"]
    report, said = carried_out(plan)
    assert f"{TASK}/mask-seed0: started, 24 steps" in said and len(report.completed) == 1
    assert not list(results.glob(".work/*/run"))
    again = call(*command)
    assert again.exit_code == 0 and again.stdout == f"{results}: 0 runs made, 1 recorded before\n"

    whole = tmp_path / "whole"
    carried_out(tiny_plan(study, whole, limit=64, dev_limit=None, checkpoint_steps=5))
    records = [RunRecord.load(folder / TASK / "mask-seed0.json") for folder in (results, whole)]
    first, second = (weights_with(folder / TASK / "mask-seed0.json", tiny_base) for folder in (results, whole))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert records[0].scores == records[1].scores and records[0].inputs == records[1].inputs
    assert records[0].sampled_scores == records[1].sampled_scores and records[0].delta == records[1].delta


@pytest.mark.slow
@linux
def test_ctrl_c_ends_the_worker_too_and_the_same_command_goes_on(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command, results = command_for(tiny_base, tmp_path)
    runner, note = begun(command, results)
    runner.send_signal(signal.SIGINT)
    _, said = runner.communicate(timeout=PATIENCE)
    assert runner.returncode == 130
    assert said.endswith("stopped: nothing is lost; go on with the same command\n")
    until(lambda: not alive(note["process"]))
    assert list(results.glob(".work/*/run/checkpoints/checkpoint-*"))
    outcome = call(*command)
    assert outcome.exit_code == 0 and "1 runs made" in outcome.stdout


@pytest.mark.slow
@linux
def test_two_runners_at_once_share_the_runs_of_a_study(tiny_base: Path, tmp_path: Path) -> None:
    study = tiny_study(tiny_base, arms=[MASK, FULL], seeds=[0, 1])
    (tmp_path / "tiny.yaml").write_text(yaml_of(study))
    command = ["study", "run", str(tmp_path / "tiny.yaml"), "--results", str(tmp_path / "r"), "--limit", "16", "--cpu"]
    runners = [
        subprocess.Popen([sys.executable, "-m", "supermask", *command], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [runner.communicate(timeout=PATIENCE)[1] for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], said
    assert len(RecordStore(tmp_path / "r").records) == 4
    made = [line for text in said for line in text.splitlines() if ": f1 " in line and "another runner" not in line]
    assert len(made) == 4, said


@pytest.mark.slow
def test_several_processes_can_share_one_run(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port)
    plan = tiny_plan(tiny_study(tiny_base, arms=[MASK]), tmp_path, launch=shlex.join(launch))
    report, said = carried_out(plan, ProcessExecutor(launch=launch))
    assert report.failed == () and len(report.completed) == 1, said
    (stored,) = RecordStore(tmp_path).records
    assert stored.record.processes == 2
    assert delta_path(tmp_path / stored.path).exists() and not list(tmp_path.glob(".work/*/run"))


@pytest.mark.slow
@linux
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_killed_worker_of_a_cluster_is_replaced_and_goes_on(tiny_base: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    study = tiny_study(tiny_base, arms=[MASK], seeds=[0, 1, 2], config={**LONG, "max_steps": 60})
    more: dict[str, Any] = {"limit": 64, "dev_limit": None, "checkpoint_steps": 5}
    results = tmp_path / "results"
    plan = tiny_plan(study, results, ray="local", jobs=2, **more)
    reports: list[Any] = []
    executor = RayExecutor("local", jobs=2, use_cpu=True)
    thread = threading.Thread(target=lambda: reports.append(carried_out(plan, executor)[0]))
    thread.start()
    killed: tuple[str, int] | None = None
    seen: dict[str, set[int]] = {}
    together = 0
    while thread.is_alive():
        at_work = holders(results)
        together = max(together, len(at_work))
        for address, note in at_work.items():
            seen.setdefault(address, set()).add(note.get("process", 0))
            saved = list(results.glob(f".work/{address}/run/checkpoints/checkpoint-*/trainer_state.json"))
            if killed is None and saved and note.get("process"):
                killed = (address, note["process"])
                os.kill(note["process"], signal.SIGKILL)
        time.sleep(0.02)
    thread.join()
    (report,) = reports
    assert killed is not None and together == 2
    assert len(seen[killed[0]] - {0}) == 2  # another process went on with the run
    assert report.failed == () and len(report.completed) == len(RecordStore(results).records) == 3
    seed = next(order.inputs.config.seed for order in report.completed if order.address == killed[0])
    carried_out(tiny_plan(study.model_copy(update={"seeds": (seed,)}), tmp_path / "whole", **more))
    label = f"{TASK}/mask-seed{seed}.json"
    first, second = (weights_with(folder / label, tiny_base) for folder in (results, tmp_path / "whole"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow  # importing Ray alone takes seconds
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_told(address: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(
        ConfigurationError, match=f"the Ray cluster '{address}' cannot be reached: .*refused; start one"
    ):
        RayExecutor(address)
