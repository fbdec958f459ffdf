"""What every method keeps on every architecture. A method is tested here by being registered."""

import functools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supermask.deltas import TaskDelta
from supermask.methods import METHODS, Attachment, Freezing, Method, make_optimizer, method_from_description
from tiny_models import ARCHITECTURES, same_bits, snapshot, tiny_batch, tiny_model
from tiny_tasks import take_steps

STEPS = 3
VARIANTS: dict[str, Method] = {
    **{kind: method() for kind, method in METHODS.items()},
    "head-only": Freezing.head_only(),
}

pytestmark = pytest.mark.parametrize("variant", VARIANTS)
on_every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def learn(model: nn.Module, method: Method) -> Attachment:
    torch.manual_seed(7)
    attachment = method.attach_(model, seed=1)
    # A large rate, so that masks and values move within a few steps.
    optimizer = make_optimizer(attachment, learning_rate=1e-2, head_learning_rate=1e-2)
    attachment.begin_training(total_steps=STEPS)
    model.train()
    take_steps(attachment, optimizer, range(STEPS))
    return attachment


def logits(model: nn.Module) -> Tensor:
    model.eval()
    with torch.no_grad():
        output: Tensor = model(**tiny_batch(model)).logits
    return output


def state(model: nn.Module) -> dict[str, Any]:
    """What a method must leave as it found it, but for the tensors' values."""
    return {
        "modules": {name: type(module) for name, module in model.named_modules()},
        "gradients": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "identities": {name: id(parameter) for name, parameter in model.named_parameters()},
    }


@functools.cache
def learnt(variant: str, architecture: str) -> SimpleNamespace:
    """One training: what was there before, what it moved, learnt and left behind."""
    model = tiny_model(architecture)
    found = SimpleNamespace(model=model, before=snapshot(model), state_before=state(model))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    attachment = learn(model, VARIANTS[variant])
    found.head = set(attachment.parameters.head)
    found.allowed = {*attachment.trained, *found.head}
    now = {names[id(parameter)]: parameter.detach() for parameter in model.parameters() if id(parameter) in names}
    found.moved = {name for name, tensor in now.items() if not same_bits(tensor, found.before[name])}
    found.constrained = set(attachment.constrained_changes())
    with attachment.evaluating():
        found.logits = logits(model)
    found.delta = attachment.extract()
    attachment.detach_()
    return found


def test_the_description_is_json_and_rebuilds_the_method(variant: str) -> None:
    method = VARIANTS[variant]
    assert method_from_description(json.loads(json.dumps(method.describe()))) == method


@on_every_architecture
def test_a_step_moves_what_it_may_and_nothing_else(variant: str, architecture: str) -> None:
    one = learnt(variant, architecture)
    assert one.moved <= one.allowed
    assert one.moved & one.head
    assert one.constrained or one.moved - one.head or variant == "head-only"


@on_every_architecture
def test_detaching_leaves_no_trace(variant: str, architecture: str) -> None:
    one = learnt(variant, architecture)
    after = snapshot(one.model)
    assert list(after) == list(one.before)
    assert all(same_bits(after[name], one.before[name]) for name in after)
    assert state(one.model) == one.state_before
    VARIANTS[variant].attach_(one.model).detach_()  # and the model can be used again


@on_every_architecture
def test_the_stored_delta_gives_the_same_logits_and_comes_off_again(
    variant: str, architecture: str, tmp_path: Path
) -> None:
    one = learnt(variant, architecture)
    one.delta.save(tmp_path / "delta")
    base = logits(one.model)
    assert not torch.equal(base, one.logits)

    delta = TaskDelta.load(tmp_path / "delta")
    fresh = tiny_model(architecture)
    delta.apply_(fresh)
    assert same_bits(logits(fresh), one.logits)
    delta.remove_(fresh)
    assert all(same_bits(tensor, one.before[name]) for name, tensor in snapshot(fresh).items())
    assert same_bits(logits(fresh), base)


@on_every_architecture
def test_the_same_seed_gives_the_same_delta(variant: str, architecture: str) -> None:
    base = tiny_model(architecture)
    first = learnt(variant, architecture).delta.changes_for(base)
    second = learn(tiny_model(architecture), VARIANTS[variant]).extract().changes_for(base)
    assert list(first) == list(second)
    for name in first:
        ours, theirs = first[name], second[name]
        assert type(ours) is type(theirs)
        for field in ("keep", "values"):
            if hasattr(ours, field):
                assert same_bits(getattr(ours, field), getattr(theirs, field))
