"""Runs on a real Ray cluster of this machine with two workers, one of which is killed in the middle of its run."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from supermask.errors import ConfigurationError
from supermask.study import RecordStore
from supermask.study.executors import InlineExecutor
from supermask.study.locks import holders
from supermask.study.progress import SilentReporter
from supermask.study.runner import RunSettings, StudyReport, prepare, run_prepared
from tiny_studies import MASK, TASK, tiny_study, weights_with

pytest.importorskip("ray")

LONG: dict[str, Any] = {"max_steps": 60, "batch_size": 8, "max_length": 24}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="kills a process")
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_killed_worker_is_replaced_and_goes_on(tiny_base: Path, tmp_path: Path) -> None:
    study = tiny_study(tiny_base, arms=[MASK], seeds=[0, 1, 2], config=LONG)
    results = tmp_path / "results"
    settings = RunSettings(results=results, limit=64, checkpoint_steps=5, use_cpu=True, ray="local", jobs=2)
    reports: list[StudyReport] = []
    thread = threading.Thread(target=lambda: reports.append(run_prepared(prepare([study], settings), SilentReporter())))
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
    assert report.runs.failed == () and len(report.runs.completed) == 3
    assert len(RecordStore(results).records) == 3

    seed = next(run.order.config.seed for run in report.runs.completed if run.order.address == killed[0])
    whole = RunSettings(results=tmp_path / "whole", limit=64, checkpoint_steps=5, use_cpu=True)
    run_prepared(prepare([study.model_copy(update={"seeds": (seed,)})], whole), SilentReporter(), InlineExecutor())
    label = f"{TASK}/mask-seed{seed}.json"
    first, second = (weights_with(folder / label, tiny_base) for folder in (results, tmp_path / "whole"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow  # importing Ray alone takes seconds
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_told(address: str) -> None:
    from supermask.study.ray_runner import RayExecutor

    with pytest.raises(
        ConfigurationError, match=f"the Ray cluster '{address}' cannot be reached: .*refused; start one"
    ):
        RayExecutor(address)
