"""What is told while a study runs: plain lines, or on a terminal a table that lives."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from typing import TextIO, final

from supermask.study.estimates import TimeLeft, shown_duration
from supermask.study.planning import Plan, PlannedRun
from supermask.training import RunRecord

__all__ = ["PlainReporter", "Reporter", "SilentReporter", "score_in_words", "status_in_words"]


class Reporter(ABC):
    """Hears of everything that happens to the runs of a plan."""

    @abstractmethod
    def begin(self, plan: Plan, *, slots: int) -> None:
        """The plan is made, and work begins."""

    @abstractmethod
    def started(self, run: PlannedRun) -> None:
        """A run was begun, or gone on with."""

    @abstractmethod
    def completed(self, run: PlannedRun, record: RunRecord, *, here: bool) -> None:
        """A run is recorded; `here` says whether this runner made it, and not another one."""

    @abstractmethod
    def failed(self, run: PlannedRun, error: str) -> None:
        """A run did not go through."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Something else that a reader should know."""

    def tick(self) -> None:
        """Some time has passed."""

    def end(self) -> None:
        """No more will happen."""


@final
class SilentReporter(Reporter):
    """Tells nothing."""

    def begin(self, plan: Plan, *, slots: int) -> None:
        """Nothing."""

    def started(self, run: PlannedRun) -> None:
        """Nothing."""

    def completed(self, run: PlannedRun, record: RunRecord, *, here: bool) -> None:
        """Nothing."""

    def failed(self, run: PlannedRun, error: str) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


@final
class PlainReporter(Reporter):
    """A line for each event: for logs and pipes.

    Args:
        stream: where they go; standard error by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self._left = TimeLeft({})

    def begin(self, plan: Plan, *, slots: int) -> None:
        """As `Reporter.begin`."""
        self._left = TimeLeft({run.order.address: run.seconds for run in plan.to_do}, slots)
        self._say(
            f"{len(plan.runs)} runs: {len(plan.of('recorded'))} recorded, {len(plan.to_do)} to do, {slots} at a time; "
            f"time: {shown_duration(plan.seconds_left(slots))}"
        )

    def started(self, run: PlannedRun) -> None:
        """As `Reporter.started`."""
        self._left.start(run.order.address, time.monotonic())
        self._say(f"{run.order.name}: started, {run.steps} steps, about {shown_duration(run.seconds)}")

    def completed(self, run: PlannedRun, record: RunRecord, *, here: bool) -> None:
        """As `Reporter.completed`."""
        took = self._left.end(run.order.address, time.monotonic(), made=here)
        how = f"in {shown_duration(took)}" if here else "by another runner"
        self._say(f"{run.order.name}: {score_in_words(record)}, {how}; {self._left_in_words()}")

    def failed(self, run: PlannedRun, error: str) -> None:
        """As `Reporter.failed`."""
        self._left.end(run.order.address, time.monotonic(), made=False)
        self._say(f"{run.order.name}: FAILED: {error}; {self._left_in_words()}")

    def note(self, text: str) -> None:
        """As `Reporter.note`."""
        self._say(text)

    def _left_in_words(self) -> str:
        left = self._left
        return f"{len(left)} left, {shown_duration(left.seconds(time.monotonic()))}" if len(left) else "nothing left"

    def _say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


def score_in_words(record: RunRecord) -> str:
    """The first score of a record, and its zeros: `f1 85.11, 1.61 % zeros`."""
    words = []
    for metrics in list(record.scores.values())[:1]:
        words += [f"{metric} {100 * value:.2f}" for metric, value in list(metrics.items())[:1]]
    if record.delta is not None and record.delta.constrained_weights:
        words.append(f"{100 * record.delta.sparsity:.2f} % zeros")
    return ", ".join(words) or "no score"


def status_in_words(plan: Plan) -> str:
    """How many runs are in which state."""
    counts = {state: len(plan.of(state)) for state in ("recorded", "new", "failed", "elsewhere")}
    names = {"new": "missing", "failed": "failed before", "elsewhere": "at work elsewhere"}
    return ", ".join(f"{count} {names.get(state, state)}" for state, count in counts.items() if count)
