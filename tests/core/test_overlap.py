from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supermask.core import count_zeros
from supermask.errors import ConfigurationError


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_the_same_counts_as_sets_of_indices(pairs: list[tuple[bool, bool]]) -> None:
    first = {index for index, (keep, _) in enumerate(pairs) if not keep}
    second = {index for index, (_, keep) in enumerate(pairs) if not keep}
    masks = torch.tensor(pairs)
    assert count_zeros(masks[:, 0], masks[:, 1]) == (len(first), len(second), len(first & second))


@pytest.mark.parametrize(("first_sparsity", "second_sparsity"), [(0.0067, 0.0067), (0.02, 0.1), (0.5, 0.3)])
def test_independent_masks_overlap_by_chance(first_sparsity: float, second_sparsity: float) -> None:
    random = np.random.default_rng(7)
    first, second = (
        torch.from_numpy(random.random((768, 768)) >= share) for share in (first_sparsity, second_sparsity)
    )
    weights, (zeros, others, shared) = 768 * 768, count_zeros(first, second)
    # Given both counts, the shared zeros are hypergeometric.
    mean = zeros * others / weights
    deviation = math.sqrt(mean * (1 - zeros / weights) * (weights - others) / (weights - 1))
    assert abs(shared - mean) < 5 * deviation


def test_masks_with_all_and_without_any_zeros() -> None:
    dense, empty = torch.ones(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    assert count_zeros(dense, empty) == (0, 16, 0)
    assert count_zeros(empty, empty) == (16, 16, 16)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"received \(2, 3\) and \(3,\)"):
        count_zeros(torch.ones(2, 3, dtype=torch.bool), torch.ones(3, dtype=torch.bool))


@pytest.mark.parametrize("size", [1000, 1 << 17])
def test_large_masks_and_any_layout(size: int) -> None:
    random = np.random.default_rng(3)
    first, second = random.random((2, size // 8, 8)) >= 0.3
    expected = int((~first).sum()), int((~second).sum()), int((~first & ~second).sum())
    a, b = torch.from_numpy(first), torch.from_numpy(second)
    assert count_zeros(a, b) == expected
    assert count_zeros(a.t().contiguous().t(), b) == expected
