import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from supermask.analysis import OverlapCount, count_overlap


def masks(count: int, weights: int, zeros: int, seed: int) -> list[Tensor]:
    """Masks with exactly so many zeros, anywhere."""
    generator = np.random.default_rng(seed)
    return [torch.from_numpy(generator.permutation(weights) >= zeros) for _ in range(count)]


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


def test_counts_add_up_field_by_field_and_fractions_are_of_the_first() -> None:
    one = OverlapCount(
        weights=1, first_zeros=2, second_zeros=3, shared=4, expected=5, variance=6, expected_given_rows_and_columns=7
    )
    assert dataclasses.astuple(one + one) == (2, 4, 6, 8, 10, 12, 14)
    assert one + OverlapCount() == one
    for first_zeros, shared, wanted in ((10, 5, (0.5, 0.4, 1.25)), (0, 0, (None, None, None))):
        count = OverlapCount.of_tensor(weights=100, first_zeros=first_zeros, second_zeros=40, shared=shared)
        assert (count.fraction, count.chance, count.ratio) == wanted
