from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from deltas.tiny_deltas import pattern, snapshot, tiny_delta, tiny_model, unchanged
from supermask.deltas import (
    DenseValues,
    KeepMask,
    StoredChanges,
    TaskDelta,
    application,
    base_fingerprint,
    named_tensors,
)
from supermask.deltas.decoded import DecodedDelta
from supermask.deltas.overwriting import LiftedWeights
from supermask.errors import BaseMismatchError, DeltaFormatError, DeltaStateError


@pytest.mark.parametrize("threads", [None, 1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_decoded_delta_does_what_the_coded_one_does(dtype: torch.dtype, threads: int | None) -> None:
    model = tiny_model(dtype)
    delta = tiny_delta(model)
    decoded = delta.decode(model, threads=threads)
    with delta.applied(model):
        expected = snapshot(model)
    for _ in range(2):
        with unchanged(model), decoded.applied(model, threads=threads) as applied:
            assert applied is model
            assert snapshot(model) == expected
            assert decoded.is_applied(model)
            assert delta.is_applied(model)
    assert list(decoded.changes) == [record.name for record in delta.document.changes]
    assert decoded.digest == delta.digest
    assert "task='toy'" in repr(decoded)


def test_nothing_is_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    decoded = tiny_delta(model).decode(model)

    def refuse(changes: StoredChanges, name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(StoredChanges, "__getitem__", refuse)
    with unchanged(model), decoded.applied(model):
        pass


def test_coded_and_decoded_are_one_delta_to_a_model() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    decoded = delta.decode(model)
    with unchanged(model):
        decoded.apply_(model)
        delta.remove_(model)
        delta.apply_(model)
        decoded.remove_(model)
    other = tiny_delta(model, task={"name": "other"}).decode(model)
    with unchanged(model):
        delta.apply_(model)
        with pytest.raises(DeltaStateError, match=r"task toy.*task other.*switch=True"):
            other.apply_(model)
        other.apply_(model, switch=True)
        other.remove_(model)


def test_one_decoded_delta_on_many_models() -> None:
    models = [tiny_model() for _ in range(3)]
    decoded = tiny_delta(models[0]).decode(models[0])
    before = snapshot(models[0])
    for model in models:
        decoded.apply_(model)
    assert len({frozenset(snapshot(model).items()) for model in models}) == 1
    for model in models:
        decoded.remove_(model)
        assert snapshot(model) == before


def test_memory_is_that_of_the_smallest_form() -> None:
    model = nn.Linear(64, 100)
    changes = {"weight": KeepMask(pattern((100, 64), 100)), "bias": DenseValues(torch.ones(100))}
    sparse = TaskDelta.create(changes, base=base_fingerprint(model)).decode(model)
    assert sparse.nbytes == 4 * 64 + 4 * 100
    changes["weight"] = KeepMask(pattern((100, 64), 4))
    assert TaskDelta.create(changes, base=base_fingerprint(model)).decode(model).nbytes == 6400 // 8 + 4 * 100


def memory_of(model: nn.Module) -> set[int]:
    """Where what a delta overwrote in a model is kept."""
    overwritten = application._applications[model].overwritten.values()
    return {record.values.untyped_storage().data_ptr() for record in overwritten if isinstance(record, LiftedWeights)}


def test_memory_for_what_is_overwritten_is_used_again() -> None:
    model = tiny_model()
    one, two = (tiny_delta(model, task={"name": name}).decode(model) for name in ("one", "two"))
    seen = []
    with unchanged(model):
        for delta in (one, two, one, two, one):
            delta.apply_(model, switch=True)
            seen.append(memory_of(model))
        assert seen[0] == seen[2] == seen[4]
        assert seen[1] == seen[3]
        assert not seen[0] & seen[1]
        one.remove_(model)
        two.apply_(model)
        assert memory_of(model) == seen[0]
        two.remove_(model)
    coded = tiny_delta(model)
    with coded.applied(model):
        pass
    assert model not in application._spares


def test_tensors_by_name_are_a_base_too() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    decoded = delta.decode({name: tensor.clone() for name, tensor in named_tensors(model).items()})
    with delta.applied(model):
        expected = snapshot(model)
    with decoded.applied(model):
        assert snapshot(model) == expected


def test_decoding_needs_the_base() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    for verify in (True, False):
        with pytest.raises(BaseMismatchError, match="load the base with the task's number of labels"):
            delta.decode(tiny_model(labels=2), verify=verify)
    with pytest.raises(BaseMismatchError, match="differ"):
        delta.decode(tiny_model(seed=1))
    with delta.applied(model), pytest.raises(DeltaStateError, match="remove the delta first"):
        delta.decode(model)
    with unchanged(model):
        delta.decode(model).remove_(delta.apply_(model))


def test_a_delta_that_does_not_decode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    payloads = {**delta.payloads, "dense.weight:keep": b"\xff" * len(delta.payloads["dense.weight:keep"])}
    with pytest.raises(DeltaFormatError, match=r"dense\.weight"):
        TaskDelta(delta.document, payloads).decode(model)


def test_decoded_deltas_travel_between_processes() -> None:
    model = tiny_model()
    decoded = tiny_delta(model).decode(model)
    twin = pickle.loads(pickle.dumps(decoded))
    assert isinstance(twin, DecodedDelta)
    with decoded.applied(model):
        expected = snapshot(model)
    with unchanged(model), twin.applied(model):
        assert snapshot(model) == expected
