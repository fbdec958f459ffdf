import math

import numpy as np
import pytest
import torch
from torch import nn

from deltas.tiny_deltas import HEAD, pattern, tiny_delta, tiny_model
from supermask.analysis import OverlapCount, TensorOverlap, delta_overlap
from supermask.deltas import (
    Change,
    ChangePlace,
    DenseValues,
    KeepMask,
    SparseValues,
    TaskDelta,
    base_fingerprint,
    named_tensors,
)
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError


def delta_of(model: nn.Module, changes: dict[str, Change], places: dict[str, ChangePlace] | None = None) -> TaskDelta:
    return TaskDelta.create(
        {**changes, "classifier.bias": DenseValues(torch.zeros(3))},
        base=base_fingerprint(model, head=HEAD[:2]),
        head=["classifier.bias"],
        places=places or {},
    )


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return tiny_model()


def test_every_kind_of_change_beside_every_other(model: nn.Module) -> None:
    keep, other_keep = pattern((8, 8), 3), pattern((8, 8), 2)
    values = torch.arange(1.0, 65.0).reshape(8, 8)
    kinds: dict[str, Change] = {
        "keep": KeepMask(keep),
        "sparse": SparseValues(other_keep, values[other_keep]),
        "dense": DenseValues(-values),
    }
    for ours, first in kinds.items():
        for theirs, second in kinds.items():
            found = delta_overlap(delta_of(model, {"dense.weight": first}), delta_of(model, {"dense.weight": second}))
            both_masked = "dense" not in (ours, theirs)
            both_valued = "keep" not in (ours, theirs)
            assert len(found.tensors) == both_masked
            assert len(found.values) == both_valued
            assert found.unlike == (() if both_masked or both_valued else ("dense.weight",))
            assert found.only_first == found.only_second == ()
    sparse_to_dense = delta_overlap(*(delta_of(model, {"dense.weight": kinds[kind]}) for kind in ("sparse", "dense")))
    (distance,) = sparse_to_dense.values
    ours, theirs = np.where(other_keep.numpy(), values.numpy(), 0.0), -values.numpy()
    assert distance.l1 == pytest.approx(np.abs(ours - theirs).sum() / 8)
    cosine = (ours * theirs).sum() / np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert distance.angle == pytest.approx(math.acos(cosine) / math.pi)


def test_what_only_one_changes_and_heads_are_left_out_and_zeros_have_no_direction(model: nn.Module) -> None:
    mask, zeros, ones = KeepMask(pattern((8, 8), 3)), DenseValues(torch.zeros(8)), DenseValues(torch.ones(8))
    first = delta_of(model, {"dense.weight": mask, "norm.bias": zeros})
    found = delta_overlap(first, delta_of(model, {"dense.bias": ones, "dense.weight": mask}))
    assert (found.only_first, found.only_second, found.values) == (("norm.bias",), ("dense.bias",), ())
    assert [tensor.name for tensor in found.tensors] == ["dense.weight"]
    assert delta_overlap(delta_of(model, {}), delta_of(model, {})).total == OverlapCount()
    (distance,) = delta_overlap(first, delta_of(model, {"norm.bias": ones})).values
    assert (distance.l1, distance.angle) == (pytest.approx(8 / math.sqrt(8)), None)


def test_sums_by_role_and_block(model: nn.Module) -> None:
    shapes = {"dense.weight": (8, 8), "embedding.weight": (12, 8), "transposed.weight": (8, 6)}
    places = {"dense.weight": ChangePlace("query", 1), "transposed.weight": ChangePlace("query", 0)}
    first, second = (
        delta_of(model, {name: KeepMask(pattern(shape, every)) for name, shape in shapes.items()}, places)
        for every in (2, 3)
    )
    found = delta_overlap(first, second)
    # The zeros are at multiples of 2, of 3, and so the shared ones at multiples of 6.
    alone = {name: tuple(math.ceil(math.prod(shape) / every) for every in (2, 3, 6)) for name, shape in shapes.items()}
    numbers = {
        tensor.name: (tensor.count.first_zeros, tensor.count.second_zeros, tensor.count.shared)
        for tensor in found.tensors
    }
    assert numbers == alone
    assert list(found.by_role()) == ["query", "unnamed"]
    assert found.by_role()["query"].shared == alone["dense.weight"][2] + alone["transposed.weight"][2]
    assert list(found.by_block()) == [0, 1, None]
    assert found.by_block()[None].first_zeros == alone["embedding.weight"][0]
    for summed in (found.by_role(), found.by_block()):
        assert sum(summed.values(), OverlapCount()) == found.total
    expected = sum(a * b / math.prod(shapes[name]) for name, (a, b, _) in alone.items())
    assert found.total.expected == pytest.approx(expected)
    assert isinstance(found.tensors[0], TensorOverlap) and found.tensors[0].block == 1


def test_a_delta_and_itself(model: nn.Module) -> None:
    delta = tiny_delta(model)
    for base in (model, dict(named_tensors(model))):
        found = delta_overlap(delta, delta, base=base)
        assert found.total.jaccard == 1.0
        assert found.total.shared == found.total.first_zeros == delta.zeros
        assert {value.name: value.l1 for value in found.values} == {"transposed.weight": 0.0, "norm.weight": 0.0}
        assert found.only_first == found.only_second == found.unlike == ()


def test_another_base_is_refused(model: nn.Module) -> None:
    with pytest.raises(BaseMismatchError, match="different bases"):
        delta_overlap(tiny_delta(model), tiny_delta(tiny_model(seed=1)))
    with pytest.raises(BaseMismatchError, match="is not the base"):
        delta_overlap(tiny_delta(model), tiny_delta(model), base=tiny_model(seed=1))


def test_masks_that_are_coded_against_the_base_need_it() -> None:
    base = nn.Linear(96, 96, bias=False)
    with torch.no_grad():
        base.weight.normal_(generator=torch.Generator().manual_seed(0))
    magnitude = base.weight.detach().abs()
    first, second = (
        TaskDelta.create(
            {"weight": KeepMask(magnitude > threshold)},
            base=base_fingerprint(base),
            base_tensors=dict(named_tensors(base)),
        )
        for threshold in (0.1, 0.2)
    )
    assert first.needs_base and second.needs_base
    with pytest.raises(ConfigurationError, match="pass base="):
        delta_overlap(first, second)
    zeros = [int((magnitude <= threshold).sum()) for threshold in (0.1, 0.2)]
    for given in (base, dict(named_tensors(base))):
        total = delta_overlap(first, second, base=given).total
        assert (total.first_zeros, total.second_zeros, total.shared) == (zeros[0], zeros[1], zeros[0])


def test_nothing_large_is_made_on_the_word_of_a_file(model: nn.Module) -> None:
    delta = delta_of(model, {"dense.weight": KeepMask(pattern((8, 8), 3))})
    changes = tuple(
        record.model_copy(update={"shape": (1 << 17, 1 << 17)}) if record.kind == "keep_mask" else record
        for record in delta.document.changes
    )
    hostile = TaskDelta(delta.document.model_copy(update={"changes": changes}), delta.payloads)
    with pytest.raises(DeltaFormatError, match=r"dense.weight: claims 17179869184 weights, .* pass base="):
        delta_overlap(delta, hostile)
    with pytest.raises(BaseMismatchError, match=r"dense.weight: the change has shape \(131072, 131072\)"):
        delta_overlap(hostile, delta, base=model)
