"""Putting one delta in the place of another: what `switch=True` of `supermask.deltas.application` promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from deltas.tiny_deltas import HEAD, TinyModel, pattern, snapshot, surface, tiny_delta, tiny_model, unchanged
from supermask.deltas import DenseValues, KeepMask, TaskDelta, application, base_fingerprint
from supermask.deltas.application import applied_digest
from supermask.deltas.payloads import StoredChanges
from supermask.errors import BaseMismatchError, DeltaFormatError, DeltaStateError


def other_delta(model: nn.Module, **described: Any) -> TaskDelta:
    """A delta that shares some tensors with `tiny_delta`, leaves others alone and has a head of its own."""
    changes = {
        "dense.weight": KeepMask(pattern((8, 8), 3)),
        "dense.bias": KeepMask(pattern((8,), 2)),
        "norm.weight": DenseValues(torch.full((8,), 7.0)),
        "classifier.weight": DenseValues(torch.full((3, 8), -1.0)),
        "classifier.bias": DenseValues(torch.zeros(3)),
    }
    described = {"base_name": "tiny", "task": {"name": "other"}, "method": {"kind": "supermask"}, **described}
    return TaskDelta.create(changes, base=base_fingerprint(model, head=HEAD), head=HEAD, **described)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever a model is hashed."""
    calls: list[int] = []
    take = application.fingerprint

    def counted(tensors: Any) -> Any:
        calls.append(len(tensors))
        return take(tensors)

    monkeypatch.setattr(application, "fingerprint", counted)
    return calls


def with_delta(delta: TaskDelta) -> dict[str, bytes]:
    """What a fresh model holds with the delta alone on it."""
    return snapshot(delta.apply_(tiny_model()))


def test_a_switch_is_a_removal_and_an_application() -> None:
    model = tiny_model()
    base, outside, (first, second) = snapshot(model), surface(model), (tiny_delta(model), other_delta(model))
    for turn in range(6):
        delta = (first, second)[turn % 2]
        assert delta.apply_(model, switch=True) is model
        assert snapshot(model) == with_delta(delta)
        assert delta.is_applied(model)
    assert surface(model) == outside
    assert not first.is_applied(model)
    second.remove_(model)
    assert snapshot(model) == base


def test_a_switch_to_the_delta_that_is_on_puts_it_on_anew() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    with unchanged(model), delta.applied(model):
        before = snapshot(model)
        with torch.no_grad():
            model.dense.weight.view(-1)[0] = 5.0  # a dropped weight
        delta.apply_(model, switch=True)
        assert snapshot(model) == before


def test_the_head_is_in_the_end_what_it_was_before_the_first() -> None:
    model = tiny_model()
    first, second = tiny_delta(model), other_delta(model)
    with torch.no_grad():
        model.classifier.weight.fill_(123.0)
    with unchanged(model):
        first.apply_(model)
        second.apply_(model, switch=True)
        assert model.classifier.weight.unique().tolist() == [-1.0]
        second.remove_(model)


def test_a_verified_base_is_hashed_once_on_the_way_in_and_once_on_the_way_out(hashed: list[int]) -> None:
    model = tiny_model()
    first, second = tiny_delta(model), other_delta(model)
    first.apply_(model)
    assert len(hashed) == 1
    for delta in (second, first, second):
        delta.apply_(model, switch=True)
    assert len(hashed) == 1
    second.remove_(model)
    assert len(hashed) == 2


def test_a_failed_switch_does_not_make_the_next_one_hash(hashed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    first, second = tiny_delta(model), other_delta(model)
    first.apply_(model)

    def fail(changes: StoredChanges, name: str) -> None:
        raise DeltaFormatError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(StoredChanges, "__getitem__", fail)
        with unchanged(model), pytest.raises(DeltaFormatError, match="broken"):
            second.apply_(model, switch=True)
    second.apply_(model, switch=True)
    assert len(hashed) == 1
    assert snapshot(model) == with_delta(second)


def test_without_verification_nothing_is_hashed(hashed: list[int]) -> None:
    model = tiny_model()
    first, second = tiny_delta(model), other_delta(model)
    with unchanged(model):
        first.apply_(model)
        second.apply_(model, switch=True, verify=False)
        second.remove_(model)
    assert len(hashed) == 1
    with unchanged(model):
        first.apply_(model, verify=False)
        second.apply_(model, switch=True)  # was not verified before, so it is now
        second.remove_(model)
    assert len(hashed) == 3


def rewrite(model: TinyModel) -> None:
    with torch.no_grad():
        model.norm.bias.view(torch.int32)[0] ^= 0


def move(model: TinyModel) -> None:
    model.dense.bias.data = model.dense.bias.data.clone()


def replace(model: TinyModel) -> None:
    model.dense.bias = nn.Parameter(model.dense.bias.detach().clone())


def replace_where_it_was(model: TinyModel) -> None:
    writes, twin = model.dense.bias._version, nn.Parameter(torch.from_numpy(model.dense.bias.detach().numpy()))
    with torch.no_grad():
        while twin._version < writes:
            twin.add_(0)
    model.dense.bias = twin


def rewrite_buffer(model: TinyModel) -> None:
    model.position_ids.add_(0)


@pytest.mark.parametrize("touch", [rewrite, move, replace, replace_where_it_was, rewrite_buffer])
def test_a_base_that_may_have_changed_is_hashed_again(touch: Callable[[TinyModel], None], hashed: list[int]) -> None:
    model = tiny_model()
    base, (first, second) = snapshot(model), (tiny_delta(model), other_delta(model))
    first.apply_(model)
    touch(model)  # leaves every bit as it is
    second.apply_(model, switch=True)
    assert len(hashed) == 2
    assert snapshot(model) == with_delta(second)
    second.remove_(model)
    assert snapshot(model) == base


def test_a_base_that_has_changed_keeps_the_first_delta() -> None:
    model = tiny_model()
    first, second = tiny_delta(model), other_delta(model)
    first.apply_(model)
    with torch.no_grad():
        model.norm.bias.view(torch.int32)[0] ^= 1
    message = r"something else changed the model while a delta \(task toy, .* still on it: .*norm\.bias"
    with unchanged(model), pytest.raises(DeltaStateError, match=message):
        second.apply_(model, switch=True)
    assert first.is_applied(model)
    with torch.no_grad():
        model.norm.bias.view(torch.int32)[0] ^= 1
    second.apply_(model, switch=True)
    assert snapshot(model) == with_delta(second)


def test_a_write_behind_torchs_back_is_reported_on_removal() -> None:
    model = tiny_model()
    first, second = tiny_delta(model), other_delta(model)
    first.apply_(model)
    model.norm.bias.detach().numpy().view("int32")[0] ^= 1
    second.apply_(model, switch=True)
    with pytest.raises(DeltaStateError, match=r"something else changed the model .*norm\.bias"):
        second.remove_(model)
    assert applied_digest(model) is None


def test_a_model_made_in_inference_mode_is_hashed_each_time(hashed: list[int]) -> None:
    with torch.inference_mode():
        model = tiny_model()
        base, (first, second) = snapshot(model), (tiny_delta(model), other_delta(model))
        first.apply_(model)
        second.apply_(model, switch=True)
        assert len(hashed) == 2
        assert snapshot(model) == with_delta(second)
        second.remove_(model)
        assert snapshot(model) == base


# Refusals: each leaves the first delta on.


def refusal(model: nn.Module, first: TaskDelta, second: TaskDelta, error: type[Exception]) -> str:
    with unchanged(model), pytest.raises(error) as caught:
        second.apply_(model, switch=True)
    assert first.is_applied(model)
    return str(caught.value)


def test_a_delta_of_another_base_is_refused() -> None:
    model = tiny_model()
    first = tiny_delta(model)
    first.apply_(model)
    message = refusal(model, first, other_delta(tiny_model(seed=1)), BaseMismatchError)
    assert "this model is not the base 'tiny'" in message
    with unchanged(model):
        first.remove_(first.apply_(tiny_model()))


def test_a_head_of_another_shape_is_refused_with_the_remedy() -> None:
    model = tiny_model()
    first, second = (
        tiny_delta(model),
        TaskDelta.create(
            {"classifier.bias": DenseValues(torch.zeros(2))}, base=base_fingerprint(model, head=HEAD[1:]), head=HEAD[1:]
        ),
    )
    first.apply_(model)
    message = refusal(model, first, second, BaseMismatchError)
    assert "classifier.bias has shape (3,) here and (2,) in the delta's head: load the base with the task's" in message


def test_deltas_with_other_heads_follow_each_other(hashed: list[int]) -> None:
    model = tiny_model()
    first = tiny_delta(model)
    second = TaskDelta.create({"dense.weight": KeepMask(pattern((8, 8), 3))}, base=base_fingerprint(model))
    expected = with_delta(second)
    hashed.clear()
    first.apply_(model)
    second.apply_(model, switch=True)  # its base has the classifier among its tensors, so it is another fingerprint
    assert len(hashed) == 2
    assert snapshot(model) == expected


def test_a_model_that_was_converted_is_refused() -> None:
    model = tiny_model()
    first, second = tiny_delta(model), other_delta(model)
    first.apply_(model)
    model.to(torch.float64)
    with unchanged(model), pytest.raises((DeltaStateError, BaseMismatchError), match="float64"):
        second.apply_(model, switch=True)
    assert first.is_applied(model)


@pytest.mark.gpu
def test_a_switch_after_a_move_to_a_device() -> None:
    model = tiny_model()
    base, (first, second) = snapshot(model), (tiny_delta(model), other_delta(model))
    first.apply_(model)
    model.to("cuda")
    second.apply_(model, switch=True)
    assert snapshot(model) == with_delta(second)
    model.to("cpu")
    first.apply_(model, switch=True)
    assert snapshot(model) == with_delta(first)
    first.remove_(model)
    assert snapshot(model) == base
