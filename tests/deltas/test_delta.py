from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from deltas.any_changes import bits, same, tensors_and_changes
from deltas.tiny_deltas import HEAD, pattern, snapshot, tiny_delta, tiny_model, unchanged
from supermask.deltas import Change, ChangePlace, DenseValues, KeepMask, TaskDelta, base_fingerprint
from supermask.errors import ConfigurationError


def test_what_a_delta_says_of_itself() -> None:
    model = tiny_model()
    delta = tiny_delta(model, base_revision="abc", training={"seed": 3})
    assert delta.base == base_fingerprint(model, head=HEAD)
    assert (delta.head, delta.method, delta.task, delta.training) == (
        HEAD,
        {"kind": "supermask"},
        {"name": "toy"},
        {"seed": 3},
    )
    assert (delta.zeros, delta.weights, delta.sparsity) == (114, 208, 114 / 208)
    assert json.dumps(delta.method)
    assert list(delta.changes_for({}))[:2] == ["dense.weight", "embedding.weight"]
    assert "task='toy'" in repr(delta)
    assert "zeros=114 of 208 weights" in repr(delta)


def test_equality_is_by_content() -> None:
    model = tiny_model()
    assert tiny_delta(model) == tiny_delta(model)
    assert hash(tiny_delta(model)) == hash(tiny_delta(model))
    assert tiny_delta(model) != tiny_delta(model, task={})
    assert tiny_delta(model) != "delta"


def test_deltas_can_be_copied_and_sent_to_other_processes() -> None:
    delta = tiny_delta(tiny_model())
    assert copy.deepcopy(delta) == delta
    assert pickle.loads(pickle.dumps(delta)).payloads == delta.payloads


def test_changes_that_are_written_to_do_not_change_the_delta() -> None:
    delta = tiny_delta(tiny_model())
    before = delta.digest
    for change in delta.changes_for({}).values():
        (change.values if isinstance(change, DenseValues) else change.keep).zero_()
    delta.task["name"] = "changed"
    assert delta.digest == before
    assert int((~pattern((8, 8), 4)).sum()) == delta.changes_for({})["dense.weight"].zeros  # type: ignore[union-attr]


def test_a_delta_without_masks_has_no_sparsity() -> None:
    model = nn.Linear(2, 2)
    delta = TaskDelta.create(
        {"bias": DenseValues(torch.zeros(2))}, base=base_fingerprint(model, head=["bias"]), head=["bias"]
    )
    assert (delta.zeros, delta.weights, delta.sparsity) == (0, 0, 0.0)


def test_masks_of_any_device_and_layout_are_stored_alike() -> None:
    model = nn.Linear(8, 6)
    keep = pattern((8, 6), 5).t()
    one, two = (
        TaskDelta.create({"weight": KeepMask(mask)}, base=base_fingerprint(model)) for mask in (keep, keep.contiguous())
    )
    assert one == two


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {}, "a delta without changes would have no effect"),
        ({"nowhere": KeepMask(torch.ones(2, 2, dtype=torch.bool))}, {}, "nowhere: changed, but neither"),
        (
            {"weight": DenseValues(torch.ones(2, 2, dtype=torch.bool))},
            {},
            "^weight: torch.bool values cannot be stored",
        ),
        (
            {"weight": DenseValues(torch.ones(2, 2, dtype=torch.complex64))},
            {},
            "^weight: torch.complex64 values cannot",
        ),
        ({"weight": DenseValues(torch.ones(2, 2))}, {"head": ["bias"]}, "bias: a head tensor comes with dense values"),
        (
            {"bias": KeepMask(torch.ones(2, dtype=torch.bool))},
            {"head": ["bias"]},
            "bias: a head tensor comes with dense",
        ),
        (
            {"weight": DenseValues(torch.ones(2, 2))},
            {"training": {"loss": float("nan")}},
            "training.loss: nan is no JSON",
        ),
        ({"weight": DenseValues(torch.ones(2, 2))}, {"task": {"labels": {1, 2}}}, "task"),
        ({"weight": DenseValues(torch.ones(2, 2))}, {"method": {1: 2}}, "method"),
        ({"weight": DenseValues(torch.ones(2, 2))}, {"places": {"weight": ChangePlace(block=-1)}}, "block"),
        ({"weight": DenseValues(torch.ones(2, 2))}, {"base_name": "a\x1b[31m"}, "base.name|name"),
        (
            {"weight": DenseValues(torch.ones(2, 2))},
            {"task": {"text": " " * (2 << 20)}},
            "cannot be stored: its document",
        ),
    ],
)
def test_what_cannot_be_stored_is_refused_when_it_is_made(
    changes: dict[str, Change], options: dict[str, Any], message: str
) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ConfigurationError, match=message):
        TaskDelta.create(changes, base=base_fingerprint(model, head=options.get("head", [])), **options)


@pytest.mark.parametrize("against", [False, True])
@settings(max_examples=60)
@given(tensors_and_changes())
def test_any_delta_is_stored_applied_and_removed_exactly(
    tmp_path_factory: pytest.TempPathFactory, against: bool, drawn: tuple[dict[str, Tensor], dict[str, Change]]
) -> None:
    tensors, changes = drawn
    model = nn.Module()
    for name, tensor in tensors.items():
        model.register_buffer(name, tensor.clone())
    delta = TaskDelta.create(changes, base=base_fingerprint(model), base_tensors=tensors if against else None)
    path = tmp_path_factory.mktemp("delta") / "d.safetensors"
    loaded = TaskDelta.load(delta.save(path))
    assert loaded == delta
    assert path.stat().st_size == delta.nbytes_on_disk()
    assert all(same(loaded.changes_for(tensors)[name], change) for name, change in changes.items())
    with unchanged(model):
        loaded.apply_(model)
        found = snapshot(model)
        for name, tensor in tensors.items():
            assert found[name] == bits(changes[name].apply(tensor) if name in changes else tensor)
        loaded.remove_(model)
