from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deltas.tiny_deltas import HEAD, pattern, tiny_delta, tiny_model
from supermask.analysis import OverlapCount, TensorOverlap, count_overlap, delta_overlap
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


def masks(count: int, weights: int, zeros: int, seed: int) -> list[Tensor]:
    """Masks with exactly so many zeros, anywhere."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        keep_mask = np.ones(weights, dtype=bool)
        keep_mask[generator.choice(weights, zeros, replace=False)] = False
        found.append(torch.from_numpy(keep_mask))
    return found


def hypergeometric(n: int, a: int, b: int) -> tuple[Fraction, Fraction]:
    """Mean and variance, summed outcome by outcome."""
    law = {k: Fraction(math.comb(a, k) * math.comb(n - a, b - k), math.comb(n, b)) for k in range(min(a, b) + 1)}
    mean = sum((k * probability for k, probability in law.items()), Fraction())
    return mean, sum(((k - mean) ** 2 * probability for k, probability in law.items()), Fraction())


@pytest.mark.parametrize(
    ("n", "a", "b"), [(1, 1, 1), (2, 1, 1), (50, 7, 13), (1000, 1, 999), (400, 400, 3), (60, 0, 5), (60, 0, 0)]
)
def test_chance_is_hypergeometric(n: int, a: int, b: int) -> None:
    (first,), (second,) = masks(1, n, a, 0), masks(1, n, b, 1)
    count = count_overlap(first, second)
    assert (count.weights, count.first_zeros, count.second_zeros) == (n, a, b)
    assert count.shared == sum(not one and not two for one, two in zip(first.tolist(), second.tolist(), strict=True))
    mean, variance = hypergeometric(n, a, b)
    assert count.expected == pytest.approx(float(mean))
    assert count.variance == pytest.approx(float(variance))
    assert count.expected_given_rows_and_columns == count.expected  # a vector has neither
    if count.variance:
        assert count.z == pytest.approx(float(count.shared - mean) / math.sqrt(variance))
    else:
        assert count.z is None
    assert count.ratio == (count.shared / count.expected if a and b else None)
    assert count.jaccard == (count.shared / (a + b - count.shared) if a or b else None)


def test_z_of_masks_at_random_has_mean_0_and_variance_1() -> None:
    pairs = zip(masks(400, 300, 40, 2), masks(400, 300, 90, 3), strict=True)
    z = np.array([count_overlap(first, second).z for first, second in pairs], dtype=float)
    assert abs(z.mean()) < 4 / math.sqrt(400)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / 400)


def test_rows_and_columns_against_the_outer_product() -> None:
    generator = np.random.default_rng(4)
    first, second = (generator.random((17, 2, 5)) > density for density in (0.3, 0.1))
    count = count_overlap(torch.from_numpy(first), torch.from_numpy(second))
    densities = []
    for keep_mask in (first.reshape(17, 10), second.reshape(17, 10)):
        zeros = (~keep_mask).astype(float)
        densities.append(np.outer(zeros.sum(1), zeros.sum(0)) / zeros.sum())
    assert count.expected_given_rows_and_columns == pytest.approx((densities[0] * densities[1]).sum())


def test_zeros_that_gather_in_the_same_rows_and_columns_are_told_from_shared_ones() -> None:
    generator = np.random.default_rng(5)
    density = np.outer(generator.random(200) ** 3, generator.random(200) ** 3)
    first, second = (torch.from_numpy(generator.random((200, 200)) > density) for _ in range(2))
    count = count_overlap(first, second)
    assert count.z is not None and count.z > 20
    assert count.ratio is not None and count.ratio > 2.5
    assert count.ratio_given_rows_and_columns == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0), (1, 1), (4, 3, 2, 2)])
def test_odd_shapes(shape: tuple[int, ...]) -> None:
    nothing, everything = torch.ones(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    n = nothing.numel()
    empty, full = count_overlap(nothing, everything), count_overlap(everything, everything)
    assert (empty.shared, empty.expected, empty.ratio, empty.z) == (0, 0.0, None, None)
    assert (full.shared, full.expected, full.z, full.jaccard) == (n, n, None, 1.0 if n else None)
    assert full.expected_given_rows_and_columns == n


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="masks of one shape"):
        count_overlap(torch.ones(2, 3, dtype=torch.bool), torch.ones(3, 2, dtype=torch.bool))


def test_counts_add_up_field_by_field() -> None:
    one = OverlapCount(
        weights=1, first_zeros=2, second_zeros=3, shared=4, expected=5, variance=6, expected_given_rows_and_columns=7
    )
    assert dataclasses.astuple(one + one) == (2, 4, 6, 8, 10, 12, 14)
    assert one + OverlapCount() == one


# Deltas.


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


def test_values_without_direction(model: nn.Module) -> None:
    zeros, ones = DenseValues(torch.zeros(8)), DenseValues(torch.ones(8))
    (distance,) = delta_overlap(delta_of(model, {"norm.bias": zeros}), delta_of(model, {"norm.bias": ones})).values
    assert (distance.l1, distance.angle) == (pytest.approx(8 / math.sqrt(8)), None)


def test_what_only_one_changes_and_heads_are_left_out(model: nn.Module) -> None:
    mask, vector = KeepMask(pattern((8, 8), 3)), DenseValues(torch.ones(8))
    found = delta_overlap(
        delta_of(model, {"dense.weight": mask, "norm.bias": vector}),
        delta_of(model, {"dense.bias": vector, "dense.weight": mask}),
    )
    assert (found.only_first, found.only_second, found.values) == (("norm.bias",), ("dense.bias",), ())
    assert [tensor.name for tensor in found.tensors] == ["dense.weight"]
    assert delta_overlap(delta_of(model, {}), delta_of(model, {})).total == OverlapCount()


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


def test_deltas_of_two_bases_are_refused(model: nn.Module) -> None:
    with pytest.raises(BaseMismatchError, match="different bases"):
        delta_overlap(tiny_delta(model), tiny_delta(tiny_model(seed=1)))


def test_the_base_is_checked_if_it_is_given(model: nn.Module) -> None:
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
    with pytest.raises(DeltaFormatError, match=r"dense.weight: claims the shape \(131072, 131072\)"):
        delta_overlap(hostile, delta, base=model)
