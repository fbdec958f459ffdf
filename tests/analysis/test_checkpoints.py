"""Two saved models compared off the disk."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from supermask.analysis import distances
from supermask.analysis.checkpoints import CheckpointComparison, compare_checkpoints
from supermask.errors import BaseMismatchError
from supermask.models.checkpoint import Checkpoint, open_checkpoint
from tiny_models import tiny_model


def tuned(model: Any, seed: int = 1) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    return model


def compared(first: Path, second: Path) -> CheckpointComparison:
    return compare_checkpoints(open_checkpoint(first), open_checkpoint(second))


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5", "albert", "llama"])
def test_distances_are_those_of_the_models_in_memory(architecture: str, tmp_path: Path) -> None:
    base, other = tiny_model(architecture), tuned(tiny_model(architecture))
    base.save_pretrained(tmp_path / "base")
    other.save_pretrained(tmp_path / "other")
    found = {one.name: one for one in compared(tmp_path / "base", tmp_path / "other").tensors}
    wanted = {one.name: one for one in distances(base.base_model, other.base_model)}
    assert found == wanted
    assert any(one.changed for one in found.values())


def test_a_bare_encoder_is_compared_with_a_classifier(tmp_path: Path) -> None:
    base, other = tiny_model("bert").base_model, tuned(tiny_model("bert"))
    base.save_pretrained(tmp_path / "base")
    other.save_pretrained(tmp_path / "other", max_shard_size="40KB")
    found = compared(tmp_path / "base", tmp_path / "other")
    assert len(found.tensors) == len(list(base.parameters()))
    assert sorted(found.other_heads) == ["classifier.bias", "classifier.weight"]
    assert (found.heads, found.base_heads, found.only_base, found.only_other) == ((), (), (), ())


def test_heads_of_other_sizes_are_told_apart_from_heads_that_both_have(tmp_path: Path) -> None:
    tiny_model("bert", num_labels=2).save_pretrained(tmp_path / "two")
    tiny_model("bert", num_labels=3).save_pretrained(tmp_path / "three")
    tuned(tiny_model("bert", num_labels=2)).save_pretrained(tmp_path / "two-tuned")
    found = compared(tmp_path / "two", tmp_path / "three")
    assert set(found.base_heads) == set(found.other_heads) == {"classifier.weight", "classifier.bias"}
    found = compared(tmp_path / "two", tmp_path / "two-tuned")
    assert {head.name: head.changed for head in found.heads} == {"classifier.weight": 64, "classifier.bias": 0}
    assert (found.base_heads, found.other_heads) == ((), ())


def test_a_language_model_without_a_pooler(tmp_path: Path) -> None:
    config = tiny_model("bert").config
    language_model = transformers.BertForMaskedLM(config)  # ties its decoder to the embeddings, and has no pooler
    language_model.save_pretrained(tmp_path / "lm")
    tiny_model("bert").save_pretrained(tmp_path / "classifier")
    found = compared(tmp_path / "lm", tmp_path / "classifier")
    assert found.only_other == ("pooler.dense.weight", "pooler.dense.bias")
    assert all(name.startswith("cls.") for name in found.base_heads)
    assert [one.name for one in found.tensors].count("embeddings.word_embeddings.weight") == 1


def test_dtypes_may_differ_and_rounding_counts(tmp_path: Path) -> None:
    model = tiny_model("bert")
    model.save_pretrained(tmp_path / "wide")
    model.to(torch.bfloat16).save_pretrained(tmp_path / "narrow")
    found = compared(tmp_path / "wide", tmp_path / "narrow")
    assert (found.base_dtypes, found.other_dtypes) == (("float32",), ("bfloat16",))
    wide, narrow = (load_file(tmp_path / which / "model.safetensors") for which in ("wide", "narrow"))
    for one in found.tensors:
        stored = next(name for name in wide if name.removeprefix("bert.") == one.name)
        assert one.changed == int((wide[stored] != narrow[stored].float()).sum())


def test_more_words_are_compared_on_the_rows_that_both_have(tmp_path: Path) -> None:
    model = tiny_model("bert")
    model.save_pretrained(tmp_path / "base")
    rows = model.config.vocab_size
    torch.manual_seed(0)
    model.resize_token_embeddings(rows + 8, mean_resizing=False)
    model.save_pretrained(tmp_path / "more")
    found = compared(tmp_path / "base", tmp_path / "more")
    assert found.resized == ("embeddings.word_embeddings.weight",)
    embedding = next(one for one in found.tensors if one.name == found.resized[0])
    assert (embedding.shape, embedding.changed) == ((rows, 32), 0)


def test_a_single_file_and_an_unknown_architecture(tmp_path: Path) -> None:
    tensors = {f"trunk.{block}.w": torch.randn(6, 4) for block in range(3)} | {"top.weight": torch.randn(2, 4)}
    save_file({**tensors, "ids": torch.arange(3)}, tmp_path / "one.safetensors")
    other = {name: tensor + 1 for name, tensor in tensors.items()} | {"top.weight": torch.randn(3, 4)}
    save_file(other, tmp_path / "two.safetensors")
    found = compared(tmp_path / "one.safetensors", tmp_path / "two.safetensors")
    assert found.names is None
    assert [(one.name, one.role, one.block) for one in found.tensors] == [
        (f"trunk.{block}.w", None, block) for block in range(3)
    ]
    assert (found.base_heads, found.other_heads) == (("top.weight",), ("top.weight",))
    assert found.not_compared == ("ids",)


def test_models_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    tiny_model("bert").save_pretrained(tmp_path / "bert")
    tiny_model("roberta").save_pretrained(tmp_path / "roberta")
    with pytest.raises(BaseMismatchError, match=r"of type bert and .* of type roberta"):
        compared(tmp_path / "bert", tmp_path / "roberta")
    config = tiny_model("bert").config
    config.intermediate_size = 48
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "narrower")
    with pytest.raises(
        BaseMismatchError, match=r"other sizes: .*intermediate.* \(64, 32\) and \(48, 32\).* and 3 more"
    ):
        compared(tmp_path / "bert", tmp_path / "narrower")
    wrapped = {f"wrapped.{name}": t for name, t in load_file(tmp_path / "bert" / "model.safetensors").items()}
    save_file(wrapped, tmp_path / "wrapped.safetensors")
    with pytest.raises(BaseMismatchError, match=r"0 of 0 tensors in common .*wrapped\."):
        compared(tmp_path / "bert", tmp_path / "wrapped.safetensors")


def test_two_checkpoints_are_never_in_memory_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model("bert").save_pretrained(tmp_path / "base")
    tuned(tiny_model("bert")).save_pretrained(tmp_path / "other")
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0
    read = Checkpoint.__getitem__

    def watched(self: Checkpoint, name: str) -> torch.Tensor:
        nonlocal most
        tensor = read(self, name)
        alive.append(weakref.ref(tensor))
        most = max(most, sum(one() is not None for one in alive))
        return tensor

    monkeypatch.setattr(Checkpoint, "__getitem__", watched)
    found = compared(tmp_path / "base", tmp_path / "other")
    assert len(alive) == 2 * (len(found.tensors) + len(found.heads)) > 60
    assert most <= 4  # two of a pair, and the pair before until its names are taken again
