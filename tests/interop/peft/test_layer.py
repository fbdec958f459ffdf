"""A layer computes what its module would with masked weights, whatever the module is."""

import contextlib
import warnings
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from interop.peft.tiny_adapters import tiny_adapter
from supermask.errors import DeltaFormatError, DeltaStateError
from supermask.interop.peft import SupermaskConfig, SupermaskModel
from supermask.interop.peft.layer import adapter_entries


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


def test_what_cannot_train_is_refused_and_what_is_frozen_is_not_drawn() -> None:
    model = model_with("one", "second").train()
    model.base_model.set_adapter(["one", "second"])
    with pytest.raises(DeltaStateError, match=r"2 active adapters would train over embedding\.weight"):
        model(IDS)
    model = model_with("one")
    model.merge_adapter()
    with pytest.raises(DeltaStateError, match="unmerge first"):
        model.train()(IDS)
    model.unmerge_adapter()
    model.base_model.set_requires_grad("one", False)
    with torch.no_grad():
        assert torch.equal(model.train()(IDS), reference(model, "one"))
    with pytest.raises(DeltaStateError, match="carries PEFT layers already"):
        SupermaskModel(model.base_model.model, {"b": SupermaskConfig(target_modules=["linear"])}, "b")


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


# Where the masked weight is computed, and what is kept of it.


def saved_matrices(model: Any, **autocast: Any) -> list[torch.dtype]:
    """The dtypes of what a forward pass keeps in the shape of a masked matrix and is no parameter."""
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    shapes = {(8, 6), (6, 8), (6, 4), (4, 6)}
    found: list[torch.dtype] = []

    def pack(tensor: Tensor) -> Tensor:
        if tuple(tensor.shape) in shapes and tensor.untyped_storage().data_ptr() not in known:
            found.append(tensor.dtype)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept), torch.autocast("cpu", **autocast):
        loss = model(IDS).float().square().sum()
    loss.backward()
    return found


@pytest.mark.parametrize("autocast", [False, True])
def test_linear_layers_draw_again_instead_of_keeping(autocast: bool) -> None:
    model = model_with("one").train()
    dtype = torch.bfloat16 if autocast else torch.float32
    assert model.base_model.recompute
    gradients = []
    for recompute, kept in ((True, []), (False, [dtype, dtype])):
        model.base_model.recompute = recompute
        assert model.base_model.recompute is recompute
        model.base_model.begin_step(3)
        assert saved_matrices(model, enabled=autocast, dtype=torch.bfloat16) == kept
        gradients.append([mask.mask_logits.grad for mask in model.base_model.masks("one").values()])
        model.zero_grad()
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


def test_a_base_layer_with_hooks_is_called_and_computes_the_same() -> None:
    gradients = []
    for hooked in (False, True):
        model, seen = model_with("one").train(), []
        if hooked:
            for name in ("linear", "conv", "embedding"):
                layer = getattr(model.base_model.model, name).base_layer
                layer.register_forward_hook(lambda module, args, output, seen=seen: seen.append(type(module)))
        model(IDS).square().sum().backward()
        assert len(seen) == (3 if hooked else 0)
        gradients.append([mask.mask_logits.grad for mask in model.base_model.masks("one").values()])
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


@pytest.mark.parametrize("training", [False, True])
def test_the_masked_weight_is_in_autocasts_dtype_where_it_is_multiplied(training: bool) -> None:
    model = model_with("one").train(training)
    seen: dict[str, torch.dtype] = {}
    for name in ("linear", "conv", "embedding"):
        layer = getattr(model.base_model.model, name).base_layer
        layer.register_forward_pre_hook(
            lambda module, args, name=name: seen.update({name: module.weight.dtype})  # with hooks it is handed over
        )
    with torch.autocast("cpu", torch.bfloat16):
        model(IDS)
    assert seen == {"embedding": torch.float32, "conv": torch.bfloat16, "linear": torch.bfloat16}


# The compiler makes an object that torch would rather it did not.
@pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
def test_one_graph_serves_all_steps() -> None:
    model = model_with("one").train()
    model.base_model.set_adapter(["one"])
    torch._dynamo.reset()
    run = torch.compile(model, fullgraph=True, backend="aot_eager")
    gradients = []
    for step in range(4):
        for forward in (model, run):
            model.base_model.begin_step(step)
            no_more = forward is run and step and hasattr(torch.compiler, "set_stance")  # torch 2.6 on
            with torch.compiler.set_stance("fail_on_recompile") if no_more else contextlib.nullcontext():
                output = forward(IDS)
            output.square().sum().backward()
            gradients.append([mask.mask_logits.grad for mask in model.base_model.masks("one").values()])
            model.zero_grad()
        for first, second in zip(*gradients[-2:], strict=True):
            torch.testing.assert_close(first, second)
    assert not torch.equal(gradients[0][0], gradients[2][0])


def test_an_adapter_gets_its_own_entries_alone() -> None:
    model = tiny_adapter(target_modules=["query"], save_logits=True)
    model.add_adapter("second", SupermaskConfig(task_type="SEQ_CLS", target_modules=["query", "key"]))
    entries = adapter_entries(model, "default", model.state_dict())
    layers = [f"base_model.model.bert.encoder.layer.{block}.attention.self.query" for block in (0, 1)]
    assert sorted(entries) == [f"{layer}.supermask_{kind}.default" for layer in layers for kind in ("keep", "logits")]
    assert len(adapter_entries(model, "second", model.state_dict())) == 4
    with pytest.raises(DeltaStateError, match=r"no mask for .*layer\.0\.attention\.self\.query"):
        adapter_entries(model, "default", {})


def test_masks_that_are_missing_or_left_over_are_refused() -> None:
    model = tiny_adapter(target_modules=["query", "key"])
    adapter = adapter_entries(model, "default", model.state_dict())
    first = next(iter(adapter))
    with pytest.raises(DeltaFormatError, match=r"no mask for 1 of the 4 modules of adapter 'default': .*query"):
        model.load_state_dict({key: tensor for key, tensor in adapter.items() if key != first}, strict=False)
    spare = first.replace("query", "value")
    with pytest.raises(DeltaFormatError, match=r"does not target: .*value\.supermask_keep\.default"):
        model.load_state_dict({**adapter, spare: adapter[first]}, strict=False)
    logits = {first.replace("keep", "logits"): torch.zeros(32, 32)}
    with pytest.raises(DeltaFormatError, match="logits and no mask"):
        model.load_state_dict(logits, strict=False)
    # What is no mask is nobody's business.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.load_state_dict(adapter, strict=False).unexpected_keys == []
        assert model.base_model.model.load_state_dict({"other": torch.ones(1)}, strict=False).unexpected_keys == [
            "other"
        ]
