"""A plan carried out: what is recorded is skipped, what was cut off goes on, what fails is recorded and told."""

from __future__ import annotations

import shutil
import time
from collections import deque
from dataclasses import dataclass
from typing import Final, final

from supermask.errors import DataError
from supermask.study.executors import Executor, Finished
from supermask.study.locks import is_claimed
from supermask.study.planning import Plan, PlannedRun
from supermask.study.progress import Reporter
from supermask.study.records import measures_path
from supermask.study.worker import BUSY, note_failure
from supermask.training import RunRecord

__all__ = ["RunReport", "carry_out", "clear_work"]

_TICK_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 2.0


@final
@dataclass(frozen=True)
class RunReport:
    """What came of a plan.

    Args:
        completed: the runs that were made, here or by another runner meanwhile.
        failed: those that did not go through, with what stopped them.
    """

    completed: tuple[PlannedRun, ...]
    failed: tuple[tuple[PlannedRun, str], ...]


def carry_out(plan: Plan, executor: Executor, reporter: Reporter) -> RunReport:
    """Make every run of a plan that is not recorded.

    A run that another runner is at work on is left to it, and its record waited for; if that runner dies, the run is
    made here. A run that fails does not stop the others.

    Args:
        plan: the runs.
        executor: where they are made.
        reporter: hears of everything.

    Returns:
        What came of it.

    Raises:
        KeyboardInterrupt: after all workers have ended; the same call goes on where they stopped.
    """
    work = _Work(plan, executor, reporter)
    reporter.begin(plan, slots=executor.slots)
    try:
        work.do()
    except BaseException:
        executor.stop()
        raise
    finally:
        reporter.end()
    return RunReport(tuple(work.completed), tuple(work.failed))


@final
class _Work:
    def __init__(self, plan: Plan, executor: Executor, reporter: Reporter) -> None:
        self.executor, self.reporter = executor, reporter
        self.waiting = deque(plan.of("new", "failed"))
        self.elsewhere = list(plan.of("elsewhere"))
        self.running: dict[str, PlannedRun] = {}
        self.completed: list[PlannedRun] = []
        self.failed: list[tuple[PlannedRun, str]] = []
        self._looked = 0.0

    def do(self) -> None:
        while self.waiting or self.running or self.elsewhere:
            while self.waiting and len(self.running) < self.executor.slots:
                run = self.waiting.popleft()
                if is_claimed(run.order.lock_path):
                    self.elsewhere.append(run)
                    continue
                self.running[run.order.address] = run
                self.reporter.started(run)
                self.executor.start(run.order)
            for finished in self.executor.wait(_TICK_SECONDS if self.running else 0.0):
                self._take(finished)
            self._look_elsewhere()
            self.reporter.tick()

    def _take(self, finished: Finished) -> None:
        run = self.running.pop(finished.order.address)
        if finished.outcome == BUSY:
            self.elsewhere.append(run)
            return
        if finished.death is not None:
            note_failure(run.order, finished.death)
        self._settle(run, here=True)

    def _look_elsewhere(self) -> None:
        if not self.elsewhere or time.monotonic() - self._looked < _LOOK_SECONDS:
            if not self.running and self.elsewhere:
                time.sleep(_TICK_SECONDS)
            return
        self._looked = time.monotonic()
        for run in list(self.elsewhere):
            if is_claimed(run.order.lock_path):
                continue
            self.elsewhere.remove(run)
            record = _record(run)
            if record is not None and record.status == "completed":
                self._settle(run, here=False)
            else:
                self.waiting.append(run)

    def _settle(self, run: PlannedRun, *, here: bool) -> None:
        record = _record(run)
        if record is not None and record.status == "completed":
            clear_work(run)
            self.completed.append(run)
            self.reporter.completed(run, record, here=here)
            return
        error = (record.error if record is not None else None) or "the worker left no record"
        self.failed.append((run, error))
        self.reporter.failed(run, error)


def clear_work(run: PlannedRun) -> None:
    """Remove what a recorded run resumed from, unless its delta is there and not measured yet."""
    if measures_path(run.order.record_path).exists():
        shutil.rmtree(run.order.work, ignore_errors=True)


def _record(run: PlannedRun) -> RunRecord | None:
    """The record that a worker put in its place."""
    try:
        return RunRecord.load(run.order.record_path)
    except DataError:
        return None
