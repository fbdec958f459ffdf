"""What is told while a study runs: a line an event, and on a terminal bars below them of what runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from supermask.study.orders import RunOrder, reached_step
from supermask.study.pace import seconds_left, shown_duration
from supermask.training import RunRecord

__all__ = ["StudyProgress", "score_in_words"]


@final
class StudyProgress:
    """Hears of everything that happens to the runs of a plan, and tells it.

    Args:
        console: where to; standard error by default. One that is `quiet` tells nothing.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        name = TextColumn("{task.description}", markup=False)
        columns = (name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._all = self._bars.add_task("runs")
        self._left: dict[str, float | None] = {}
        self._running: dict[str, tuple[RunOrder, TaskID, float]] = {}
        self._took: list[float] = []
        self._slots = 1

    def begin(self, orders: Sequence[RunOrder], *, recorded: int, slots: int) -> None:
        """So many runs are recorded, these are to be made, and work begins."""
        self._left = {order.address: order.seconds for order in orders}
        self._slots = slots
        count = recorded + len(orders)
        self._bars.update(self._all, total=count, completed=recorded)
        self._bars.start()
        self.note(
            f"{count} runs: {recorded} recorded, {len(orders)} to do, {slots} at a time; time: {self._time_left()}"
        )

    def started(self, order: RunOrder) -> None:
        """A run was begun, or gone on with."""
        self._running[order.address] = (order, self._bars.add_task(order.name, total=order.steps), time.monotonic())
        self.note(f"{order.name}: started, {order.steps} steps, about {shown_duration(order.seconds)}")

    def completed(self, order: RunOrder, record: RunRecord, *, here: bool) -> None:
        """A run is recorded; `here` says whether this runner made it, and not another one."""
        took = self._end(order)
        if here:
            self._took.append(took)
        self._bars.advance(self._all)
        how = f"in {shown_duration(took)}" if here else "by another runner"
        self.note(f"{order.name}: {score_in_words(record)}, {how}; {self._rest()}")

    def failed(self, order: RunOrder, error: str) -> None:
        """A run did not go through."""
        self._end(order)
        self.note(f"{order.name}: FAILED: {error}; {self._rest()}")

    def note(self, text: str) -> None:
        """Something that a reader should know: one line, which cannot steer a terminal."""
        line = "".join(character if character.isprintable() else " " for character in text)
        self._console.print(line, soft_wrap=True, highlight=False, markup=False, emoji=False)

    def tick(self) -> None:
        """Some time has passed: the bars go as far as the checkpoints."""
        for order, bar, _ in self._running.values() if not self._bars.disable else ():
            self._bars.update(bar, completed=reached_step(order.work) or 0)

    def end(self) -> None:
        """No more will happen."""
        self._bars.stop()

    def _end(self, order: RunOrder) -> float:
        self._left.pop(order.address, None)
        if order.address not in self._running:
            return 0.0
        _, bar, began = self._running.pop(order.address)
        self._bars.remove_task(bar)
        return time.monotonic() - began

    def _rest(self) -> str:
        return f"{len(self._left)} left, {self._time_left()}" if self._left else "nothing left"

    def _time_left(self) -> str:
        return shown_duration(seconds_left(list(self._left.values()), self._slots, self._took))


def score_in_words(record: RunRecord) -> str:
    """The first score of a record, and its zeros: `f1 85.11, 1.61 % zeros`."""
    scores = next(iter(record.scores.values()), {})
    words = [f"{metric} {100 * value:.2f}" for metric, value in list(scores.items())[:1]]
    if record.delta is not None and record.delta.constrained_weights:
        words.append(f"{100 * record.delta.sparsity:.2f} % zeros")
    return ", ".join(words) or "no score"
