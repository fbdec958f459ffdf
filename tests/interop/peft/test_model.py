"""What PEFT does with adapters, done with masks: training, files, switching, merging, several over one base."""

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from peft import PeftModel, PeftModelForSequenceClassification, get_peft_model, get_peft_model_state_dict
from peft.utils import set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from interop.peft.tiny_adapters import keep_masks, loaded, logits, same, snapshot, tiny_adapter, train_
from supermask import Supermask, TaskDelta
from supermask.core import entropy_bits
from supermask.errors import (
    BaseMismatchError,
    ConfigurationError,
    DeltaFormatError,
    DeltaStateError,
    SelectionError,
    UnknownNameError,
)
from supermask.interop.peft import SupermaskConfig, make_optimizer
from supermask.interop.peft.mask import unpack_keep_mask
from supermask.interop.peft.targets import base_tensors
from supermask.methods import make_optimizer as make_native_optimizer
from tiny_models import tiny_batch, tiny_model

SOME = ("bert", "distilbert", "roberta", "gpt2", "llama")


# Training.


@pytest.mark.parametrize("gradient", ["through", "stop"])
def test_training_is_the_methods_own(gradient: str) -> None:
    """Step by step the same masks and the same head as `Supermask.attach_` on the same base with the same seed."""
    settings: dict[str, Any] = {"initial_sparsity": 0.2, "init_logit": 1.0, "gradient": gradient}
    model = tiny_adapter(seed=5, **settings)
    torch.manual_seed(0)  # of dropout
    train_(model)
    native = tiny_model("bert").train()
    attachment = Supermask(learning_rate=0.8, **settings).attach_(native, seed=5)
    optimizer = make_native_optimizer(attachment)
    torch.manual_seed(0)
    for step in range(3):
        attachment.begin_step(step)
        optimizer.zero_grad()
        native(**tiny_batch(native, seed=step)).loss.backward()
        optimizer.step()
    for name, mask in attachment.masks.items():  # type: ignore[attr-defined]
        other = model.base_model.masks()[name]
        torch.testing.assert_close(other.mask_logits, mask.mask_logits, rtol=1e-5, atol=1e-5)
        assert torch.equal(other.keep_mask(), mask.mask_logits > 0)
    assert 0.2 < model.base_model.statistics()["sparsity"] < 0.9
    assert model.base_model.statistics() == pytest.approx(attachment.statistics())


def test_print_trainable_parameters() -> None:
    model = tiny_adapter(target_modules=["query"])
    with redirect_stdout(io.StringIO()) as printed:
        model.print_trainable_parameters()
    base = sum(parameter.numel() for parameter in tiny_model("bert").parameters())
    head = 32 * 2 + 2
    trainable = 2 * 32 * 32 + head
    assert printed.getvalue().startswith(f"trainable params: {trainable:,d} || all params: {base + trainable:,d} ||")


# Draws: each forward pass in training has its own, and each backward pass repeats that of its forward pass.


def without_dropout(model: Any) -> Any:
    """So that nothing but masks is drawn."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def test_forward_passes_differ_and_steps_repeat() -> None:
    model = without_dropout(tiny_adapter(init_logit=0.1)).train()
    batch = tiny_batch(model)
    first, second = (model(**batch).logits for _ in range(2))
    model.base_model.begin_step(0)
    third = model(**batch).logits
    model.base_model.begin_step(1)
    fourth = model(**batch).logits
    assert torch.equal(first, third)
    assert not torch.equal(first, second)
    assert not torch.equal(first, fourth)
    model.eval()
    assert torch.equal(model(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_passes_repeat_their_own_draw(reentrant: bool) -> None:
    """Two forward passes before the backward pass, so that the last draw is the wrong one for the first."""
    gradients = []
    for checkpointed in (False, True):
        model = without_dropout(tiny_adapter(init_logit=0.1, gradient="stop"))
        if checkpointed:
            # The name that transformers 5.0 has, or the one that it was given later.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        model.train()
        losses = [model(**tiny_batch(model, seed=seed)).loss for seed in (0, 1)]
        (losses[0] + losses[1]).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert gradient is not None and gradient.abs().sum() > 0, name
        assert torch.equal(gradient, gradients[1][name]), name


# Files.


@pytest.mark.parametrize("architecture", SOME)
def test_a_step_moves_logits_and_head_alone_and_is_saved_packed(architecture: str, tmp_path: Path) -> None:
    model = tiny_adapter(architecture)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    train_(model, steps=1)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(".mask_logits" in name or ".modules_to_save." in name for name in moved)
    assert not any(tail in name for name in moved for tail in ("base_layer", "original_module"))
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    masks = {key: tensor for key, tensor in stored.items() if key.endswith(".supermask_keep")}
    wanted = {
        f"base_model.model.{name.removesuffix('.weight')}.supermask_keep": mask
        for name, mask in keep_masks(model).items()
    }
    assert masks.keys() == wanted.keys()
    for key, keep_mask in wanted.items():
        assert torch.equal(unpack_keep_mask(masks[key], tuple(keep_mask.shape)), keep_mask)
    other = stored.keys() - masks.keys()
    assert {key.removeprefix("base_model.model.") for key in other} == set(model.base_model.head())
    again = loaded(tmp_path, architecture)
    assert torch.equal(logits(again), logits(model))
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert not any(".mask_logits" in name for name, _ in again.named_parameters())
    assert all(mask.keep.dtype is torch.bool for mask in again.base_model.masks().values())


def test_size_is_that_of_the_coded_masks(tmp_path: Path) -> None:
    model = get_peft_model(
        tiny_model("bert", hidden_size=128, intermediate_size=512),
        SupermaskConfig(task_type="SEQ_CLS", initial_sparsity=0.05),
    )
    model.save_pretrained(tmp_path)
    masks = keep_masks(model)
    bits = sum(mask.numel() * entropy_bits(float((~mask).float().mean())) for mask in masks.values())
    header = 400 * (len(masks) + 2)
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < 1.01 * bits / 8 + header + 4 * (128 * 2 + 2)


def test_training_goes_on_from_a_file(tmp_path: Path) -> None:
    model = train_(tiny_adapter())
    masks = keep_masks(model)
    model.save_pretrained(tmp_path / "packed")
    model.peft_config["default"].save_logits = True
    model.save_pretrained(tmp_path / "exact")
    packed = loaded(tmp_path / "packed", is_trainable=True)
    for name, mask in packed.base_model.masks().items():
        assert torch.equal(mask.mask_logits, torch.where(masks[name], 1.0, -1.0))
        assert mask.trains
    exact = loaded(tmp_path / "exact", is_trainable=True)
    for name, mask in exact.base_model.masks().items():
        assert torch.equal(mask.mask_logits, model.base_model.masks()[name].mask_logits)
    assert torch.equal(logits(loaded(tmp_path / "exact")), logits(model))
    assert torch.equal(logits(exact), logits(model))
    assert train_(exact).base_model.statistics() != model.base_model.statistics()


@pytest.mark.parametrize("trainable", [False, True])
def test_low_cpu_mem_usage_changes_nothing(trainable: bool, tmp_path: Path) -> None:
    model = train_(tiny_adapter("t5", target_modules=["shared", "embed_tokens", "q"]))
    model.save_pretrained(tmp_path)
    again = loaded(tmp_path, "t5", low_cpu_mem_usage=True, is_trainable=trainable)
    assert torch.equal(logits(again), logits(model))
    assert not any(tensor.is_meta for tensor in (*again.parameters(), *again.buffers()))
    embeddings = [m for n, m in again.base_model.model.named_modules() if n.endswith(("shared", "embed_tokens"))]
    assert len({id(module.mask("default")) for module in embeddings}) == 1
    assert all(mask.trains is trainable for mask in again.base_model.masks().values())
    for mask in again.base_model.masks().values():
        assert not trainable or mask.mask_logits.dtype is torch.float32


@pytest.mark.parametrize("settings", [{}, {"device_map": {"": "cpu"}}])
def test_a_base_that_accelerate_has_placed(settings: dict[str, Any], tmp_path: Path) -> None:
    model = train_(tiny_adapter())
    model.save_pretrained(tmp_path)
    placed = dispatch_model(tiny_model("bert"), device_map={"": "cpu"}, force_hooks=True)
    assert placed.hf_device_map == {"": "cpu"}
    again = PeftModel.from_pretrained(placed, str(tmp_path), **settings)
    assert torch.equal(logits(again), logits(model))
    again.merge_adapter()
    assert torch.equal(logits(again), logits(model))
    again.unmerge_adapter()
    assert torch.equal(logits(again), logits(model))


@pytest.mark.filterwarnings("ignore:Some parameters are on the meta device")
def test_an_offloaded_base_is_refused() -> None:
    offloaded = cpu_offload(tiny_model("bert"), execution_device="cpu")
    with pytest.raises(SelectionError, match="meta device: load the model's weights first, without offloading"):
        get_peft_model(offloaded, SupermaskConfig())
    assert not any("supermask" in type(module).__module__ for module in offloaded.modules())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_base_in_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    for autocast in (True, False):
        base = tiny_model("bert").to(dtype)
        config = SupermaskConfig(task_type="SEQ_CLS", init_logit=1.0)
        model = train_(get_peft_model(base, config, autocast_adapter_dtype=autocast))
        assert all(mask.mask_logits.dtype is torch.float32 for mask in model.base_model.masks().values())
        model.save_pretrained(tmp_path)
        again = PeftModel.from_pretrained(tiny_model("bert").to(dtype), str(tmp_path), autocast_adapter_dtype=autocast)
        assert torch.equal(logits(again), logits(model))
        with pytest.raises(BaseMismatchError, match="same dtype"):
            loaded(tmp_path)


def test_state_dictionaries_of_an_adapter(tmp_path: Path) -> None:
    model, other = train_(tiny_adapter()), tiny_adapter(adapter_name="elsewhere")
    state = get_peft_model_state_dict(model)
    assert not any("mask_logits" in key or "default" in key for key in state)
    result = set_peft_model_state_dict(other, state, adapter_name="elsewhere")
    assert not result.unexpected_keys
    assert not any("supermask" in key for key in result.missing_keys)
    assert torch.equal(logits(other), logits(model))


def test_an_embedding_is_masked_without_being_stored(tmp_path: Path) -> None:
    """PEFT would store the base's whole embedding beside the adapter."""
    model = train_(tiny_adapter("llama", target_modules=["embed_tokens", "q_proj"]))
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert not any("base_layer" in key for key in stored)
    assert torch.equal(logits(loaded(tmp_path, "llama")), logits(model))


def test_other_bases_are_refused_and_other_heads_are_not(tmp_path: Path) -> None:
    model = train_(tiny_adapter())
    model.save_pretrained(tmp_path)
    base = tiny_model("bert", seed=1)
    before = snapshot(base)
    with pytest.raises(BaseMismatchError, match="not the base that the adapter was made on"):
        PeftModel.from_pretrained(base, str(tmp_path))
    assert same(snapshot(base), before)
    config = SupermaskConfig.from_pretrained(str(tmp_path))
    config.verify_base = False
    forced = PeftModel.from_pretrained(base, str(tmp_path), config=config)
    assert {name: mask.keep_mask().sum() for name, mask in forced.base_model.masks().items()} == {
        name: mask.sum() for name, mask in keep_masks(model).items()
    }
    base = tiny_model("bert")
    nn.init.ones_(base.classifier.weight)
    assert torch.equal(logits(PeftModel.from_pretrained(base, str(tmp_path))), logits(model))


def _edited(folder: Path, change: Any) -> None:
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


KEY = "base_model.model.bert.encoder.layer.0.attention.self.query.supermask_keep"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(KEY), "no mask for 1 of the 13 modules"),
        (lambda tensors: tensors.update({KEY: tensors[KEY][:-1]}), r"query\.weight: .* keep mask"),
        (lambda tensors: tensors.update({KEY: tensors[KEY].float()}), r"query\.weight: a packed mask"),
    ],
)
def test_damaged_files_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    tiny_adapter().save_pretrained(tmp_path)
    _edited(tmp_path, change)
    with pytest.raises(DeltaFormatError, match=message):
        loaded(tmp_path)


def test_a_file_without_masks_is_no_adapter(tmp_path: Path) -> None:
    """PEFT warns of missing keys and goes on; here the model does not run, and nothing can be saved or merged."""
    tiny_adapter().save_pretrained(tmp_path)
    _edited(tmp_path, lambda tensors: [tensors.pop(key) for key in list(tensors) if "keep" in key])
    with pytest.warns(UserWarning, match="missing adapter keys"):
        model = loaded(tmp_path)
    for use in (lambda: logits(model), model.merge_adapter, model.base_model.statistics):
        with pytest.raises(DeltaStateError, match="was not in the adapter's file"):
            use()


# Several adapters.


def test_adapters_take_turns(tmp_path: Path) -> None:
    first, second = (
        train_(tiny_adapter(seed=1)),
        train_(tiny_adapter("bert", seed=2, target_modules=["query", "dense"])),
    )
    first.save_pretrained(tmp_path / "first")
    second.save_pretrained(tmp_path / "second")
    both = loaded(tmp_path / "first", adapter_name="one")
    both.load_adapter(str(tmp_path / "second"), adapter_name="two")
    base = logits(tiny_model("bert").requires_grad_(False))
    assert torch.equal(logits(both), logits(first))
    both.set_adapter("two")
    assert torch.equal(logits(both), logits(second))
    with both.disable_adapter():
        assert torch.equal(logits(both), base)
    assert torch.equal(logits(both), logits(second))
    both.save_pretrained(tmp_path / "both")
    for name, wanted in (("one", first), ("two", second)):
        assert torch.equal(logits(loaded(tmp_path / "both" / name)), logits(wanted))
    both.set_adapter("one")
    both.delete_adapter("two")
    assert list(both.peft_config) == ["one"]
    assert torch.equal(logits(both), logits(first))
    with pytest.raises(UnknownNameError, match="no adapter 'two'"):
        both.base_model.masks("two")


def test_a_second_adapter_trains_while_the_first_rests() -> None:
    model = train_(tiny_adapter())
    wanted, masks = logits(model), keep_masks(model)
    model.add_adapter("second", SupermaskConfig(task_type="SEQ_CLS", init_logit=1.0, seed=9))
    model.set_adapter("second")
    train_(model)
    assert not torch.equal(logits(model), wanted)
    assert all(torch.equal(mask, masks[name]) for name, mask in keep_masks(model).items())
    model.set_adapter("default")
    assert torch.equal(logits(model), wanted)


def test_names_of_modules_are_no_names_for_adapters() -> None:
    """PEFT leaves out every tensor with another adapter's name in its path when it saves one."""
    for name in ("query", "classifier", "0", "__base__"):
        with pytest.raises(ConfigurationError, match=f"{name!r} is the name of a module"):
            tiny_adapter(adapter_name=name)
    model = tiny_adapter()
    with pytest.raises(ConfigurationError, match="call the adapter otherwise"):
        model.add_adapter("layer", SupermaskConfig(task_type="SEQ_CLS"))
    assert list(model.peft_config) == ["default"]


# Merging and taking off.


@pytest.mark.parametrize("architecture", SOME)
def test_merging_is_exact_and_leaves_no_trace(architecture: str) -> None:
    base, plain = tiny_model(architecture), tiny_model(architecture).requires_grad_(False)
    before, identities = snapshot(base), {name: id(parameter) for name, parameter in base.named_parameters()}
    model = get_peft_model(base, SupermaskConfig(task_type="SEQ_CLS", initial_sparsity=0.3, init_logit=1.0))
    wanted = logits(train_(model))
    for _ in range(2):
        model.merge_adapter()
        assert torch.equal(logits(model), wanted)
        model.unmerge_adapter()
        assert torch.equal(logits(model), wanted)
    with model.disable_adapter():
        assert torch.equal(logits(model), logits(plain))
    model.merge_adapter()
    unloaded = model.unload()
    assert unloaded is base
    assert same(snapshot(base), before)
    assert {name: id(parameter) for name, parameter in base.named_parameters()} == identities
    assert not (base._forward_hooks or base._forward_pre_hooks or base._load_state_dict_post_hooks)
    assert not hasattr(base, "peft_config")

    model = train_(tiny_adapter(architecture))
    wanted, masks = logits(model), keep_masks(model)
    merged = model.merge_and_unload(safe_merge=True)
    assert torch.equal(logits(merged), wanted)
    for name, keep_mask in masks.items():
        assert torch.equal(merged.get_parameter(name), torch.where(keep_mask, plain.get_parameter(name), 0.0))
    assert not any("peft" in type(module).__module__ for module in merged.modules())


def test_a_new_adapter_needs_the_base_as_it_is() -> None:
    delta: TaskDelta = Supermask(init_logit=1.0).attach_(tiny_model("bert")).extract()
    base = tiny_model("bert")
    with delta.applied(base), pytest.raises(DeltaStateError, match="remove the delta first"):
        get_peft_model(base, SupermaskConfig())
    model = tiny_adapter()
    model.merge_adapter()
    with pytest.raises(DeltaStateError, match="unmerge_adapter first"):
        model.add_adapter("second", SupermaskConfig())
    with pytest.raises(DeltaStateError, match="is merged into the base"):
        model.delete_adapter("default")
    assert list(model.peft_config) == ["default"]


@pytest.mark.gpu
def test_adapters_follow_the_model_to_a_device(tmp_path: Path) -> None:
    batch = {name: tensor.to("cuda") for name, tensor in tiny_batch(tiny_model("bert")).items()}
    model = tiny_adapter().to("cuda").train()
    optimizer = make_optimizer(model, mask_learning_rate=0.8)
    model(**batch).loss.backward()
    optimizer.step()
    before = {name: tensor.clone() for name, tensor in base_tensors(model.base_model.model).items()}
    with torch.no_grad():
        wanted = model.eval()(**batch).logits
        model.merge_adapter()
        assert torch.equal(model(**batch).logits, wanted)
        model.unmerge_adapter()
        assert all(torch.equal(t, before[name]) for name, t in base_tensors(model.base_model.model).items())
        model.save_pretrained(tmp_path)
        again = PeftModel.from_pretrained(tiny_model("bert").to("cuda"), str(tmp_path))
        assert torch.equal(again(**batch).logits, wanted)
        moved = loaded(tmp_path).to("cuda")
        assert torch.equal(moved(**batch).logits, wanted)


# What is not for it.


def test_without_a_task_type_the_head_trains_too_and_other_methods_are_not_mixed_in() -> None:
    with pytest.raises(ValueError, match="SUPERMASK"):
        get_peft_model(tiny_model("bert"), SupermaskConfig(), mixed=True)
    model = tiny_adapter("distilbert", task_type=None)
    assert not isinstance(model, PeftModelForSequenceClassification)
    assert model.base_model.head() == (
        "pre_classifier.weight",
        "pre_classifier.bias",
        "classifier.weight",
        "classifier.bias",
    )
    bare = tiny_adapter("distilbert", task_type=None, modules_to_save=[])
    assert bare.base_model.head() == ()
