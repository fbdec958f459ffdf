from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deltas import reference_values as reference_coder
from supermask.deltas.tensor_bytes import STORED_DTYPES
from supermask.deltas.value_differences import (
    common_differences,
    context_bits,
    contexts,
    fold,
    magnitude_order,
    shuffle,
    unfold,
    unshuffle_,
)

SIZES = (1, 2, 4, 8)


def words(size: int, numbers: list[int]) -> np.ndarray:
    return np.array([number % 256**size for number in numbers], dtype=f"<u{size}")


@pytest.mark.parametrize("size", SIZES)
def test_folding_takes_the_sign_into_the_lowest_bit(size: int) -> None:
    top = 256**size // 2
    numbers = [0, -1, 1, -2, 2, top - 1, -top, -top + 1]
    expected = [0, 1, 2, 3, 4, 2 * top - 2, 2 * top - 1, 2 * top - 3]
    assert fold(words(size, numbers)).tolist() == expected
    assert unfold(words(size, expected)).tolist() == words(size, numbers).tolist()
    assert fold(words(size, numbers)).dtype == unfold(words(size, numbers)).dtype == words(size, []).dtype


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SIZES), st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_folding_and_shuffling_have_inverses(size: int, numbers: list[int]) -> None:
    given_ = words(size, numbers)
    assert unfold(fold(given_)).tolist() == given_.tolist() == fold(unfold(given_)).tolist()
    assert shuffle(given_).tobytes() == reference_coder.planes(given_.tolist(), size)
    found = np.empty_like(given_)
    unshuffle_(shuffle(given_).tobytes(), found)
    assert found.tolist() == given_.tolist()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SIZES), st.lists(st.integers(0, 2**64 - 1), max_size=50), st.integers(1, 8))
def test_order_is_by_magnitude_and_then_by_place(size: int, numbers: list[int], repeats: int) -> None:
    reference = words(size, numbers * repeats)
    assert magnitude_order(reference).tolist() == reference_coder.order(reference.tolist(), 8 * size)


@pytest.mark.parametrize("name", STORED_DTYPES)
def test_contexts_are_the_high_bits_of_the_fraction(name: str) -> None:
    dtype, fraction = STORED_DTYPES[name][0], reference_coder.FRACTION[name]
    numbers = np.random.default_rng(0).integers(0, 2**63, 3000).tolist()
    reference = words(dtype.itemsize, [0, 2**64 - 1, *numbers])
    assert context_bits(dtype) == min(12, fraction)
    found = contexts(reference, dtype).tolist()
    assert found == [reference_coder.context(old, fraction) for old in reference.tolist()]
    assert set(found) <= set(range(1 << context_bits(dtype)))


def test_what_decay_takes_off_depends_on_the_context() -> None:
    base = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    decayed = base * (1 - 1e-6)
    old, new = base.numpy().view("<u4"), decayed.numpy().view("<u4")
    context = contexts(old, torch.float32)
    table = common_differences(new - old, context, 12)
    off = unfold(fold(new - old - table[context])).view("<i4")
    assert np.abs(off).max() <= 1 and (off == 0).mean() > 0.95
    assert {np.sign(difference) for difference in table.view("<i4").tolist()} == {-1}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SIZES), st.lists(st.tuples(st.integers(0, 3), st.integers(-4, 4)), max_size=60), st.booleans())
def test_the_commonest_difference_is_found(size: int, pairs: list[tuple[int, int]], noise: bool) -> None:
    if noise:  # values that never repeat, so that some differences are not common enough
        pairs = pairs + [(0, 9 + extra) for extra in range(40)]
    table = common_differences(
        words(size, [difference for _, difference in pairs]), np.array([c for c, _ in pairs], dtype=np.uint16), 2
    )
    for context in range(4):
        seen = Counter(difference for c, difference in pairs if c == context)
        most = max(seen.values(), default=0)
        expected = 0
        if most >= 2 and 16 * most >= sum(seen.values()):
            candidates = [difference for difference, times in seen.items() if times == most]
            expected = min(
                candidates, key=lambda difference: 2 * difference if difference >= 0 else -2 * difference - 1
            )
        assert table[context] == expected % 256**size


def test_differences_too_large_for_a_table_are_left_out() -> None:
    differences = words(8, [2**60, 2**60, 2**60, 5, 5])
    assert common_differences(differences, np.zeros(5, dtype=np.uint16), 0).tolist() == [5]


def test_no_values_give_empty_results() -> None:
    for size in SIZES:
        none = words(size, [])
        assert magnitude_order(none).tolist() == fold(none).tolist() == []
        assert common_differences(none, np.zeros(0, dtype=np.uint16), 1).tolist() == [0, 0]
