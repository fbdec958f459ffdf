"""Training in two processes does what training in one does."""

from __future__ import annotations

from typing import Any

import pytest

import train_in_two
from two_processes import QUICK, as_tensors, assert_same, in_two_processes

SLOW = ("checkpointing", "freezing", "pruning")
OTHERS = ("per-rank", "8bit")
MORE = tuple(f"train:{case}" for case in SLOW + OTHERS)


def losses(record: dict[str, Any]) -> list[float]:
    return [row["loss"] for row in record["log"]]


def check(case: str, results: list[Any]) -> None:
    one = train_in_two.train(case)
    (changes, record), (others_changes, others_record) = results
    assert_same(changes, others_changes, exactly=True)
    assert record == others_record
    assert_same(changes, as_tensors(one.delta))
    assert record["delta"]["zeros"] == one.record.delta.zeros
    assert losses(record) == pytest.approx(losses(one.record.model_dump(mode="json")), abs=2e-5)
    assert record["scores"] == one.record.scores
    assert (record["processes"], one.record.processes) == (2, 1)
    assert record["steps"] == one.record.steps == 6


@pytest.mark.parametrize("case", ["supermask", *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW)])
def test_two_processes_do_what_one_does(case: str) -> None:
    results = in_two_processes(*(QUICK if case == "supermask" else MORE))[f"train:{case}"]
    check(case, results)
    assert case != "supermask" or results[0][1]["delta"]["zeros"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("case", OTHERS)
def test_processes_agree_whatever_they_draw(case: str) -> None:
    (changes, record), (others_changes, others_record) = in_two_processes(*MORE)[f"train:{case}"]
    assert_same(changes, others_changes, exactly=True)
    assert record == others_record
    one = train_in_two.train(case)
    ours, theirs = losses(record), losses(one.record.model_dump(mode="json"))
    # The first loss is of the same weights: under the same mask, or under two of which one is the same.
    assert ours[0] == pytest.approx(theirs[0], abs=2e-2)
    assert (ours[0] == pytest.approx(theirs[0], abs=2e-5)) == (case != "per-rank")


def test_an_error_of_the_first_process_stops_all() -> None:
    first, second = in_two_processes(*QUICK)["train:refusals"]
    assert first == second
    kind, message = first["taken"]
    assert kind == "OutputError" and "already holds a run" in message
    kind, message = first["indivisible"]
    assert kind == "ConfigurationError" and "2 processes times 1 micro-batches; take a multiple of 2" in message


def test_a_finished_run_is_found_by_all() -> None:
    results = in_two_processes(*QUICK)
    started = results["train:supermask"][0][1]["started"]
    assert {errors["finished"][1] for errors in results["train:refusals"]} == {started}
