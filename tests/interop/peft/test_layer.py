"""A layer computes what its module would with masked weights, whatever the module is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from supermask.errors import DeltaStateError
from supermask.interop.peft import SupermaskConfig, SupermaskModel


class Scaled(nn.Embedding):
    """An embedding with a forward pass of its own, as some models have them."""

    def forward(self, input: Tensor, shift: int = 0) -> Tensor:
        return super().forward(input + shift) * 3.0


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = Scaled(12, 8, padding_idx=0)
        self.conv = Conv1D(6, 8)
        self.linear = nn.Linear(6, 4)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.linear(self.conv(self.embedding(ids, shift=1)))
        return out


IDS = torch.arange(10).reshape(2, 5)


def model_with(*adapters: str, inference: bool = False, seed: int = 0) -> Any:
    """Two adapters drop different weights."""
    torch.manual_seed(seed)
    base = Model()
    model: Any = None
    for adapter in adapters:
        config = SupermaskConfig(target_modules=["embedding", "conv", "linear"], initial_sparsity=0.0)
        if model is None:
            model = get_peft_model(base, config, adapter_name=adapter)
        else:
            model.add_adapter(adapter, config)
        for number, mask in enumerate(model.base_model.masks(adapter).values()):
            generator = torch.Generator().manual_seed(10 * len(adapter) + number)
            with torch.no_grad():
                mask.mask_logits.copy_(torch.randn(mask.shape, generator=generator) + 0.5)
    return model.eval()


def reference(model: Any, *adapters: str) -> Tensor:
    """The plain module with zeros written into a copy of its weights."""
    plain = Model()
    plain.load_state_dict(_base(model))
    with torch.no_grad():
        for adapter in adapters:
            for name, mask in model.base_model.masks(adapter).items():
                plain.get_parameter(name)[mask.mask_logits <= 0] = 0.0
        out: Tensor = plain(IDS)
    return out


def _base(model: Any) -> dict[str, Tensor]:
    state = model.base_model.model.state_dict()
    return {name.replace(".base_layer", ""): tensor for name, tensor in state.items() if ".base_layer." in name}


@pytest.mark.parametrize("active", [["one"], ["second"], ["one", "second"], []])
@torch.no_grad()
def test_active_masks_are_multiplied(active: list[str]) -> None:
    model = model_with("one", "second")
    model.base_model.set_adapter(active)
    assert torch.equal(model(IDS), reference(model, *active))


@torch.no_grad()
def test_merging_two_drops_what_either_drops_and_comes_apart_again() -> None:
    model = model_with("one", "second")
    before = {name: tensor.clone() for name, tensor in _base(model).items()}
    wanted = reference(model, "one", "second")
    model.merge_adapter(["one"])
    with pytest.warns(UserWarning, match="additionally merging second"):
        model.merge_adapter(["one", "second"])
    assert torch.equal(model(IDS), wanted)
    with pytest.raises(DeltaStateError, match="'one' is merged"):
        model.delete_adapter("one")
    model.unmerge_adapter()
    assert all(torch.equal(tensor, before[name]) for name, tensor in _base(model).items())
    assert torch.equal(model(IDS), reference(model, "one"))


def test_two_that_train_at_once_are_refused() -> None:
    model = model_with("one", "second").train()
    model.base_model.set_adapter(["one", "second"])
    with pytest.raises(DeltaStateError, match=r"2 active adapters would train over embedding\.weight"):
        model(IDS)


def test_one_trains_through_the_other_frozen_one() -> None:
    """∂L/∂ν of the one that trains sees the base with the other's zeros, in whichever order they are active."""
    for order in (["one", "second"], ["second", "one"]):
        model = model_with("one", "second").train()
        model.base_model.set_adapter(order)
        model.base_model.set_requires_grad("one", False)
        model(IDS).square().sum().backward()
        for name, mask in model.base_model.masks("second").items():
            other = model.base_model.masks("one")[name]
            assert mask.mask_logits.grad.abs().sum() > 0
            assert not mask.mask_logits.grad[other.mask_logits <= 0].any()
            assert other.mask_logits.grad is None


def test_training_with_merged_masks_is_refused() -> None:
    model = model_with("one")
    model.merge_adapter()
    with pytest.raises(DeltaStateError, match="unmerge first"):
        model.train()(IDS)


@torch.no_grad()
def test_a_frozen_mask_is_not_drawn() -> None:
    model = model_with("one")
    model.base_model.set_requires_grad("one", False)
    assert torch.equal(model.train()(IDS), reference(model, "one"))


@torch.no_grad()
def test_hooks_on_the_base_layer_still_run() -> None:
    model = model_with("one")
    seen = []
    layer = model.base_model.model.linear
    layer.base_layer.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    model(IDS)
    assert seen == [(2, 5, 4)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_converted_model_keeps_its_logits(dtype: torch.dtype) -> None:
    model = model_with("one")
    before = {name: mask.mask_logits.clone() for name, mask in model.base_model.masks("one").items()}
    model.to(dtype).train()
    model(IDS).float().sum().backward()
    for name, mask in model.base_model.masks("one").items():
        assert mask.mask_logits.dtype == mask.mask_logits.grad.dtype == torch.float32
        assert torch.equal(mask.mask_logits, before[name])
        assert model.base_model.model.get_submodule(name.removesuffix(".weight")).base_weight.dtype == dtype


def test_a_whole_state_dictionary_is_exact() -> None:
    model, other = model_with("one", "second"), model_with("one", "second", seed=1)
    for mask in other.base_model.masks("second").values():
        mask.mask_logits.data.fill_(-1.0)
    state = model.state_dict()
    assert {key.rpartition(".linear.")[2] for key in state if ".linear." in key} == {
        "base_layer.weight",
        "base_layer.bias",
        "masks.one.mask_logits",
        "masks.second.mask_logits",
        "supermask_keep.one",
        "supermask_keep.second",
    }
    result = other.load_state_dict(state)
    assert not result.missing_keys and not result.unexpected_keys
    assert all(torch.equal(tensor, state[name]) for name, tensor in other.state_dict().items())


def test_a_model_that_peft_works_on_already_is_refused() -> None:
    model = model_with("one")
    with pytest.raises(DeltaStateError, match="carries PEFT layers already"):
        SupermaskModel(model.base_model.model, {"b": SupermaskConfig(target_modules=["linear"])}, "b")
