from pathlib import Path
from typing import Any

import pytest

from supermask.study import RecordStore, RunSpec, load_study, runs_of
from supermask.study.pace import Pace, seconds_left
from tiny_records import FINGERPRINT, tiny_record

SIZES = {"train": 3668, "dev": 408}


def run(task: str, arm: str) -> RunSpec:
    return next(run for run in runs_of(load_study("figure3")) if (run.task, run.arm) == (task, arm))


def pace(folder: Path, *recorded: tuple[RunSpec, dict[str, Any]]) -> Pace:
    for number, (one, changes) in enumerate(recorded):
        tiny_record(one).model_copy(update=changes).save(folder / f"{number}.json")
    return Pace(RecordStore(folder))


def test_the_closest_records_count(tmp_path: Path) -> None:
    mask, full, rte = run("mrpc", "supermask"), run("mrpc", "full"), run("rte", "full")
    of_rte = (rte, {"train_seconds": 234 * 4.0, "evaluation_seconds": 277 * 0.4, "steps": 234})
    of_full = (full, {"train_seconds": 690.0, "evaluation_seconds": 408 * 0.2, "steps": 345})
    of_mask = (mask, {"train_seconds": 345.0, "evaluation_seconds": 408 * 11 * 0.1, "steps": 345})

    def seconds(folder: str, *recorded: tuple[RunSpec, dict[str, Any]], asked: RunSpec) -> float:
        found = pace(tmp_path / folder, *recorded).seconds(asked, FINGERPRINT, steps=100, examples=SIZES)
        assert found is not None
        return found

    assert seconds("all", of_mask, of_full, of_rte, asked=mask) == pytest.approx(100 + 408 * 11 * 0.1)
    # No mask is recorded: the other method on the same task; no such task: the base at large.
    assert seconds("other method", of_full, of_rte, asked=mask) == pytest.approx(200 + 408 * 11 * 0.2)
    assert seconds("other task", of_rte, asked=full) == pytest.approx(400 + 408 * 0.4)


def test_what_is_not_known_is_none(tmp_path: Path) -> None:
    mask = run("mrpc", "supermask")
    failed = pace(tmp_path / "failed", (mask, {"status": "failed"}))
    assert failed.seconds(mask, FINGERPRINT, steps=1, examples=SIZES) is None
    assert pace(tmp_path / "done", (mask, {})).seconds(mask, "another", steps=1, examples=SIZES) is None


def test_what_is_left_is_learnt_from_what_is_made() -> None:
    assert seconds_left([None, None], took=[10.0, 20.0]) == 30.0
    assert seconds_left([50.0, None], took=[10.0]) == 100.0  # the unknown one like the known
    assert seconds_left([30.0, 10.0], slots=2) == 20.0
    assert (seconds_left([]), seconds_left([None])) == (0.0, None)
