"""What every method keeps on every architecture. A method is tested here by being registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supermask.deltas import TaskDelta
from supermask.methods import METHODS, Attachment, Freezing, Method, make_optimizer, method_from_description
from tiny_models import ARCHITECTURES, tiny_batch, tiny_model

STEPS = 3
VARIANTS: dict[str, Method] = {
    **{kind: method() for kind, method in METHODS.items()},
    "head-only": Freezing.head_only(),
}

pytestmark = pytest.mark.parametrize("variant", VARIANTS)
on_every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same_bits(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(
        first.contiguous().reshape(-1).view(torch.uint8), second.contiguous().reshape(-1).view(torch.uint8)
    )


def learn(model: nn.Module, method: Method, *, seed: int = 0, steps: int = STEPS) -> Attachment:
    torch.manual_seed(7)
    attachment = method.attach_(model, seed=seed)
    # A large rate, so that masks and values move within a few steps.
    optimizer = make_optimizer(attachment, learning_rate=1e-2, head_learning_rate=1e-2)
    attachment.begin_training(total_steps=steps)
    model.train()
    batch = tiny_batch(model)
    for step in range(steps):
        attachment.begin_step(step)
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return attachment


def logits(model: nn.Module) -> Tensor:
    model.eval()
    with torch.no_grad():
        output: Tensor = model(**tiny_batch(model)).logits
    return output


def test_the_description_is_json_and_rebuilds_the_method(variant: str) -> None:
    method = VARIANTS[variant]
    assert method_from_description(json.loads(json.dumps(method.describe()))) == method


@on_every_architecture
def test_a_step_moves_what_it_may_and_nothing_else(variant: str, architecture: str) -> None:
    model = tiny_model(architecture)
    before = snapshot(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    attachment = learn(model, VARIANTS[variant])
    allowed = {*attachment.trained, *attachment.parameters.head}
    moved = {
        names[id(parameter)]
        for parameter in model.parameters()
        if id(parameter) in names and not same_bits(parameter.detach(), before[names[id(parameter)]])
    }
    assert moved <= allowed
    assert moved & set(attachment.parameters.head)
    changed = set(attachment.constrained_changes())
    assert changed or moved - set(attachment.parameters.head) or variant == "head-only"


@on_every_architecture
def test_detaching_leaves_no_trace(variant: str, architecture: str) -> None:
    model = tiny_model(architecture)
    before, modules = snapshot(model), {name: type(module) for name, module in model.named_modules()}
    gradients = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    identities = {name: id(parameter) for name, parameter in model.named_parameters()}
    learn(model, VARIANTS[variant]).detach_()
    after = snapshot(model)
    assert list(after) == list(before)
    assert all(same_bits(after[name], before[name]) for name in before)
    assert {name: type(module) for name, module in model.named_modules()} == modules
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == gradients
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == identities
    VARIANTS[variant].attach_(model).detach_()  # and the model can be used again


@on_every_architecture
def test_the_stored_delta_gives_the_same_logits_and_comes_off_again(
    variant: str, architecture: str, tmp_path: Path
) -> None:
    model = tiny_model(architecture)
    before = snapshot(model)
    attachment = learn(model, VARIANTS[variant])
    with attachment.evaluating():
        learnt = logits(model)
    attachment.extract().save(tmp_path / "delta")
    attachment.detach_()
    base = logits(model)
    assert not torch.equal(base, learnt)

    delta = TaskDelta.load(tmp_path / "delta")
    fresh = tiny_model(architecture)
    delta.apply_(fresh)
    assert same_bits(logits(fresh), learnt)
    delta.remove_(fresh)
    restored = snapshot(fresh)
    assert all(same_bits(restored[name], before[name]) for name in before)
    assert same_bits(logits(fresh), base)


@on_every_architecture
def test_the_same_seed_gives_the_same_delta(variant: str, architecture: str) -> None:
    def changes(seed: int) -> dict[str, Any]:
        delta = learn(tiny_model(architecture), VARIANTS[variant], seed=seed).extract()
        return dict(delta.changes_for(tiny_model(architecture)))

    first, second = changes(1), changes(1)
    assert list(first) == list(second)
    for name in first:
        for field in ("keep", "values"):
            if hasattr(first[name], field):
                assert same_bits(getattr(first[name], field), getattr(second[name], field))
