"""The live table of a study on a terminal."""

from __future__ import annotations

import time
from typing import Any, Final, final

from supermask.study.estimates import TimeLeft, shown_duration
from supermask.study.planning import Plan, PlannedRun
from supermask.study.progress import Reporter, score_in_words
from supermask.training import RunRecord

__all__ = ["LiveReporter"]

_SHOWN: Final = 6


@final
class LiveReporter(Reporter):
    """What runs now, what is done, what has failed, and how long the rest takes; drawn anew twice a second.

    Args:
        console: a rich console; one on standard error by default.
    """

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self.console = console or Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._plan = Plan(())
        self._left = TimeLeft({})
        self._running: dict[str, tuple[PlannedRun, float]] = {}
        self._ended: list[tuple[PlannedRun, str, str]] = []
        self._completed = self._failures = 0
        self._live = Live(console=self.console, auto_refresh=False, get_renderable=self.renderable)

    def begin(self, plan: Plan, *, slots: int) -> None:
        """As `Reporter.begin`."""
        self._plan = plan
        self._left = TimeLeft({run.order.address: run.seconds for run in plan.to_do}, slots)
        self._live.start()

    def started(self, run: PlannedRun) -> None:
        """As `Reporter.started`."""
        now = time.monotonic()
        self._running[run.order.address] = (run, now)
        self._left.start(run.order.address, now)
        self.tick()

    def completed(self, run: PlannedRun, record: RunRecord, *, here: bool) -> None:
        """As `Reporter.completed`."""
        took = self._forget(run, made=here)
        self._completed += 1
        how = shown_duration(took) if here else "another runner"
        self._ended.append((run, score_in_words(record), how))
        self.tick()

    def failed(self, run: PlannedRun, error: str) -> None:
        """As `Reporter.failed`."""
        took = self._forget(run, made=False)
        self._failures += 1
        self._ended.append((run, f"FAILED: {error}", shown_duration(took)))
        self.tick()

    def note(self, text: str) -> None:
        """As `Reporter.note`; it stands above the table and stays."""
        self.console.print(text)

    def tick(self) -> None:
        """As `Reporter.tick`."""
        self._live.refresh()

    def end(self) -> None:
        """As `Reporter.end`; the last table stays."""
        self._live.stop()

    def renderable(self) -> Any:
        """The table as it is now."""
        from rich import box
        from rich.table import Table

        recorded = len(self._plan.of("recorded")) + self._completed
        title = f"{recorded} of {len(self._plan.runs)} runs recorded"
        title += f", {self._failures} failed" if self._failures else ""
        title += f"; {shown_duration(self._left.seconds(time.monotonic()))} to go"
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="bold")
        table.add_column("run", no_wrap=True)
        table.add_column("")
        table.add_column("time", justify="right", no_wrap=True)
        for run, what, took in self._ended[-_SHOWN:]:
            table.add_row(run.order.name, what, took, style="red" if what.startswith("FAILED") else "dim")
        for run, began in self._running.values():
            elapsed = time.monotonic() - began
            table.add_row(run.order.name, _position(run), f"{shown_duration(elapsed)} of {shown_duration(run.seconds)}")
        return table

    def _forget(self, run: PlannedRun, *, made: bool) -> float:
        self._running.pop(run.order.address, None)
        return self._left.end(run.order.address, time.monotonic(), made=made)


def _position(run: PlannedRun) -> str:
    """Where a run stands, as far as its checkpoints tell."""
    last = run.order.folder.last_checkpoint()
    if last is None:
        return f"{run.steps} steps"
    return f"past step {last.name.removeprefix('checkpoint-')} of {run.steps}"
