"""How long runs take, from what is recorded of like runs."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Mapping, Sequence
from typing import final

from supermask.study.expansion import RunSpec
from supermask.study.records import RecordStore
from supermask.training.record import RunInputs

__all__ = ["Pace", "seconds_left", "shown_duration"]


@final
class Pace:
    """Seconds a step and seconds a scored example, as recorded; what was not completed is left out."""

    def __init__(self, store: RecordStore) -> None:
        self._training: dict[tuple[object, ...], list[float]] = {}
        self._scoring: dict[tuple[object, ...], list[float]] = {}
        for stored in store.records:
            record = stored.record
            if record.status == "completed" and record.steps and record.train_seconds > 0:
                scored = _scored({split: info.examples for split, info in record.inputs.data.items()}) * (
                    1 + (stored.draws or 0)
                )
                for place in _places(record.inputs, record.inputs.base.fingerprint):
                    self._training.setdefault(place, []).append(record.train_seconds / record.steps)
                    if scored:
                        self._scoring.setdefault(place, []).append(record.evaluation_seconds / scored)

    def seconds(self, run: RunSpec, base: str, *, steps: int, examples: Mapping[str, int]) -> float | None:
        """How long a run takes; None if there is no record of the base at all.

        The closest records count: of the same task and method, else of the task, else of the base.

        Args:
            run, base, steps: the run, its base's fingerprint, and its optimizer steps.
            examples: split to how many it has.
        """
        step, example = (
            next((statistics.median(pace[place]) for place in _places(run, base) if place in pace), None)
            for pace in (self._training, self._scoring)
        )
        if step is None or example is None:
            return None
        passes = 1 + (run.draws if run.method["kind"] == "supermask" else 0)
        return steps * step + _scored(examples) * passes * example


def seconds_left(seconds: Sequence[float | None], slots: int = 1, took: Sequence[float] = ()) -> float | None:
    """How long runs take; None if nothing is known of any.

    Args:
        seconds: what each is thought to take; one of which nothing is known counts like the mean of the rest.
        slots: how many run at a time.
        took: what runs took that were made meanwhile, which count if nothing else is known.

    Example:
        >>> seconds_left([100.0, None, 50.0], slots=3), seconds_left([None], took=[7.0]), seconds_left([None])
        (75.0, 7.0, None)
    """
    known = [one for one in seconds if one is not None] or took
    if not seconds:
        return 0.0
    return statistics.fmean(known) * len(seconds) / slots if known else None


def shown_duration(seconds: float | None) -> str:
    """A duration for people.

    Example:
        >>> shown_duration(75.3), shown_duration(200_000), shown_duration(None)
        ('0:01:15', '2 days, 7:33:20', 'unknown')
    """
    return "unknown" if seconds is None else str(datetime.timedelta(seconds=round(seconds)))


def _places(of: RunSpec | RunInputs, base: str) -> list[tuple[object, ...]]:
    batch = of.config.batch_size
    return [(base, batch, of.task, of.method.get("kind")), (base, batch, of.task), (base, batch)]


def _scored(examples: Mapping[str, int]) -> int:
    return sum(count for split, count in examples.items() if split != "train")
