"""Runs in processes of their own: killed, stopped, gone on with."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from supermask.study import RecordStore, Study
from supermask.study.executors import InlineExecutor, ProcessExecutor
from supermask.study.locks import holders
from supermask.study.orders import RunOrder
from supermask.study.progress import SilentReporter
from supermask.study.records import delta_path
from supermask.study.runner import RunSettings, prepare, run_prepared
from supermask.study.worker import BUSY, FAILED
from supermask.training import RunRecord
from tiny_command import call
from tiny_studies import FULL, MASK, TASK, tiny_study, weights_with, yaml_of

PATIENCE = 120.0
LONG: dict[str, Any] = {"max_steps": 36, "batch_size": 8, "max_length": 24}


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def order_of(study: Study, folder: Path) -> RunOrder:
    settings = RunSettings(results=folder / "results", limit=16, dev_limit=12, use_cpu=True)
    return prepare([study], settings).plan.runs[0].order


@pytest.mark.skipif(sys.platform != "linux", reason="kills processes and looks at /proc")
def test_after_kill_9_of_the_runner_nothing_is_lost_and_the_delta_is_the_same(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    study = tiny_study(tiny_base, arms=[MASK], config=LONG)
    (tmp_path / "tiny.yaml").write_text(yaml_of(study))
    results = tmp_path / "results"
    command = ["study", "run", str(tmp_path / "tiny.yaml"), "--results", str(results), "--limit", "64"]
    command += ["--checkpoint-steps", "5", "--cpu"]
    runner = subprocess.Popen([sys.executable, "-m", "supermask", *command], stderr=subprocess.DEVNULL)
    try:
        until(lambda: [*results.glob(".work/*/run/checkpoints/checkpoint-*/trainer_state.json")])
        (note,) = holders(results).values()
    finally:
        runner.send_signal(signal.SIGKILL)
        runner.wait()
    until(lambda: not alive(note["process"]))  # the worker does not outlive its runner
    until(lambda: holders(results) == {})
    assert not list(results.glob(f"{TASK}/*.json"))
    assert list(results.glob(".work/*/run/checkpoints/checkpoint-*"))

    outcome = call(*command)
    assert outcome.exit_code == 0, outcome.stderr
    assert f"{TASK}/mask-seed0: started, 36 steps" in outcome.stderr
    assert f"{results}: 1 runs made, 0 recorded before" in outcome.stdout
    assert not list(results.glob(".work/*/run"))
    again = call(*command)
    assert again.exit_code == 0 and "0 runs made, 1 recorded before" in again.stdout

    whole = RunSettings(results=tmp_path / "whole", limit=64, checkpoint_steps=5, use_cpu=True)
    run_prepared(prepare([study], whole), SilentReporter(), InlineExecutor())
    records = [RunRecord.load(folder / TASK / "mask-seed0.json") for folder in (results, tmp_path / "whole")]
    first, second = (
        weights_with(folder / TASK / "mask-seed0.json", tiny_base) for folder in (results, tmp_path / "whole")
    )
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert records[0].scores == records[1].scores and records[0].inputs == records[1].inputs
    assert records[0].sampled_scores == records[1].sampled_scores and records[0].delta == records[1].delta


@pytest.mark.skipif(sys.platform != "linux", reason="kills processes")
def test_a_worker_that_is_killed_costs_one_run(tiny_base: Path, tmp_path: Path) -> None:
    order = order_of(tiny_study(tiny_base, arms=[FULL]), tmp_path)
    executor = ProcessExecutor(threads=1)
    executor.start(order)
    os.kill(executor._running[0].process.pid, signal.SIGKILL)
    (finished,) = until(lambda: executor.wait(0.2))
    assert (finished.outcome, finished.order) == (FAILED, order)
    assert finished.death == "the worker was ended by SIGKILL; was there too little memory?"
    assert executor._free == [None]


def test_a_worker_that_dies_says_why(tiny_base: Path, tmp_path: Path) -> None:
    order = order_of(tiny_study(tiny_base, arms=[FULL]), tmp_path)
    executor = ProcessExecutor(launch=("sh", "-c", "echo out of luck; exit 3"))
    executor.start(order)
    (finished,) = until(lambda: executor.wait(0.2))
    assert finished.death is not None
    assert finished.death.startswith("the worker ended with exit code 3: out of luck (see ")


def test_a_dead_worker_is_recorded_as_a_failed_run(tiny_base: Path, tmp_path: Path) -> None:
    study = tiny_study(tiny_base, arms=[FULL])
    settings = RunSettings(results=tmp_path, launch=("false",), use_cpu=True, limit=16)
    report = run_prepared(prepare([study], settings), SilentReporter())
    ((_, error),) = report.runs.failed
    assert error.startswith("the worker ended with exit code 1: it printed nothing")
    record = RecordStore(tmp_path).records[0].record
    assert (record.status, record.error) == ("failed", error)


def test_the_exit_code_of_a_busy_worker_is_no_failure(tiny_base: Path, tmp_path: Path) -> None:
    order = order_of(tiny_study(tiny_base, arms=[FULL]), tmp_path)
    executor = ProcessExecutor(launch=("sh", "-c", f"exit {BUSY}"))
    executor.start(order)
    (finished,) = until(lambda: executor.wait(0.2))
    assert (finished.outcome, finished.death) == (BUSY, None)


def test_stopping_ends_a_worker_and_all_that_it_started(tiny_base: Path, tmp_path: Path) -> None:
    order = order_of(tiny_study(tiny_base, arms=[FULL]), tmp_path)
    executor = ProcessExecutor(launch=("sh", "-c", f"sleep 300 & echo $! > {tmp_path}/child; wait"))
    executor.start(order)
    child = int(until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text()))
    executor.stop()
    until(lambda: not alive(child))
    assert executor.wait(0.0) == []


def test_each_slot_has_its_device_and_its_share_of_the_cores(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supermask.study.executors.usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    show = ("sh", "-c", "echo devices=$CUDA_VISIBLE_DEVICES threads=$OMP_NUM_THREADS")
    executor = ProcessExecutor(["0", "1"], launch=show)
    orders = [order_of(tiny_study(tiny_base, arms=[FULL], seeds=[seed]), tmp_path) for seed in (0, 1)]
    for order in orders:
        executor.start(order)
    ended = 0
    while ended < 2:
        ended += len(executor.wait(0.2))
    assert {order.log_path.read_text().strip() for order in orders} == {"devices=0 threads=4", "devices=1 threads=4"}
    assert sorted(device or "" for device in executor._free) == ["0", "1"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    executor.start(orders[0])
    until(lambda: executor.wait(0.2))
    assert "threads=3" in orders[0].log_path.read_text()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_ctrl_c_ends_the_worker_too_and_the_same_command_goes_on(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "tiny.yaml").write_text(yaml_of(tiny_study(tiny_base, arms=[MASK], config=LONG)))
    results = tmp_path / "results"
    command = ["study", "run", str(tmp_path / "tiny.yaml"), "--results", str(results), "--limit", "64"]
    command += ["--checkpoint-steps", "5", "--cpu"]
    runner = subprocess.Popen([sys.executable, "-m", "supermask", *command], stderr=subprocess.PIPE, text=True)
    until(lambda: [*results.glob(".work/*/run/checkpoints/checkpoint-*/trainer_state.json")])
    (note,) = holders(results).values()
    runner.send_signal(signal.SIGINT)
    _, said = runner.communicate(timeout=PATIENCE)
    assert runner.returncode == 130
    assert said.endswith("stopped: nothing is lost; go on with the same command\n")
    until(lambda: not alive(note["process"]))
    assert list(results.glob(".work/*/run/checkpoints/checkpoint-*"))
    outcome = call(*command)
    assert outcome.exit_code == 0 and "1 runs made" in outcome.stdout


@pytest.mark.slow
def test_several_processes_can_share_one_run(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port)
    study = tiny_study(tiny_base, arms=[MASK])
    settings = RunSettings(results=tmp_path, limit=16, use_cpu=True, launch=launch)
    report = run_prepared(prepare([study], settings), SilentReporter())
    assert report.runs.failed == () and len(report.runs.completed) == 1
    (stored,) = RecordStore(tmp_path).records
    assert stored.record.processes == 2
    assert delta_path(tmp_path / stored.path).exists() and not list(tmp_path.glob(".work/*/run"))
