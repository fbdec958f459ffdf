"""What is masked, what is stored whole, and what is refused before anything changes."""

from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import nn

from interop.peft.tiny_adapters import logits, same, snapshot, tiny_adapter
from supermask import Supermask
from supermask.deltas import named_tensors
from supermask.errors import SelectionError
from supermask.interop.peft import SupermaskConfig
from supermask.interop.peft.targets import base_tensors, head_modules
from supermask.models import map_parameters
from tiny_models import ARCHITECTURES, tiny_model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_by_default_the_methods_matrices_and_the_whole_head(architecture: str) -> None:
    attachment = Supermask().attach_(tiny_model(architecture))
    wanted = set(attachment.masks)  # type: ignore[attr-defined]
    model = tiny_adapter(architecture)
    assert set(model.base_model.masks()) == wanted
    assert model.base_model.head() == map_parameters(tiny_model(architecture)).head
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    # PEFT alone would train what is called `classifier` or `score`.
    assert len(trained) == len(wanted) + len(model.base_model.head())


@pytest.mark.parametrize(
    ("targets", "count"),
    [(["query", "value"], 4), (r".*layer\.1\..*(query|key)", 2), (["word_embeddings"], 1), ("all-linear", 13)],
)
def test_patterns(targets: Any, count: int) -> None:
    model = tiny_adapter(target_modules=targets)
    assert len(model.base_model.masks()) == count
    assert not torch.equal(logits(model), logits(tiny_model("bert")))


def test_excluded_modules_are_left_out_and_conv1d_is_masked_as_it_is_stored() -> None:
    model = tiny_adapter(target_modules="all-linear", exclude_modules=["key"])
    assert len(model.base_model.masks()) == 11
    assert not any("key" in name for name in model.base_model.masks())
    model = tiny_adapter("gpt2", target_modules="all-linear")
    assert model.base_model.masks()["transformer.h.0.attn.c_attn.weight"].shape == (32, 96)
    assert len(model.base_model.masks()) == 8


def test_the_base_is_named_as_without_adapters() -> None:
    for architecture in ("distilbert", "t5"):
        plain = tiny_model(architecture)
        wanted = named_tensors(plain)
        model = tiny_adapter(architecture)
        model.add_adapter("second", SupermaskConfig(task_type="SEQ_CLS", initial_sparsity=0.5))
        found = base_tensors(model.base_model.model)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.places = nn.ModuleList([nn.Linear(4, 4), nn.LayerNorm(4)])
        self.places.append(self.places[0])
        self.attention = nn.MultiheadAttention(4, 2)
        self.small = nn.Linear(4, 4)
        self.small.weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
        self.far = nn.Linear(4, 4, device="meta")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(self.first(x))
        return out


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["first"], "weight of first is tied to second"),
        (["places.0"], r"places\.0 is the very module places\.2"),
        (["places.1"], r"places\.1 is a LayerNorm"),
        ("places", "places is a ModuleList"),
        (["attention.out_proj"], "never called, only read"),
        (["small"], r"torch\.int8.*without quantisation"),
        (["far"], "meta device"),
        (["places.1", "small"], r"places\.1 .*; small "),
    ],
)
def test_what_cannot_be_masked_is_refused_before_anything_changes(targets: Any, message: str) -> None:
    model = Tied()
    before = {name: type(module) for name, module in model.named_modules(remove_duplicate=False)}
    with pytest.raises(SelectionError, match=message):
        get_peft_model(model, SupermaskConfig(target_modules=targets, verify_base=False))
    assert {name: type(module) for name, module in model.named_modules(remove_duplicate=False)} == before


def test_a_model_with_a_method_on_it_is_refused() -> None:
    model = tiny_model("bert")
    Supermask().attach_(model)
    with pytest.raises(SelectionError, match="detach the method first"):
        get_peft_model(model, SupermaskConfig(target_modules=["query"]))


def test_tied_weights_have_one_mask() -> None:
    """T5's embedding stands in three modules: one mask, one draw, and one place where it is merged."""
    model = tiny_adapter("t5", target_modules=["shared", "embed_tokens"])
    tuner = model.base_model
    before = {name: tensor.clone() for name, tensor in base_tensors(tuner.model).items()}
    assert list(tuner.masks()) == ["transformer.shared.weight"]
    embeddings = (tuner.model.transformer.shared, tuner.model.transformer.decoder.embed_tokens)
    assert embeddings[0].mask("default") is embeddings[1].mask("default")
    assert sum(p.numel() for n, p in model.named_parameters() if "mask_logits" in n) == 120 * 32
    wanted = logits(model)
    model.merge_adapter()
    assert torch.equal(logits(model), wanted)
    with model.disable_adapter():
        assert torch.equal(logits(model), logits(tiny_model("t5").requires_grad_(False)))
    assert torch.equal(logits(model), wanted)
    model.merge_adapter()
    model.unmerge_adapter()
    assert all(torch.equal(tensor, before[name]) for name, tensor in base_tensors(tuner.model).items())
    model.merge_adapter()
    assert same(snapshot(model.unload()), snapshot(tiny_model("t5")))


def test_head_modules_are_the_outermost() -> None:
    assert head_modules(map_parameters(tiny_model("roberta"))) == ["classifier"]
    assert head_modules(map_parameters(tiny_model("modernbert"))) == ["head", "classifier"]
