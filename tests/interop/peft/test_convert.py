"""Deltas and adapters are each other, to the bit; what an adapter cannot say is refused by name."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import Tensor

from interop.peft.tiny_adapters import bits, keep_masks, loaded, logits, same, snapshot, tiny_adapter, train_
from supermask import Pruning, Supermask, TaskDelta
from supermask.deltas import DenseValues, KeepMask, TaskRecord, TrainingRecord, base_fingerprint
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaStateError, UnknownNameError
from supermask.interop.peft import (
    SupermaskConfig,
    adapter_to_delta,
    delta_to_adapter,
    delta_to_peft,
    peft_to_delta,
)
from supermask.methods import make_optimizer
from supermask.models import map_parameters
from tiny_models import tiny_batch, tiny_model


@functools.cache
def learnt(architecture: str, *, seed: int = 0, **settings: Any) -> TaskDelta:
    """A delta of the native method after a few steps that flip many weights."""
    model = tiny_model(architecture)
    settings = {"initial_sparsity": 0.3, "init_logit": 1.0, "learning_rate": 0.8, **settings}
    attachment = Supermask(**settings).attach_(model, seed=seed)
    optimizer = make_optimizer(attachment)
    model.train()
    for step in range(2):
        attachment.begin_step(step)
        optimizer.zero_grad()
        model(**tiny_batch(model, seed=step)).loss.backward()
        optimizer.step()
    return attachment.extract(
        base_name="tiny",
        base_revision="7",
        task={"name": "toy", "kind": "single"},
        training={"config": {"seed": seed}, "steps": 2},
    )


def content(delta: TaskDelta) -> dict[str, Tensor]:
    """Every change of a delta over the tiny BERT, as bytes."""
    return {
        name: bits(change.keep if isinstance(change, KeepMask) else change.values)  # type: ignore[union-attr]
        for name, change in delta.changes_for(tiny_model("bert")).items()
    }


@pytest.mark.parametrize("architecture", ["distilbert", "gpt2", "t5"])
@torch.no_grad()
def test_to_an_adapter_and_back(architecture: str, tmp_path: Path) -> None:
    with torch.enable_grad():
        delta = learnt(architecture)
    base = tiny_model(architecture)
    with delta.applied(base):
        wanted = logits(base)
    model = delta_to_peft(delta, base, task_type="SEQ_CLS")
    assert torch.equal(logits(model), wanted)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.save_pretrained(tmp_path)
    with_file = loaded(tmp_path, architecture)
    assert torch.equal(logits(with_file), wanted)
    for name, change in delta.changes_for(tiny_model(architecture)).items():
        if isinstance(change, KeepMask):
            assert torch.equal(with_file.base_model.masks()[name].keep_mask(), change.keep)
    # Equal deltas have equal documents, which hold the hash of every payload.
    assert peft_to_delta(with_file) == delta


def test_what_peft_has_trained_becomes_a_delta(tmp_path: Path) -> None:
    model = train_(tiny_adapter(seed=3, target_modules=["query", "value"]))
    delta = peft_to_delta(model, base_name="tiny", task={"name": "toy"}, training={"steps": 3})
    assert (delta.document.base.name, delta.task.name, delta.training.steps) == ("tiny", "toy", 3)
    assert delta.method.describe() == {
        "kind": "supermask",
        "initial_sparsity": 0.3,
        "init_logit": 1.0,
        "gradient": "through",
    }
    assert delta.base.digest == base_fingerprint(tiny_model("bert"), head=delta.head).digest
    masks = keep_masks(model)
    assert {c.name for c in delta.document.changes} == {*masks, "classifier.weight", "classifier.bias"}
    assert delta.zeros == sum(int((~mask).sum()) for mask in masks.values())
    with delta.applied(tiny_model("bert")) as plain:
        assert torch.equal(logits(plain), logits(model))
    # Without a head, it has none; trained on, it is another delta.
    model = get_peft_model(tiny_model("bert"), SupermaskConfig(modules_to_save=[], target_modules=["query"]))
    delta = peft_to_delta(model)
    assert delta.head == ()
    assert delta.base.digest == base_fingerprint(tiny_model("bert")).digest
    delta_to_adapter(learnt("bert"), tiny_model("bert"), tmp_path)
    model = train_(loaded(tmp_path, is_trainable=True))
    assert peft_to_delta(model).training == TrainingRecord()
    model.save_pretrained(tmp_path / "further")
    assert peft_to_delta(loaded(tmp_path / "further")).task == TaskRecord()


def test_folders_and_a_base_that_comes_back(tmp_path: Path) -> None:
    delta, base = learnt("bert"), tiny_model("bert").train()
    base.bert.pooler.eval()
    base.classifier.bias.requires_grad_(False)
    before = snapshot(base)
    flags = {name: parameter.requires_grad for name, parameter in base.named_parameters()}
    modes = {name: module.training for name, module in base.named_modules()}
    folder = delta_to_adapter(delta, base, tmp_path / "adapter", task_type="SEQ_CLS")
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    assert json.loads((folder / "adapter_config.json").read_text())["base_digest"] == delta.base.digest
    assert adapter_to_delta(folder, base) == delta
    assert same(snapshot(base), before)
    assert {name: parameter.requires_grad for name, parameter in base.named_parameters()} == flags
    assert {name: module.training for name, module in base.named_modules()} == modes


@torch.no_grad()
def test_several_deltas_over_one_base() -> None:
    with torch.enable_grad():
        deltas = {"one": learnt("bert"), "two": learnt("bert", seed=1, select="value")}
    model: Any = tiny_model("bert")
    for name, delta in deltas.items():
        model = delta_to_peft(delta, model, adapter_name=name)
    for name, delta in deltas.items():
        model.set_adapter(name)
        with delta.applied(tiny_model("bert")) as plain:
            assert torch.equal(logits(model), logits(plain))
        assert peft_to_delta(model, adapter_name=name) == delta
    with pytest.raises(UnknownNameError, match="no adapter 'three'; adapters: one, two"):
        peft_to_delta(model, adapter_name="three")
    model.merge_adapter()
    with pytest.raises(DeltaStateError, match="unmerge_adapter first"):
        peft_to_delta(model, adapter_name="one")


def test_modules_stored_whole_are_dense_values() -> None:
    model = train_(tiny_adapter(modules_to_save=["pooler"], target_modules=["query"]), steps=1)
    delta = peft_to_delta(model)
    kinds = {change.name: change.kind for change in delta.document.changes}
    assert kinds["bert.pooler.dense.weight"] == kinds["classifier.bias"] == "dense_values"
    assert delta.head == ("classifier.weight", "classifier.bias")
    with torch.no_grad(), delta.applied(tiny_model("bert")) as plain:
        assert torch.equal(logits(plain), logits(model))
    with pytest.raises(ConfigurationError, match=r"2 other tensors: bert\.pooler\.dense\.weight \(dense values\)"):
        delta_to_peft(delta, tiny_model("bert"))


def test_nan_and_negative_zero_in_the_head_survive() -> None:
    base = tiny_model("bert")
    odd = torch.tensor([[-0.0, float("nan")] * 16, [float("inf"), 1e-45] * 16])
    raw = odd.view(torch.int32)
    raw[0, 1] = 0x7FC12345  # a NaN with a payload
    head = map_parameters(base).head
    name = "bert.pooler.dense.weight"
    delta = TaskDelta.create(
        {
            name: KeepMask(torch.eye(32) > 0),
            "classifier.weight": DenseValues(raw.view(torch.float32)),
            "classifier.bias": DenseValues(torch.zeros(2)),
        },
        base=base_fingerprint(base, head=head),
        head=head,
        architecture="BertForSequenceClassification",
    )
    assert same(content(peft_to_delta(delta_to_peft(delta, base))), content(delta))


def test_what_an_adapter_cannot_say_is_refused() -> None:
    pruned = Pruning(sparsity=0.5).attach_(tiny_model("bert"))
    pruned.begin_training(total_steps=1)
    pruned.after_step()
    norms = Supermask(train=["norm"], select="query").attach_(tiny_model("bert"))
    with torch.no_grad():
        norms.model.bert.embeddings.LayerNorm.weight.add_(1.0)  # type: ignore[union-attr,operator]
    base = tiny_model("bert")
    before = snapshot(base)
    with pytest.raises(ConfigurationError, match=r"13 other tensors: .*query\.weight \(sparse values\).* and 10 more"):
        delta_to_peft(pruned.extract(), base)
    with pytest.raises(
        ConfigurationError, match=r"1 other tensors: bert\.embeddings\.LayerNorm\.weight \(dense values\)"
    ):
        delta_to_peft(norms.extract(), base)
    head = map_parameters(base).head
    values = {name: DenseValues(base.get_parameter(name).detach()) for name in head}
    with pytest.raises(ConfigurationError, match="masks nothing"):
        delta_to_peft(TaskDelta.create(values, base=base_fingerprint(base, head=head), head=head), base)
    assert same(snapshot(base), before)


def test_other_bases_and_heads_are_refused() -> None:
    delta = learnt("bert")
    base = tiny_model("bert")
    with torch.no_grad():
        base.bert.pooler.dense.bias.add_(1.0)
    with pytest.raises(BaseMismatchError, match=r"1 of 39 tensors differ \(bert\.pooler\.dense\.bias\)"):
        delta_to_peft(delta, base)
    assert type(base.bert.pooler.dense) is torch.nn.Linear
    assert peft_to_delta(delta_to_peft(delta, base, verify=False)).zeros == delta.zeros
    with pytest.raises(BaseMismatchError, match=r"classifier\.weight has shape \(3, 32\) here and \(2, 32\)"):
        delta_to_peft(delta, tiny_model("bert", num_labels=3))
    with pytest.raises(BaseMismatchError, match="head is"):
        delta_to_peft(delta, tiny_model("roberta"))
    half = tiny_model("bert").half()
    with pytest.raises(
        BaseMismatchError, match=r"classifier\.weight is torch\.float16 here, not float32: load the base with"
    ):
        delta_to_peft(delta, half)
