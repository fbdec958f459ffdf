import math
import sys

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from supermask.core import count_zeros, entropy_bits, sparsity, threshold_keep_mask, zero_count
from supermask.core.sparsity import zeros_of_logits
from supermask.errors import ConfigurationError


@given(st.lists(st.booleans(), max_size=100))
def test_counts_are_those_of_plain_python(keeps: list[bool]) -> None:
    keep_mask = torch.tensor(keeps, dtype=torch.bool)
    zeros = keeps.count(False)
    assert zero_count(keep_mask) == zeros
    assert sparsity(keep_mask) == (zeros / len(keeps) if keeps else 0.0)


def test_counts_of_matrices_whatever_their_layout() -> None:
    keeps = np.random.default_rng(0).random((37, 53)) < 0.9
    keep_mask = torch.from_numpy(keeps)
    expected = int((~keeps).sum())
    assert zero_count(keep_mask) == zero_count(keep_mask.t()) == expected
    assert sparsity(keep_mask[:, ::2]) == pytest.approx(float((~keeps[:, ::2]).mean()), rel=1e-15)
    assert type(zero_count(keep_mask)) is int and type(sparsity(keep_mask)) is float


@given(st.floats(min_value=0.0, max_value=1.0))
def test_entropy_is_scipys(share: float) -> None:
    assert entropy_bits(share) == pytest.approx(scipy.stats.entropy([share, 1 - share], base=2), rel=1e-12, abs=1e-300)


def test_entropy_ends_in_plain_zeros_and_is_symmetric() -> None:
    assert [str(entropy_bits(share)) for share in (0.0, 1.0)] == ["0.0", "0.0"]
    for share in (0.01, 0.2, 0.37):
        assert entropy_bits(share) == pytest.approx(entropy_bits(1 - share), rel=1e-12)
        assert entropy_bits(share) < entropy_bits(0.5) == 1.0


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_the_entropy_of_no_fraction_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"\[0, 1\], received {share}"):
        entropy_bits(share)


@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_zeros_of_logits_are_those_of_the_mask_and_of_its_draws(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[zeros_of_logits.__module__], "_CHUNK", chunk)
    generator = torch.Generator().manual_seed(0)
    tensors = [4 * torch.randn(shape, generator=generator) for shape in ((3, 5), (40,), (2, 3, 4))]
    tensors += [torch.tensor([0.0, 30.0, -30.0]), torch.zeros(0), torch.randn(4, 6, generator=generator).t()]
    zeros, expected = zeros_of_logits(tensors)
    assert zeros == sum(zero_count(threshold_keep_mask(tensor)) for tensor in tensors)
    exact = sum(1.0 / (1.0 + math.exp(value)) for tensor in tensors for value in tensor.reshape(-1).tolist())
    assert expected == pytest.approx(exact, rel=1e-6)


def test_many_small_chances_are_not_lost_in_rounding() -> None:
    """1 - σ(ν) rounds to a multiple of 6e-8 in float32; σ(-ν) keeps its digits."""
    _, expected = zeros_of_logits([torch.full((1000,), 20.0)])
    assert expected == pytest.approx(1000 * math.exp(-20.0), rel=1e-5)


def test_a_logit_that_is_not_a_number_is_a_zero_of_the_mask() -> None:
    assert zeros_of_logits([torch.tensor([float("nan"), 1.0])])[0] == 1


# Two masks.


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


def test_masks_of_other_shapes_are_refused() -> None:
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
