from __future__ import annotations

import struct
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from supermask.core import global_magnitude_keep_masks, magnitude_keep_mask
from supermask.core.magnitude import zeros_at
from supermask.errors import ConfigurationError

SPARSITIES = st.floats(min_value=0.0, max_value=1.0)
TIED_WEIGHTS = st.lists(st.sampled_from([-2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0]), max_size=60)


def reference_mask(weights: list[float], zeros: int) -> list[bool]:
    """Sort by magnitude, then by index, and drop the first."""
    ranked = sorted(range(len(weights)), key=lambda index: (abs(weights[index]), index))
    dropped = set(ranked[:zeros])
    return [index not in dropped for index in range(len(weights))]


def zeros_of(keep_mask: Tensor) -> int:
    return sum(not keep for keep in keep_mask.reshape(-1).tolist())


# How many.


@given(SPARSITIES, st.integers(min_value=0, max_value=10_000))
def test_the_count_is_the_nearest_whole_number(sparsity: float, weights: int) -> None:
    zeros = zeros_at(sparsity, weights)
    assert 0 <= zeros <= weights
    assert abs(zeros - Fraction(sparsity) * weights) <= Fraction(1, 2) + Fraction(1, 10**9)


@pytest.mark.parametrize(
    ("sparsity", "weights", "zeros"),
    [
        (0.5, 5, 3),
        (0.25, 2, 1),
        (0.3, 10, 3),
        (0.29, 100, 29),
        (0.0, 7, 0),
        (1.0, 7, 7),
        (0.5, 0, 0),
        (1 / 3, 589_824, 196_608),
    ],
)
def test_halves_go_up(sparsity: float, weights: int, zeros: int) -> None:
    assert zeros_at(sparsity, weights) == zeros


@pytest.mark.parametrize("sparsity", [-0.01, 1.5, 50, float("nan"), float("inf")])
def test_a_sparsity_outside_zero_and_one_is_refused(sparsity: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"in \[0, 1\], received {sparsity}"):
        zeros_at(sparsity, 10)
    with pytest.raises(ConfigurationError):
        magnitude_keep_mask(torch.ones(10), sparsity=sparsity)
    with pytest.raises(ConfigurationError):
        global_magnitude_keep_masks({"a": torch.ones(10)}, sparsity=sparsity)


# Which.


@given(TIED_WEIGHTS, SPARSITIES)
def test_the_same_mask_as_sorting_with_heavy_ties(weights: list[float], sparsity: float) -> None:
    keep_mask = magnitude_keep_mask(torch.tensor(weights), sparsity=sparsity)
    assert keep_mask.tolist() == reference_mask(weights, zeros_at(sparsity, len(weights)))


@given(st.lists(st.floats(allow_nan=False, width=32), max_size=40), SPARSITIES)
def test_the_same_mask_as_sorting_for_any_numbers(weights: list[float], sparsity: float) -> None:
    keep_mask = magnitude_keep_mask(torch.tensor(weights, dtype=torch.float32), sparsity=sparsity)
    assert keep_mask.tolist() == reference_mask(weights, zeros_at(sparsity, len(weights)))


@pytest.mark.parametrize("zeros", [0, 1, 499, 500, 999, 1000])
def test_among_equals_the_lowest_indices_go(zeros: int) -> None:
    keep_mask = magnitude_keep_mask(torch.full((20, 50), -0.25), sparsity=zeros / 1000)
    assert keep_mask.reshape(-1).tolist() == [False] * zeros + [True] * (1000 - zeros)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_counts_are_exact_in_every_dtype(dtype: torch.dtype, sparsity: float) -> None:
    # 40 000 normal draws in bfloat16 share fewer than 3 000 magnitudes.
    weight = torch.randn(200, 200, generator=torch.Generator().manual_seed(0)).to(dtype)
    keep_mask = magnitude_keep_mask(weight, sparsity=sparsity)
    assert keep_mask.dtype == torch.bool and keep_mask.shape == weight.shape
    assert zeros_of(keep_mask) == round(sparsity * 40_000)
    assert keep_mask.reshape(-1).tolist() == reference_mask(weight.double().reshape(-1).tolist(), zeros_of(keep_mask))


def test_float64_weights_keep_their_own_resolution() -> None:
    weight = torch.tensor([1.0 + 2e-10, 1.0 + 1e-10, 1.0 + 3e-10], dtype=torch.float64)
    assert magnitude_keep_mask(weight, sparsity=1 / 3).tolist() == [True, False, True]


def test_the_smallest_float32_numbers_are_told_apart() -> None:
    denormals = [struct.unpack("<f", struct.pack("<I", pattern))[0] for pattern in (3, 1, 2)]
    assert magnitude_keep_mask(torch.tensor(denormals), sparsity=1 / 3).tolist() == [True, False, True]


def test_both_zeros_and_infinities_have_their_place() -> None:
    weight = torch.tensor([float("-inf"), 0.0, -0.0, 1.0, float("inf")])
    assert magnitude_keep_mask(weight, sparsity=0.2).tolist() == [True, False, True, True, True]
    assert magnitude_keep_mask(weight, sparsity=0.8).tolist() == [False, False, False, False, True]


@pytest.mark.parametrize("shape", [(0,), (3, 0), ()])
@pytest.mark.parametrize("sparsity", [0.0, 1.0])
def test_empty_and_single_tensors(shape: tuple[int, ...], sparsity: float) -> None:
    keep_mask = magnitude_keep_mask(torch.ones(shape), sparsity=sparsity)
    assert keep_mask.shape == shape
    assert zeros_of(keep_mask) == sparsity * keep_mask.numel()


def test_ties_go_by_index_and_not_by_place_in_memory() -> None:
    weight = torch.full((4, 6), 2.0)
    transposed = weight.t().contiguous().t()
    assert torch.equal(magnitude_keep_mask(transposed, sparsity=0.4), magnitude_keep_mask(weight, sparsity=0.4))


def test_the_weight_is_neither_changed_nor_tracked() -> None:
    weight = torch.nn.Parameter(torch.tensor([0.3, -0.1, 0.2, -0.4]))
    keep_mask = magnitude_keep_mask(weight, sparsity=0.5)
    assert weight.tolist() == pytest.approx([0.3, -0.1, 0.2, -0.4]) and not keep_mask.requires_grad


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_a_weight_that_is_not_a_number_is_refused(sparsity: float) -> None:
    with pytest.raises(ConfigurationError, match="not a number"):
        magnitude_keep_mask(torch.tensor([1.0, float("nan")]), sparsity=sparsity)


# All tensors together.


@given(st.lists(TIED_WEIGHTS, min_size=1, max_size=4), SPARSITIES)
def test_global_masks_are_one_ranking_of_all(tensors: list[list[float]], sparsity: float) -> None:
    weights = {f"t{place}": torch.tensor(values) for place, values in enumerate(tensors)}
    joint = [value for values in tensors for value in values]
    expected = reference_mask(joint, zeros_at(sparsity, len(joint)))
    masks = global_magnitude_keep_masks(weights, sparsity=sparsity)
    assert list(masks) == list(weights)
    assert [keep for keep_mask in masks.values() for keep in keep_mask.tolist()] == expected


def test_global_masks_take_more_from_small_tensors() -> None:
    generator = torch.Generator().manual_seed(2)
    weights = {
        "small": 0.01 * torch.randn(30, 30, generator=generator),
        "large": torch.randn(10, 40, generator=generator),
    }
    masks = global_magnitude_keep_masks(weights, sparsity=0.5)
    assert {name: tuple(mask.shape) for name, mask in masks.items()} == {"small": (30, 30), "large": (10, 40)}
    assert zeros_of(masks["small"]) + zeros_of(masks["large"]) == 650
    assert zeros_of(masks["small"]) > 600
    dropped = max(float(weights[name].abs()[~mask].max()) for name, mask in masks.items() if zeros_of(mask))
    kept = min(float(weights[name].abs()[mask].min()) for name, mask in masks.items())
    assert dropped <= kept


def test_global_masks_of_mixed_dtypes() -> None:
    weights = {"half": torch.tensor([1.0, 4.0], dtype=torch.bfloat16), "full": torch.tensor([2.0, 3.0])}
    masks = global_magnitude_keep_masks(weights, sparsity=0.5)
    assert {name: mask.tolist() for name, mask in masks.items()} == {"half": [False, True], "full": [False, True]}


def test_global_masks_of_one_tensor_and_of_none() -> None:
    weight = torch.randn(50, generator=torch.Generator().manual_seed(3))
    masks = global_magnitude_keep_masks({"only": weight}, sparsity=0.3)
    assert torch.equal(masks["only"], magnitude_keep_mask(weight, sparsity=0.3))
    assert global_magnitude_keep_masks({}, sparsity=0.3) == {}


@pytest.mark.parametrize("kind", ["normal", "few values", "one value", "wide", "with infinities", "transposed"])
def test_large_tensors_are_ranked_as_sorting_ranks_them(kind: str) -> None:
    weight = torch.randn(400, 200, generator=torch.Generator().manual_seed(0))
    if kind == "few values":
        weight = (weight * 3).round()
    elif kind == "one value":
        weight = torch.full_like(weight, -0.5)
    elif kind == "wide":
        weight = weight.sign() * torch.exp(30 * weight)
    elif kind == "with infinities":
        weight[::7] = float("-inf")
        weight[::11] = 0.0
    elif kind == "transposed":
        weight = weight.t()
    order = weight.abs().reshape(-1).argsort(stable=True)
    for zeros in (1, 2, 777, 40_000, 79_999, 80_000):
        wanted = torch.ones(80_000, dtype=torch.bool)
        wanted[order[:zeros]] = False
        assert torch.equal(magnitude_keep_mask(weight, sparsity=zeros / 80_000).reshape(-1), wanted)
