import math
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


@given(st.one_of(TIED_WEIGHTS, st.lists(st.floats(allow_nan=False, width=32), max_size=40)), SPARSITIES)
def test_the_same_mask_as_sorting(weights: list[float], sparsity: float) -> None:
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


@pytest.mark.parametrize(
    ("weight", "sparsity", "kept"),
    [
        (torch.tensor([1.0 + 2e-10, 1.0 + 1e-10, 1.0 + 3e-10], dtype=torch.float64), 1 / 3, [1, 0, 1]),
        (torch.tensor([3, 1, 2], dtype=torch.int32).view(torch.float32), 1 / 3, [1, 0, 1]),  # denormal
        (torch.tensor([-math.inf, 0.0, -0.0, 1.0, math.inf]), 0.2, [1, 0, 1, 1, 1]),
        (torch.tensor([-math.inf, 0.0, -0.0, 1.0, math.inf]), 0.8, [0, 0, 0, 0, 1]),
    ],
)
def test_near_and_extreme_numbers_have_their_place(weight: Tensor, sparsity: float, kept: list[int]) -> None:
    assert magnitude_keep_mask(weight, sparsity=sparsity).tolist() == kept


@pytest.mark.parametrize("shape", [(0,), (3, 0), ()])
@pytest.mark.parametrize("sparsity", [0.0, 1.0])
def test_empty_and_single_tensors(shape: tuple[int, ...], sparsity: float) -> None:
    keep_mask = magnitude_keep_mask(torch.ones(shape), sparsity=sparsity)
    assert keep_mask.shape == shape
    assert zeros_of(keep_mask) == sparsity * keep_mask.numel()


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


def test_global_masks_of_mixed_dtypes_and_of_none() -> None:
    weights = {"half": torch.tensor([1.0, 4.0], dtype=torch.bfloat16), "full": torch.tensor([2.0, 3.0])}
    masks = global_magnitude_keep_masks(weights, sparsity=0.5)
    assert {name: mask.tolist() for name, mask in masks.items()} == {"half": [False, True], "full": [False, True]}
    assert global_magnitude_keep_masks({}, sparsity=0.3) == {}


NORMAL = torch.randn(400, 200, generator=torch.Generator().manual_seed(0))
LARGE = {
    "normal": NORMAL,
    "few values": (NORMAL * 3).round(),
    "one value": torch.full_like(NORMAL, -0.5),
    "wide": NORMAL.sign() * torch.exp(30 * NORMAL),
    "with infinities": NORMAL.index_fill(0, torch.arange(0, 400, 7), -math.inf).index_fill(0, torch.tensor([3, 14]), 0),
    "transposed": NORMAL.t(),
    "ties that lie otherwise in memory": torch.full((200, 400), 2.0).t(),
}


@pytest.mark.parametrize("weight", LARGE.values(), ids=LARGE)
def test_large_tensors_are_ranked_as_sorting_ranks_them(weight: Tensor) -> None:
    order = weight.abs().reshape(-1).argsort(stable=True)
    for zeros in (1, 2, 777, 40_000, 79_999, 80_000):
        wanted = torch.ones(80_000, dtype=torch.bool)
        wanted[order[:zeros]] = False
        assert torch.equal(magnitude_keep_mask(weight, sparsity=zeros / 80_000).reshape(-1), wanted)
