from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deltas.any_changes import bits, same
from deltas.golden import make_golden
from deltas.tiny_deltas import tiny_changes, tiny_delta, tiny_model
from supermask.deltas import Change, ChangePlace, DenseValues, KeepMask, SparseValues, TaskDelta
from supermask.deltas.file import Payloads
from supermask.deltas.keep_mask import MaskPositions
from supermask.deltas.payloads import StoredChanges, encode_change, needs_base
from supermask.errors import BaseMismatchError, DeltaFormatError, DeltaStateError

CODED = ("block.0.query.weight", "embedding.weight", "block.1.gate.weight")  # a mask, dense values and sparse ones


@pytest.fixture(scope="module")
def golden() -> TaskDelta:
    return make_golden.golden_delta()


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


@pytest.mark.parametrize(
    "lay",
    [
        lambda tensor: tensor.clone(),
        lambda tensor: tensor.t().contiguous().t() if tensor.dim() == 2 else tensor,
        lambda tensor: tensor.clone().requires_grad_(tensor.is_floating_point()),
        lambda tensor: torch.stack([tensor, tensor], dim=-1)[..., 1],
        pytest.param(lambda tensor: tensor.to("cuda"), marks=pytest.mark.gpu),
    ],
    ids=["contiguous", "transposed", "trained", "strided", "cuda"],
)
def test_the_bases_layout_in_memory_does_not_count(golden: TaskDelta, lay: Any) -> None:
    base = {name: lay(tensor) for name, tensor in make_golden.base_tensors().items()}
    expected = make_golden.changes()
    assert all(same(change, expected[name]) for name, change in golden.changes_for(base).items())
    assert make_golden.golden_delta(base_tensors=base) == golden


# What cannot be decoded.


@pytest.mark.parametrize("name", CODED)
def test_a_change_that_was_coded_against_the_base_needs_it(golden: TaskDelta, name: str) -> None:
    assert golden.needs_base
    with pytest.raises(DeltaStateError, match=rf"^{name}: .*pass the base"):
        golden.changes_for({})[name]


def test_a_change_that_was_not_does_without(golden: TaskDelta) -> None:
    expected = make_golden.changes()
    for name in ("block.0.key.weight", "block.0.bias", "block.1.halves.weight", "classifier.weight"):
        assert same(golden.changes_for({})[name], expected[name])
    assert not make_golden.golden_delta(base_tensors=None).needs_base


@pytest.mark.parametrize("name", CODED)
def test_a_base_of_another_shape_or_dtype_is_refused_by_name(golden: TaskDelta, name: str) -> None:
    base = make_golden.base_tensors()
    for other in (base[name].t().contiguous(), base[name].reshape(-1)):
        with pytest.raises(BaseMismatchError, match=rf"^{name}: the change has shape .*, the base's tensor \("):
            golden.changes_for({name: other})[name]
    if name != "block.0.query.weight":  # a mask may come out of another dtype: it is not the right one
        with pytest.raises(BaseMismatchError, match=rf"^{name}: the change has (float32|bfloat16) values, .* float64"):
            golden.changes_for({name: base[name].double()})[name]


def test_a_head_of_another_shape_is_no_matter(golden: TaskDelta) -> None:
    base = make_golden.base_tensors() | {"classifier.weight": torch.zeros(7, 40)}
    assert same(golden.changes_for(base)["classifier.weight"], make_golden.changes()["classifier.weight"])


@pytest.mark.parametrize("part", ["keep", "values"])
def test_a_damaged_payload_is_refused_by_name(golden: TaskDelta, part: str) -> None:
    for name, parts in golden.payloads.items():
        if len(getattr(parts, part)) > 8:
            payloads = {name: parts._replace(**{part: getattr(parts, part)[:-4]})}
            with pytest.raises(DeltaFormatError, match=rf"^{name}: "):
                StoredChanges(golden.document, payloads, make_golden.base_tensors())[name]


def test_a_false_coding_is_refused_by_name_or_says_something_else(golden: TaskDelta) -> None:
    name = "embedding.weight"
    for coding in ("raw", "shuffle"):
        changes = tuple(
            record.model_copy(update={"values_coding": coding}) if record.name == name else record
            for record in golden.document.changes
        )
        document = golden.document.model_copy(update={"changes": changes})
        found = StoredChanges(document, golden.payloads, make_golden.base_tensors())
        if coding == "shuffle":
            assert not same(found[name], make_golden.changes()[name])
        else:
            with pytest.raises(DeltaFormatError, match=r"^embedding\.weight: "):
                found[name]


def test_a_form_that_is_not_known_is_refused(golden: TaskDelta) -> None:
    with pytest.raises(DeltaFormatError, match="no form that is known here"):
        StoredChanges(golden.document, {"block.0.bias": Payloads(keep=b"\xff")}, {})["block.0.bias"]
    with pytest.raises(DeltaFormatError, match="no form that is known here"):
        needs_base(tiny_delta(tiny_model()).document, {"dense.weight": Payloads(keep=b"\xff")})


# Coding one change.


def encoded(change: Change, base: Tensor | None = None, place: ChangePlace | None = None) -> tuple[Any, Payloads]:
    return encode_change("w", change, place=place or ChangePlace(), base=base)


def test_a_record_says_what_its_payloads_are() -> None:
    keep = torch.tensor([[True, False], [True, True]])
    record, payloads = encoded(SparseValues(keep, torch.tensor([1.0, 2.0, 3.0])), place=ChangePlace("query", 3))
    assert record.model_dump(exclude_none=True) == {
        "name": "w",
        "role": "query",
        "block": 3,
        "kind": "sparse_values",
        "shape": (2, 2),
        "zeros": 1,
        "keep_nbytes": len(payloads.keep),
        "dtype": "float32",
        "values_nbytes": 12,
        "values_coding": "raw",
    }
    assert payloads.values == bits(torch.tensor([1.0, 2.0, 3.0]))


def test_masks_in_every_form_that_they_are_held_in_are_coded_alike() -> None:
    keep = torch.arange(40) % 9 != 4
    positions = MaskPositions(np.flatnonzero(~keep.numpy()).astype(np.int32), dropped=True, shape=(40,))
    forms = [KeepMask(keep), KeepMask(positions), KeepMask(MaskPositions.of(keep))]
    assert len({encoded(form)[1].keep for form in forms}) == 1


def test_values_on_a_graph_are_coded_and_not_held_on_to() -> None:
    values = torch.nn.Parameter(torch.linspace(0, 1, 8))
    record, payloads = encoded(DenseValues(values), torch.zeros(8))
    before = bytes(payloads.values)
    with torch.no_grad():
        values.zero_()
    assert record.values_nbytes == len(before)
    assert payloads.values == before


@pytest.mark.parametrize("name", list(tiny_changes(tiny_model())[0]))
def test_every_kind_of_change_comes_back(name: str) -> None:
    model = tiny_model()
    changes, _ = tiny_changes(model)
    assert same(tiny_delta(model).changes_for({})[name], changes[name])
