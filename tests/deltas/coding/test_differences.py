from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltas import reference_values as reference_coder
from supermask.deltas.coding.differences import fold, magnitude_order, shuffle, unfold, unshuffle_

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
