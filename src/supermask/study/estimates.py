"""How long a run will take, from what is recorded of like runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import final

from supermask.training import RunRecord
from supermask.training.record import RunInputs

__all__ = ["Pace", "TimeLeft", "shown_duration"]


@final
class Pace:
    """Seconds a step and seconds a scored example, as recorded.

    Args:
        records: of completed and other runs; those that were not completed are left out.
    """

    def __init__(self, records: Iterable[RunRecord]) -> None:
        self._training: dict[tuple[str, ...], list[float]] = {}
        self._scoring: dict[tuple[str, ...], list[float]] = {}
        for record in records:
            if record.status == "completed" and record.steps and record.train_seconds > 0:
                self._add(record)

    def seconds(self, inputs: RunInputs, *, steps: int, draws: int) -> float | None:
        """How long a run takes; None if there is no record of the base at all.

        The closest records count: of the same task and method, else of the task, else of the base.

        Args:
            inputs: of the run.
            steps: its optimizer steps.
            draws: masks that it will sample for its score.
        """
        step, example = (_closest(pace, inputs) for pace in (self._training, self._scoring))
        if step is None or example is None:
            return None
        return steps * step + _scored(inputs) * (1 + draws) * example

    def _add(self, record: RunRecord) -> None:
        spreads = [one for metrics in record.sampled_scores.values() for one in metrics.values()]
        passes = 1 + (len(spreads[0].values) if spreads else 0)
        scored = _scored(record.inputs) * passes
        for place in _places(record.inputs):
            self._training.setdefault(place, []).append(record.train_seconds / record.steps)
            if scored:
                self._scoring.setdefault(place, []).append(record.evaluation_seconds / scored)


@final
class TimeLeft:
    """How long the rest of a plan takes, learning from the runs that are made meanwhile.

    Args:
        seconds: what each run is thought to take, by any name; None where nothing is known.
        slots: runs at a time.
    """

    def __init__(self, seconds: Mapping[str, float | None], slots: int = 1) -> None:
        self._left = dict(seconds)
        self._slots = slots
        self._began: dict[str, float] = {}
        self._took: list[float] = []

    def __len__(self) -> int:
        return len(self._left)

    def start(self, name: str, now: float) -> None:
        """A run has begun."""
        self._began[name] = now

    def end(self, name: str, now: float, *, made: bool = True) -> float:
        """A run has ended; gives the seconds it took. If it was not made to its end, nothing is learnt from it."""
        self._left.pop(name, None)
        took = now - self._began.pop(name, now)
        if made:
            self._took.append(took)
        return took

    def seconds(self, now: float) -> float | None:
        """How long the rest takes; None if nothing is known of any run."""
        if not self._left:
            return 0.0
        known = [seconds for seconds in self._left.values() if seconds is not None] or self._took
        if not known:
            return None
        usual = sum(known) / len(known)
        rest = 0.0
        for name, seconds in self._left.items():
            rest += max(0.0, (usual if seconds is None else seconds) - (now - self._began.get(name, now)))
        return rest / self._slots


def shown_duration(seconds: float | None) -> str:
    """A duration for people.

    Example:
        >>> shown_duration(75), shown_duration(4000), shown_duration(200_000), shown_duration(None)
        ('1 min 15 s', '1 h 06 min', '2 d 7 h', 'unknown')
    """
    if seconds is None:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _places(inputs: RunInputs) -> list[tuple[str, ...]]:
    base = inputs.base.fingerprint
    batch = str(inputs.config.batch_size)
    return [(base, batch, inputs.task, str(inputs.method.get("kind"))), (base, batch, inputs.task), (base, batch)]


def _closest(pace: dict[tuple[str, ...], list[float]], inputs: RunInputs) -> float | None:
    found = next((pace[place] for place in _places(inputs) if place in pace), None)
    return statistics.median(found) if found else None


def _scored(inputs: RunInputs) -> int:
    return sum(info.examples for split, info in inputs.data.items() if split != "train")
