from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import supermask
from supermask import Supermask, TaskDelta, TrainingConfig
from supermask.errors import BaseMismatchError, ConfigurationError
from supermask.prediction import encoding, predictor, set_up
from supermask.prediction.encoding import encode, padded_batches
from supermask.prediction.predictor import predict_logits
from supermask.tasks import TaskData
from tiny_models import tiny_model
from tiny_tasks import tiny_data, tiny_run, tiny_tokenizer

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
    tokenised, padded = calls(monkeypatch, predictor, "encode"), calls(monkeypatch, encoding, "pad")
    tiny_run(MASK, CONFIG, data=data, draws=4)
    assert len(tokenised) == 2, "each split once"
    assert len(padded) == 2 * 3, "12 examples in batches of 5, of two splits"


def learnt(data: TaskData, config: TrainingConfig = CONFIG) -> tuple[Any, TaskDelta]:
    """A base, and a delta of it."""
    model = tiny_model("bert")
    return model, tiny_run(MASK, config, model=model, data=data).delta


def test_one_set_up_answers_many_times_and_leaves_the_base_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    data = two_splits()
    model, delta = learnt(data)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    options: dict[str, Any] = {"delta": delta, "tokenizer": tiny_tokenizer(), "use_cpu": True}
    applied = calls(monkeypatch, TaskDelta, "applied")
    with pytest.raises(KeyError), set_up(model, data.task, **options) as predictor:
        batches = predictor.encode(data["second"])
        said = [predictor.answer(batches) for _ in range(2)]
        assert torch.equal(said[0].logits, said[1].logits)
        assert [answer["prediction"] for answer in said[0].answers] == said[0].labels
        scores = predictor.score(batches, data["second"])
        raise KeyError
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert len(applied) == 1
    result = supermask.evaluate(model, task=data, **options)
    assert len(applied) == 2, "once for both splits"
    assert set(result.scores) == {"dev", "second"} and result.scores["second"] == scores
    unlabelled = replace(data["second"], labels=None)
    alone = supermask.predict(model, unlabelled, task=data.task, **options)
    assert torch.equal(alone.logits, said[0].logits) and torch.equal(result.predictions["second"].logits, alone.logits)


def test_a_delta_is_asked_as_it_was_trained() -> None:
    data = tiny_data()
    model, delta = learnt(data, CONFIG.model_copy(update={"max_length": 5, "precision": "bf16", "eval_batch_size": 7}))
    with set_up(model, data.task, delta=delta, tokenizer=tiny_tokenizer(), use_cpu=True) as predictor:
        assert (predictor.max_length, predictor.batch_size, predictor.precision) == (5, 7, "bf16")
    auto = TrainingConfig(precision="auto")
    with set_up(model, data.task, delta=delta, tokenizer=tiny_tokenizer(), config=auto, use_cpu=True) as predictor:
        assert (predictor.max_length, predictor.precision) == (128, "bf16"), "the precision that its score is of"


def test_what_does_not_belong_together_is_refused() -> None:
    data, tokenizer = tiny_data(), tiny_tokenizer()
    model, delta = learnt(data)
    swapped = replace(data.task, label_names=("low", "high"))
    with pytest.raises(ConfigurationError, match=r"learnt on 'tiny' \(classification, labels \['high', 'low'\]\)"):
        supermask.predict(model, data["dev"], task=swapped, delta=delta, tokenizer=tokenizer, use_cpu=True)
    with pytest.raises(ConfigurationError, match="no labels to score; use predict"):
        unlabelled = TaskData(replace(data.task, test_splits=("test",)), {"test": replace(data["dev"], labels=None)})
        supermask.evaluate(model, task=unlabelled, splits=["test"], tokenizer=tokenizer, use_cpu=True)
    with pytest.raises(ConfigurationError, match=r"pass its tokenizer: tokenizer=\.\.\."):
        supermask.evaluate(model, task=data, use_cpu=True)
    with pytest.raises(BaseMismatchError):
        supermask.evaluate(tiny_model("bert", seed=1), task=data, delta=delta, tokenizer=tokenizer, use_cpu=True)
