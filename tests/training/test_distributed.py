from pathlib import Path
from typing import Any

import pytest
import torch

import supermask
from supermask import Freezing, Method, Pruning, Supermask, TrainingConfig
from tiny_models import NO_DROPOUT, tiny_model
from tiny_tasks import tiny_data, tiny_run
from two_processes import QUICK, as_tensors, assert_same, in_two_processes

CONFIG = TrainingConfig(epochs=2, batch_size=4, head_learning_rate=1e-2, learning_rate=1e-2, logging_steps=1)
MASK = Supermask(learning_rate=3.0)

WAYS: dict[str, tuple[Method, dict[str, Any]]] = {
    "supermask": (MASK, {}),
    "per-rank": (MASK, {"mask_draws": "per_rank"}),
    "checkpointing": (MASK, {"gradient_checkpointing": True, "gradient_accumulation": 2}),
    "8bit": (MASK, {"mask_optimizer_state": "8bit", "precision": "bf16"}),
    "freezing": (Freezing(exclude="key"), {}),
    "pruning": (Pruning(sparsity=0.4), {}),
}


def train(case: str, folder: Path | None = None, **options: Any) -> supermask.Run:
    """One training: 11 examples, so that the last batch is of 3 and cannot be halved."""
    method, settings = WAYS[case]
    model, data = tiny_model("bert", **NO_DROPOUT), tiny_data(train=11, dev=4)
    return tiny_run(
        method, CONFIG.model_copy(update=settings), model=model, data=data, output_dir=folder, draws=2, **options
    )


def act(case: str, folder: Path) -> Any:
    """What one of two processes does, and what it comes to."""
    if case == "refusals":
        return _refusals(folder)
    run = train(case, folder / case)
    assert run.first == (torch.distributed.get_rank() == 0)
    return as_tensors(run.delta), run.record.model_dump(mode="json")


def _refusals(folder: Path) -> dict[str, tuple[str, str]]:
    """Errors by what was tried after `supermask` has been learnt; and when that began, told by resuming it."""
    tries = {
        "taken": lambda: train("supermask", folder / "supermask"),
        "indivisible": lambda: tiny_run(MASK, CONFIG.model_copy(update={"batch_size": 3})),
    }
    errors = {}
    for name, attempt in tries.items():
        try:
            attempt()
        except supermask.SupermaskError as error:
            errors[name] = (type(error).__name__, str(error))
    errors["finished"] = ("", train("supermask", folder / "supermask", resume=True).record.started)
    return errors


SLOW = ("checkpointing", "freezing", "pruning")
OTHERS = ("per-rank", "8bit")
MORE = tuple(f"train:{case}" for case in SLOW + OTHERS)


def losses(record: dict[str, Any]) -> list[float]:
    return [row["loss"] for row in record["log"]]


def check(case: str, results: list[Any]) -> None:
    one = train(case)
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
    one = train(case)
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
