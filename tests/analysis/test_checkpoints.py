import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

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


def saved(place: Path, model: Any, **options: Any) -> Checkpoint:
    """A model, or tensors by name, on the disk."""
    if not isinstance(model, dict):
        model.save_pretrained(place, **options)
        return open_checkpoint(place)
    save_file(model, place.with_suffix(".safetensors"))
    return open_checkpoint(place.with_suffix(".safetensors"))


def compared(folder: Path, base: Any, other: Any, **options: Any) -> CheckpointComparison:
    return compare_checkpoints(saved(folder / "base", base), saved(folder / "other", other, **options))


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5", "albert", "llama"])
def test_distances_are_those_of_the_models_in_memory(architecture: str, tmp_path: Path) -> None:
    base, other = tiny_model(architecture), tuned(tiny_model(architecture))
    found = {one.name: one for one in compared(tmp_path, base, other).tensors}
    wanted = {one.name: one for one in distances(base.base_model, other.base_model)}
    assert found == wanted
    assert any(one.changed for one in found.values())


def test_a_bare_encoder_is_compared_with_a_classifier(tmp_path: Path) -> None:
    base = tiny_model("bert").base_model
    found = compared(tmp_path, base, tuned(tiny_model("bert")), max_shard_size="40KB")
    assert len(found.tensors) == len(list(base.parameters()))
    assert sorted(found.other_heads) == ["classifier.bias", "classifier.weight"]
    assert (found.heads, found.base_heads, found.only_base, found.only_other) == ((), (), (), ())


def test_heads_of_other_sizes_are_told_apart_from_heads_that_both_have(tmp_path: Path) -> None:
    found = compared(tmp_path, tiny_model("bert"), tiny_model("bert", num_labels=3))
    assert set(found.base_heads) == set(found.other_heads) == {"classifier.weight", "classifier.bias"}
    found = compared(tmp_path, tiny_model("bert"), tuned(tiny_model("bert")))
    assert {head.name: head.changed for head in found.heads} == {"classifier.weight": 64, "classifier.bias": 0}
    assert (found.base_heads, found.other_heads) == ((), ())


def test_a_language_model_without_a_pooler(tmp_path: Path) -> None:
    # It ties its decoder to the embeddings.
    language_model = transformers.BertForMaskedLM(tiny_model("bert").config)
    found = compared(tmp_path, language_model, tiny_model("bert"))
    assert found.only_other == ("pooler.dense.weight", "pooler.dense.bias")
    assert all(name.startswith("cls.") for name in found.base_heads)
    assert [one.name for one in found.tensors].count("embeddings.word_embeddings.weight") == 1


def test_dtypes_may_differ_and_rounding_counts(tmp_path: Path) -> None:
    found = compared(tmp_path, tiny_model("bert"), tiny_model("bert").to(torch.bfloat16))
    assert (found.base_dtypes, found.other_dtypes) == (("float32",), ("bfloat16",))
    wide = tiny_model("bert").base_model.state_dict()
    for one in found.tensors:
        assert one.changed == int((wide[one.name] != wide[one.name].bfloat16().float()).sum())


def test_more_words_are_compared_on_the_rows_that_both_have(tmp_path: Path) -> None:
    base, more = tiny_model("bert"), tiny_model("bert")
    torch.manual_seed(0)
    more.resize_token_embeddings(base.config.vocab_size + 8, mean_resizing=False)
    found = compared(tmp_path, base, more)
    assert found.resized == ("embeddings.word_embeddings.weight",)
    embedding = next(one for one in found.tensors if one.name == found.resized[0])
    assert (embedding.shape, embedding.changed) == ((base.config.vocab_size, 32), 0)


def test_a_single_file_and_an_unknown_architecture(tmp_path: Path) -> None:
    tensors = {f"trunk.{block}.w": torch.randn(6, 4) for block in range(3)} | {"top.weight": torch.randn(2, 4)}
    other = {name: tensor + 1 for name, tensor in tensors.items()} | {"top.weight": torch.randn(3, 4)}
    found = compared(tmp_path, {**tensors, "ids": torch.arange(3)}, other)
    assert found.names is None
    assert [(one.name, one.role, one.block) for one in found.tensors] == [
        (f"trunk.{block}.w", None, block) for block in range(3)
    ]
    assert (found.base_heads, found.other_heads) == (("top.weight",), ("top.weight",))
    assert found.not_compared == ("ids",)


def test_models_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    bert = tiny_model("bert")
    wrapped = {f"wrapped.{name}": tensor.clone() for name, tensor in bert.state_dict().items()}
    sizes = r"other sizes: .*intermediate.* \(64, 32\) and \(48, 32\).* and 3 more"
    for other, message in (
        (tiny_model("roberta"), r"of type bert and .* of type roberta"),
        (tiny_model("bert", intermediate_size=48), sizes),
        (wrapped, r"0 of 0 tensors in common .*wrapped\."),
    ):
        with pytest.raises(BaseMismatchError, match=message):
            compared(tmp_path, bert, other)


def test_two_checkpoints_are_never_in_memory_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    found = compared(tmp_path, tiny_model("bert"), tuned(tiny_model("bert")))
    assert len(alive) == 2 * (len(found.tensors) + len(found.heads)) > 60
    assert most <= 4  # two of a pair, and the pair before until its names are taken again
