"""Compiled sums over two arrays, each read once: torch would write temporary tensors of twice their size.

numba takes a while to load, so this module is imported where it is first used. All loops run without the interpreter's
lock and trust their arguments: flat arrays of one length.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from supermask.core.kernels.compiled import compiled

__all__ = ["absolute_differences", "shared_zeros", "square_sums", "unequal"]

BLOCK = 4096
"""Numbers whose sum has a row of its own."""

_BLOCK = np.uint64(BLOCK)  # unsigned, or numba looks for negative indices each time


# Sums may be taken in another order, which is what makes a long sum fast.
_summing = functools.partial(compiled, fastmath={"contract", "reassoc"})


@_summing
def absolute_differences(first: Any, second: Any) -> Any:
    """Σ|a - b| of every block, shape (blocks, 1)."""
    size, sums = np.uint64(first.size), np.empty((-(-first.size // BLOCK), 1))
    for block in range(sums.shape[0]):
        start = np.uint64(block) * _BLOCK
        total = 0.0
        for index in range(start, min(start + _BLOCK, size)):
            total += abs(np.float64(first[index]) - np.float64(second[index]))
        sums[block, 0] = total
    return sums


@_summing
def square_sums(first: Any, second: Any) -> Any:
    """Σa², Σb², Σ(a - b)², Σ(a + b)² and Σ(a - b)(a + b) of every block, shape (blocks, 5)."""
    size, sums = np.uint64(first.size), np.empty((-(-first.size // BLOCK), 5))
    for block in range(sums.shape[0]):
        start = np.uint64(block) * _BLOCK
        one = two = difference = total = product = 0.0
        for index in range(start, min(start + _BLOCK, size)):
            a, b = np.float64(first[index]), np.float64(second[index])
            minus, plus = a - b, a + b
            one += a * a
            two += b * b
            difference += minus * minus
            total += plus * plus
            product += minus * plus
        sums[block, 0], sums[block, 1] = one, two
        sums[block, 2], sums[block, 3], sums[block, 4] = difference, total, product
    return sums


@compiled
def unequal(first: Any, second: Any) -> int:
    """How many numbers differ."""
    count = 0
    for index in range(np.uint64(first.size)):
        count += first[index] != second[index]
    return count


@compiled
def shared_zeros(first: Any, second: Any) -> tuple[int, int, int]:
    """Zero bytes of the first, of the second, and of both."""
    one = two = both = 0
    for index in range(np.uint64(first.size)):
        first_zero, second_zero = first[index] == 0, second[index] == 0
        one += first_zero
        two += second_zero
        both += first_zero & second_zero
    return one, two, both
