from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supermask.core import ZeroOverlap, zero_overlap
from supermask.errors import ConfigurationError


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_the_same_counts_as_sets_of_indices(pairs: list[tuple[bool, bool]]) -> None:
    first = {index for index, (keep, _) in enumerate(pairs) if not keep}
    second = {index for index, (_, keep) in enumerate(pairs) if not keep}
    masks = torch.tensor(pairs)
    assert zero_overlap(masks[:, 0], masks[:, 1]) == ZeroOverlap(
        shared=len(first & second),
        fraction=len(first & second) / len(first) if first else 0.0,
        chance=len(second) / len(pairs),
    )


@pytest.mark.parametrize(("first_sparsity", "second_sparsity"), [(0.0067, 0.0067), (0.02, 0.1), (0.5, 0.3)])
def test_independent_masks_overlap_by_chance(first_sparsity: float, second_sparsity: float) -> None:
    random = np.random.default_rng(7)
    first, second = (
        torch.from_numpy(random.random((768, 768)) >= share) for share in (first_sparsity, second_sparsity)
    )
    overlap = zero_overlap(first, second)
    weights, zeros, others = 768 * 768, int((~first).sum()), int((~second).sum())
    # Given both counts, the shared zeros are hypergeometric.
    mean = zeros * others / weights
    deviation = math.sqrt(mean * (1 - zeros / weights) * (weights - others) / (weights - 1))
    assert abs(overlap.shared - mean) < 5 * deviation
    assert overlap.chance == pytest.approx(others / weights, rel=1e-12)
    assert abs(overlap.fraction - overlap.chance) < 5 * deviation / zeros


def test_the_fraction_is_of_the_first_masks_zeros() -> None:
    few, many = torch.tensor([False, True, True, True]), torch.tensor([False, False, False, True])
    assert zero_overlap(few, many) == ZeroOverlap(shared=1, fraction=1.0, chance=0.75)
    assert zero_overlap(many, few) == ZeroOverlap(shared=1, fraction=1 / 3, chance=0.25)


def test_masks_with_all_and_without_any_zeros() -> None:
    dense, empty = torch.ones(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    assert zero_overlap(dense, empty) == ZeroOverlap(shared=0, fraction=0.0, chance=1.0)
    assert zero_overlap(empty, empty) == ZeroOverlap(shared=16, fraction=1.0, chance=1.0)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"received \(2, 3\) and \(3,\)"):
        zero_overlap(torch.ones(2, 3, dtype=torch.bool), torch.ones(3, dtype=torch.bool))


@pytest.mark.parametrize("size", [1000, 1 << 17])
def test_large_masks_and_any_layout(size: int) -> None:
    random = np.random.default_rng(3)
    first, second = random.random((2, size // 8, 8)) >= 0.3
    expected = ZeroOverlap(
        shared=int((~first & ~second).sum()),
        fraction=int((~first & ~second).sum()) / int((~first).sum()),
        chance=int((~second).sum()) / size,
    )
    a, b = torch.from_numpy(first), torch.from_numpy(second)
    assert zero_overlap(a, b) == expected
    assert zero_overlap(a.t().contiguous().t(), b) == expected
