from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deltas.any_changes import bits, same
from deltas.golden import make_golden
from deltas.tiny_deltas import tiny_changes, tiny_delta, tiny_model
from supermask.deltas import (
    Change,
    ChangePlace,
    DeltaDocument,
    DenseValues,
    KeepMask,
    SparseValues,
    StoredChanges,
    TaskDelta,
)
from supermask.deltas.change_coding import encode_change, needs_base
from supermask.deltas.positions import MaskPositions
from supermask.errors import BaseMismatchError, DeltaFormatError, DeltaStateError

CODED = ("block.0.query.weight", "embedding.weight", "block.1.gate.weight")  # a mask, dense values and sparse ones


@pytest.fixture(scope="module")
def golden() -> TaskDelta:
    return make_golden.golden_delta()


def with_record(delta: TaskDelta, name: str, **fields: Any) -> DeltaDocument:
    """A document that says something else of one change, unchecked."""
    changes = tuple(
        record.model_copy(update=fields) if record.name == name else record for record in delta.document.changes
    )
    return delta.document.model_copy(update={"changes": changes})


# Changes as a mapping.


def test_changes_come_in_model_order_and_are_decoded_anew_each_time() -> None:
    delta = tiny_delta(tiny_model())
    changes = delta.changes_for({})
    assert isinstance(changes, Mapping)
    assert list(changes) == [record.name for record in delta.document.changes]
    assert len(changes) == 6
    assert "dense.weight" in changes and "nowhere" not in changes
    with pytest.raises(KeyError):
        changes["nowhere"]
    first, second = changes["norm.weight"], changes["norm.weight"]
    assert isinstance(first, DenseValues) and isinstance(second, DenseValues)
    first.values.zero_()
    assert second.values.count_nonzero() == 7


def test_the_base_is_read_when_a_change_is_asked_for(golden: TaskDelta) -> None:
    asked: list[str] = []

    class Watched(dict[str, Tensor]):
        def get(self, name: str, default: Any = None) -> Any:
            asked.append(name)
            return super().get(name, default)

    changes = golden.changes_for(Watched(make_golden.base_tensors_2()))
    assert len(changes) == 14 and not asked
    assert changes["block.0.query.weight"]
    assert asked == ["block.0.query.weight"]


@pytest.mark.parametrize(
    "lay",
    [
        lambda tensor: tensor.clone(),
        lambda tensor: tensor.t().contiguous().t() if tensor.dim() == 2 else tensor,
        lambda tensor: tensor.clone().requires_grad_(tensor.is_floating_point()),
        lambda tensor: torch.stack([tensor, tensor], dim=-1)[..., 1],
    ],
    ids=["contiguous", "transposed", "trained", "strided"],
)
def test_the_bases_layout_in_memory_does_not_count(golden: TaskDelta, lay: Any) -> None:
    base = {name: lay(tensor) for name, tensor in make_golden.base_tensors_2().items()}
    expected = make_golden.changes_2()
    assert all(same(change, expected[name]) for name, change in golden.changes_for(base).items())
    assert make_golden.golden_delta(base_tensors=base) == golden


@pytest.mark.gpu
def test_the_base_may_be_on_a_device(golden: TaskDelta) -> None:
    base = {name: tensor.to("cuda") for name, tensor in make_golden.base_tensors_2().items()}
    expected = make_golden.changes_2()
    assert all(same(change, expected[name]) for name, change in golden.changes_for(base).items())


# What cannot be decoded.


@pytest.mark.parametrize("name", CODED)
def test_a_change_that_was_coded_against_the_base_needs_it(golden: TaskDelta, name: str) -> None:
    assert golden.needs_base
    with pytest.raises(DeltaStateError, match=rf"^{name}: .*pass the base"):
        golden.changes_for({})[name]


def test_a_change_that_was_not_does_without(golden: TaskDelta) -> None:
    expected = make_golden.changes_2()
    for name in ("block.0.key.weight", "block.0.bias", "block.1.halves.weight", "classifier.weight"):
        assert same(golden.changes_for({})[name], expected[name])
    assert not make_golden.golden_delta(base_tensors=None).needs_base


@pytest.mark.parametrize("name", CODED)
def test_a_base_of_another_shape_or_dtype_is_refused_by_name(golden: TaskDelta, name: str) -> None:
    base = make_golden.base_tensors_2()
    for other in (base[name].t().contiguous(), base[name].reshape(-1)):
        with pytest.raises(BaseMismatchError, match=rf"^{name}: the change has shape .*, the base's tensor \("):
            golden.changes_for({name: other})[name]
    if name != "block.0.query.weight":  # a mask may come out of another dtype: it is not the right one
        with pytest.raises(BaseMismatchError, match=rf"^{name}: the values are coded against (float32|bfloat16) of"):
            golden.changes_for({name: base[name].double()})[name]


def test_a_head_of_another_shape_is_no_matter(golden: TaskDelta) -> None:
    base = make_golden.base_tensors_2() | {"classifier.weight": torch.zeros(7, 40)}
    assert same(golden.changes_for(base)["classifier.weight"], make_golden.changes_2()["classifier.weight"])


def test_a_damaged_payload_is_refused_by_name(golden: TaskDelta) -> None:
    base = make_golden.base_tensors_2()
    for part, name in (
        ("keep", "block.0.query.weight"),
        ("keep", "block.0.bias"),
        ("keep", "block.1.gate.weight"),
        ("values", "embedding.weight"),
        ("values", "block.1.gate.weight"),
        ("values", "classifier.weight"),
    ):
        key = f"{name}:{part}"
        payloads = {**golden.payloads, key: golden.payloads[key][:-4]}
        with pytest.raises(DeltaFormatError, match=rf"^{name}: "):
            StoredChanges(golden.document, payloads, base)[name]


def test_a_false_coding_is_refused_by_name(golden: TaskDelta) -> None:
    record = next(record for record in golden.document.changes if record.name == "embedding.weight")
    assert record.values is not None
    for coding in ("raw", "shuffle", "difference"):
        document = with_record(golden, record.name, values=record.values.model_copy(update={"coding": coding}))
        changes = StoredChanges(document, golden.payloads, make_golden.base_tensors_2())
        if coding == "shuffle":  # the same bytes say something else
            assert not same(changes[record.name], make_golden.changes_2()[record.name])
        else:
            with pytest.raises(DeltaFormatError, match=r"^embedding\.weight: "):
                changes[record.name]


def test_a_form_that_is_not_known_is_refused(golden: TaskDelta) -> None:
    payloads = {**golden.payloads, "block.0.bias:keep": b"\x03", "dense.weight:keep": b"\x03"}
    for fails in (
        lambda: StoredChanges(golden.document, payloads, {})["block.0.bias"],
        lambda: needs_base(tiny_delta(tiny_model()).document, dict.fromkeys(payloads, b"\x03")),
    ):
        with pytest.raises(DeltaFormatError, match="no form that is known here"):
            fails()


# Coding one change.


def encoded(change: Change, base: Tensor | None = None, **options: Any) -> tuple[Any, dict[str, bytes]]:
    payloads: dict[str, bytes] = {}
    options = {"place": ChangePlace(), "round_values": None, **options}
    return encode_change("w", change, payloads, base=base, **options), payloads


def test_a_record_says_what_its_payloads_are() -> None:
    keep = torch.tensor([[True, False], [True, True]])
    record, payloads = encoded(SparseValues(keep, torch.tensor([1.0, 2.0, 3.0])), place=ChangePlace("query", 3))
    assert record.model_dump(exclude_none=True) == {
        "name": "w",
        "role": "query",
        "block": 3,
        "kind": "sparse_values",
        "shape": (2, 2),
        "dtype": "float32",
        "zeros": 1,
        "keep": {"nbytes": 9, "crc32": f"{zlib.crc32(payloads['w:keep']):08x}"},
        "values": {"nbytes": 12, "crc32": f"{zlib.crc32(payloads['w:values']):08x}", "coding": "raw"},
    }
    assert list(payloads) == ["w:keep", "w:values"]
    assert payloads["w:values"] == bits(torch.tensor([1.0, 2.0, 3.0]))


def test_masks_in_every_form_that_they_are_held_in_are_coded_alike() -> None:
    keep = torch.arange(40) % 9 != 4
    positions = MaskPositions(np.flatnonzero(~keep.numpy()).astype(np.int32), dropped=True, shape=(40,))
    forms = [KeepMask(keep), KeepMask(positions), KeepMask(keep).compact()]
    assert len({encoded(form)[1]["w:keep"] for form in forms}) == 1


def test_what_is_coded_is_not_held_on_to() -> None:
    values = torch.ones(6)
    _, payloads = encoded(DenseValues(values))
    before = dict(payloads)
    values.zero_()
    assert payloads == before


def test_values_on_a_graph_are_coded() -> None:
    values = torch.nn.Parameter(torch.linspace(0, 1, 8))
    record, payloads = encoded(DenseValues(values), torch.zeros(8))
    assert record.values.nbytes == len(payloads["w:values"])
    assert record.dtype == "float32"


@pytest.mark.parametrize("name", list(tiny_changes(tiny_model())[0]))
def test_every_kind_of_change_comes_back(name: str) -> None:
    model = tiny_model()
    changes, _ = tiny_changes(model)
    assert same(tiny_delta(model).changes_for({})[name], changes[name])
