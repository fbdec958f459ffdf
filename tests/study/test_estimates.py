from __future__ import annotations

from typing import Any

from supermask.study import RunSpec, load_study, runs_of
from supermask.study.estimates import Pace
from supermask.training import RunRecord
from tiny_records import tiny_record


def record(task: str, arm: str, **changes: Any) -> tuple[RunSpec, RunRecord]:
    (run,) = [run for run in runs_of(load_study("figure3")) if (run.task, run.arm) == (task, arm)]
    return run, tiny_record(run).model_copy(update=changes)


def test_the_closest_records_count() -> None:
    run, mask = record("mrpc", "supermask", train_seconds=345.0, evaluation_seconds=408 * 11 * 0.1, steps=345)
    _, full = record("mrpc", "full", train_seconds=690.0, evaluation_seconds=408 * 0.2, steps=345)
    _, rte = record("rte", "full", train_seconds=234 * 4.0, evaluation_seconds=277 * 0.4, steps=234)
    inputs = mask.inputs
    pace = Pace([mask, full, rte])
    assert round(pace.seconds(inputs, steps=100, draws=10) or 0) == round(100 + 408 * 11 * 0.1)
    # No mask is recorded: the other method on the same task; no such task: the base at large.
    assert round(Pace([full, rte]).seconds(inputs, steps=100, draws=0) or 0) == round(200 + 408 * 0.2)
    assert round(Pace([rte]).seconds(inputs, steps=100, draws=0) or 0) == round(400 + 408 * 0.4)
    assert run.method["kind"] == "supermask"


def test_what_is_not_known_is_none() -> None:
    _, mask = record("mrpc", "supermask")
    failed = mask.model_copy(update={"status": "failed"})
    assert Pace([failed]).seconds(mask.inputs, steps=1, draws=1) is None
    base = mask.inputs.base.model_copy(update={"fingerprint": "other"})
    assert Pace([mask]).seconds(mask.inputs.model_copy(update={"base": base}), steps=1, draws=1) is None
