"""A merged checkpoint appears whole or not at all, and the base stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import supermask
from supermask import Base, TaskDelta
from supermask.errors import BaseMismatchError
from supermask.interop import save_checkpoint
from tiny_bases import save_tiny_base
from tiny_models import tiny_batch
from tiny_tasks import tiny_data


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return supermask.load_base(save_tiny_base(tmp_path_factory.mktemp("base")), num_labels=2)


@pytest.fixture(scope="module")
def delta(base: Base) -> TaskDelta:
    method = supermask.Supermask(learning_rate=9.0)
    config = supermask.TrainingConfig(max_steps=2, batch_size=4)
    return supermask.train(
        base, task=tiny_data(), method=method, config=config, draws=0, quiet=True, use_cpu=True
    ).delta


def test_weights_and_logits_are_those_of_the_task_model(base: Base, delta: TaskDelta, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    config, batch = base.model.config.to_dict(), tiny_batch(base.model.eval(), labels=False)
    plain = base.model(**batch).logits
    (tmp_path / "model").mkdir()  # an empty folder is taken
    folder = save_checkpoint(base, delta, tmp_path / "model")
    loaded = AutoModelForSequenceClassification.from_pretrained(folder)
    assert loaded.config.label2id == {"high": 0, "low": 1}
    assert loaded.config.architectures == ["BertForSequenceClassification"]
    assert base.model.config.to_dict() == config
    for name, tensor in base.model.state_dict().items():
        assert torch.equal(tensor, before[name])
    with delta.applied(base.model):
        wanted, logits = base.model.state_dict(), base.model(**batch).logits
        for name, tensor in loaded.state_dict().items():
            assert torch.equal(tensor, wanted[name])
    assert torch.equal(loaded(**batch).logits, logits) and not torch.equal(plain, logits)
    assert not any(torch.equal(loaded.state_dict()[name], before[name]) for name in delta.head)


def test_another_base_is_refused_before_anything_is_written(delta: TaskDelta, tmp_path: Path) -> None:
    other = supermask.load_base(save_tiny_base(tmp_path / "base"), num_labels=2, random_init=True, seed=5)
    with pytest.raises(BaseMismatchError):
        save_checkpoint(other, delta, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_an_interrupted_write_leaves_nothing(
    base: Base, delta: TaskDelta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_pretrained(folder: Path) -> None:
        raise KeyboardInterrupt  # the weights are written by now, the tokenizer is not

    monkeypatch.setattr(base.tokenizer, "save_pretrained", save_pretrained)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(base, delta, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    assert not delta.is_applied(base.model)
