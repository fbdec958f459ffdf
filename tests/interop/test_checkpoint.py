"""A merged checkpoint appears whole or not at all, and the base stays as it was."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from interop.tiny_exports import LABELS, bits, bits_of, tiny_base, tiny_delta
from supermask.errors import BaseMismatchError
from supermask.interop import save_checkpoint
from tiny_models import tiny_batch


def test_weights_and_logits_are_those_of_the_task_model(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    delta, before, config = tiny_delta(base, "supermask"), bits(base), base.model.config.to_dict()
    batch = tiny_batch(base.model.eval(), labels=False)
    plain = base.model(**batch).logits
    (tmp_path / "model").mkdir()  # an empty folder is taken
    loaded = AutoModelForSequenceClassification.from_pretrained(save_checkpoint(base, delta, tmp_path / "model"))
    assert loaded.config.label2id == {name: index for index, name in enumerate(LABELS)}
    assert loaded.config.architectures == ["BertForSequenceClassification"]
    assert base.model.config.to_dict() == config
    assert bits(base) == before
    with delta.applied(base.model):
        wanted, logits = bits(base), base.model(**batch).logits
    assert bits_of(loaded) == wanted
    assert torch.equal(loaded(**batch).logits, logits) and not torch.equal(plain, logits)
    assert not any(wanted[name] == before[name] for name in delta.head)


def test_another_base_or_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny_base(tmp_path / "base")
    delta = tiny_delta(base)
    with torch.no_grad():
        base.model.bert.pooler.dense.bias[0] += 1
    with pytest.raises(BaseMismatchError):
        save_checkpoint(base, delta, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]

    def save_pretrained(folder: Path) -> None:
        raise KeyboardInterrupt  # the weights are written by now, the tokenizer is not

    delta = tiny_delta(base)
    monkeypatch.setattr(base.tokenizer, "save_pretrained", save_pretrained)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(base, delta, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    assert not delta.is_applied(base.model)
