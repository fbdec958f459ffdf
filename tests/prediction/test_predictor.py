"""From a task model to logits: batches padded once, for any number of masks; weights merged once."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from supermask.training.encoding import encode
from supermask.training.predicting import padded_batches, predict_logits

import supermask
from supermask import Supermask, TaskDelta, TrainingConfig
from supermask.tasks import TaskData
from supermask.training import predicting
from tiny_models import tiny_model
from tiny_tasks import tiny_data, tiny_tokenizer

MASK = Supermask(learning_rate=3.0)
CONFIG = TrainingConfig(max_steps=2, batch_size=4, eval_batch_size=5)


def two_splits() -> TaskData:
    data = tiny_data()
    task = replace(data.task, report_splits=("dev", "second"))
    return TaskData(task, {**data.splits, "second": tiny_data(seed=1)["dev"]})


def calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[object]:
    """Every call from now on of a function, which goes on working."""
    seen: list[object] = []
    function: Callable[..., Any] = getattr(owner, name)

    def noted(*args: Any, **kwargs: Any) -> Any:
        seen.append(args)
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, noted)
    return seen


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_logits_are_in_the_order_of_the_examples(batch_size: int) -> None:
    data, tokenizer, model = tiny_data(), tiny_tokenizer(), tiny_model("bert")
    batches = padded_batches(encode(data["dev"], data.task, tokenizer, max_length=64), tokenizer, batch_size=batch_size)
    logits = predict_logits(model, batches)
    with torch.no_grad():
        single = [model(**tokenizer(text, return_tensors="pt")).logits for text in data["dev"].first]
    torch.testing.assert_close(logits, torch.cat(single), rtol=1e-5, atol=1e-6)
    widths = [batch["input_ids"].shape[1] for batch in batches.batches]
    assert widths == sorted(widths, reverse=True)
    assert len(widths) == -(-12 // batch_size)


def test_sampled_scores_reuse_what_is_tokenised_and_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = two_splits()
    tokenised, padded = (
        calls(monkeypatch, importlib.import_module("supermask.training.train"), "encode"),
        calls(monkeypatch, predicting, "pad"),
    )
    supermask.train(
        tiny_model("bert"),
        task=data,
        method=MASK,
        config=CONFIG,
        tokenizer=tiny_tokenizer(),
        draws=4,
        quiet=True,
        use_cpu=True,
    )
    assert len(tokenised) == 3, "the training examples and two splits"
    assert len(padded) == 2 * 3, "12 examples in batches of 5, of two splits"


def test_an_evaluation_applies_its_delta_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data, model, tokenizer = two_splits(), tiny_model("bert"), tiny_tokenizer()
    options: dict[str, Any] = {"tokenizer": tokenizer, "use_cpu": True}
    delta = supermask.train(model, task=data, method=MASK, config=CONFIG, draws=0, quiet=True, **options).delta
    alone = supermask.predict(model, data["second"], task=data.task, delta=delta, **options)
    applied = calls(monkeypatch, TaskDelta, "applied")
    result = supermask.evaluate(model, task=data, delta=delta, **options)
    assert len(applied) == 1
    assert torch.equal(result.predictions["second"].logits, alone.logits)
    assert set(result.scores) == {"dev", "second"}
