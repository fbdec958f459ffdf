"""A merged checkpoint appears whole or not at all, and the base stays as it was."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification

import supermask
from supermask import Base, TaskDelta
from supermask.errors import BaseMismatchError, OutputError
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


def test_weights_are_those_of_the_task_model(base: Base, delta: TaskDelta, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    folder = save_checkpoint(base, delta, tmp_path / "model")
    loaded = AutoModelForSequenceClassification.from_pretrained(folder)
    assert loaded.config.label2id == {"high": 0, "low": 1}
    assert base.model.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    for name, tensor in base.model.state_dict().items():
        assert torch.equal(tensor, before[name])
    with delta.applied(base.model):
        wanted = base.model.state_dict()
        for name, tensor in loaded.state_dict().items():
            assert torch.equal(tensor, wanted[name])
    assert not any(torch.equal(loaded.state_dict()[name], before[name]) for name in delta.head)


def test_an_empty_folder_is_taken(base: Base, delta: TaskDelta, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    save_checkpoint(base, delta, tmp_path / "model")
    assert (tmp_path / "model" / "config.json").exists()
    with pytest.raises(OutputError, match="not empty"):
        save_checkpoint(base, delta, tmp_path / "model")


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), SafetensorError("No space left on device (os error 28)")],
)
def test_nothing_is_left_of_a_failed_write(
    error: Exception, base: Base, delta: TaskDelta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_pretrained(folder: Path) -> Any:
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(base.model, "save_pretrained", save_pretrained)
    with pytest.raises(OutputError, match=r"No space left on device.*; free some space"):
        save_checkpoint(base, delta, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    assert not delta.is_applied(base.model)


def test_another_base_is_refused_before_anything_is_written(delta: TaskDelta, tmp_path: Path) -> None:
    other = supermask.load_base(save_tiny_base(tmp_path / "base"), num_labels=2, random_init=True, seed=5)
    with pytest.raises(BaseMismatchError):
        save_checkpoint(other, delta, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_logits_are_those_of_the_task_model_and_the_configuration_is_left_alone(
    base: Base, delta: TaskDelta, tmp_path: Path
) -> None:
    config = base.model.config.to_dict()
    loaded = AutoModelForSequenceClassification.from_pretrained(save_checkpoint(base, delta, tmp_path / "model"))
    base.model.eval()
    batch = tiny_batch(base.model, labels=False)
    plain = base.model(**batch).logits
    with delta.applied(base.model):
        wanted = base.model(**batch).logits
    assert torch.equal(loaded(**batch).logits, wanted)
    assert not torch.equal(plain, wanted)
    assert base.model.config.to_dict() == config
    assert loaded.config.architectures == ["BertForSequenceClassification"]


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
