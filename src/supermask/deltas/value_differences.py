"""Values as whole numbers: what they differ by from the base's, and in which order that is stored.

Everything here works on the bits of one block of values, as unsigned whole numbers of w bits; sums and differences are
modulo 2^w, so each step has an exact inverse whatever the bits mean. docs/FORMAT.md, section "Values", specifies it.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

__all__ = [
    "Words",
    "common_differences",
    "context_bits",
    "contexts",
    "fold",
    "magnitude_order",
    "shuffle",
    "unfold",
    "unshuffle_",
]

Words: TypeAlias = npt.NDArray[Any]
"""Unsigned whole numbers of 8, 16, 32 or 64 bits, little-endian, one dimension."""

_MOST_ORDER_BITS = 16  # numpy sorts such keys by radix
_MOST_CONTEXT_BITS = 12
_PAIR_BITS = 64 - _MOST_CONTEXT_BITS
_COMMON = 16  # a difference is expected if one of so many in its context has it


def fold(words: Words) -> Words:
    """Small numbers of either sign to small numbers: 0, -1, 1, -2, ... to 0, 1, 2, 3, ...

    Example:
        >>> fold(np.array([0, 255, 1, 254], dtype=np.uint8)).tolist()
        [0, 1, 2, 3]
    """
    folded: Words = (words << 1) ^ np.negative(words >> (8 * words.itemsize - 1))
    return folded


def unfold(words: Words) -> Words:
    """The inverse of `fold`.

    Example:
        >>> unfold(np.array([0, 1, 2, 3], dtype=np.uint8)).tolist()
        [0, 255, 1, 254]
    """
    unfolded: Words = (words >> 1) ^ np.negative(words & 1)
    return unfolded


def shuffle(words: Words) -> npt.NDArray[np.uint8]:
    """All lowest bytes, then all second ones, and so on.

    Returns:
        Bytes, shape (bytes of a word, words).

    Example:
        >>> shuffle(np.array([0x0102, 0x0304], dtype="<u2")).tolist()
        [[2, 4], [1, 3]]
    """
    return np.ascontiguousarray(words.view(np.uint8).reshape(-1, words.itemsize).T)


def unshuffle_(data: bytes, words: Words) -> None:
    """The inverse of `shuffle`, into words that are there already.

    Args:
        data: as many bytes as the words have.
        words: are overwritten.

    Example:
        >>> words = np.zeros(2, dtype="<u2")
        >>> unshuffle_(bytes([2, 4, 1, 3]), words)
        >>> [hex(word) for word in words.tolist()]
        ['0x102', '0x304']
    """
    spread = words.view(np.uint8).reshape(-1, words.itemsize)
    # Plane by plane, which numpy copies several times faster than the transposed whole.
    for place, plane in enumerate(np.frombuffer(data, dtype=np.uint8).reshape(words.itemsize, -1)):
        spread[:, place] = plane


def magnitude_order(reference: Words) -> npt.NDArray[np.intp]:
    """The places of a block by the base's magnitude there, the smallest first.

    A step of one absolute size is many units of a small weight and few of a large one. In this order neighbours have
    differences of one size. Only the highest bits below the sign count, 16 or half the width; of places that agree in
    these the earlier comes first.

    Example:
        >>> magnitude_order(np.array([-4.0, 0.5, 1.0, 0.5], dtype="<f4").view("<u4")).tolist()
        [1, 3, 2, 0]
    """
    width = 8 * reference.itemsize
    keys = (reference << 1) >> (width - min(_MOST_ORDER_BITS, width // 2))
    order: npt.NDArray[np.intp] = np.argsort(keys.astype(np.uint16), kind="stable")
    return order


def context_bits(dtype: torch.dtype) -> int:
    """How many of a value's bits are its context: the highest of its fraction, 12 at most; none of a whole number.

    Example:
        >>> [context_bits(dtype) for dtype in (torch.float32, torch.bfloat16, torch.float8_e5m2, torch.int32)]
        [12, 7, 2, 0]
    """
    return min(_MOST_CONTEXT_BITS, _fraction_bits(dtype))


def contexts(reference: Words, dtype: torch.dtype) -> npt.NDArray[np.uint16]:
    """The context of each weight: the highest bits of its fraction in the base.

    Weight decay multiplies a weight by nearly 1. Counted in units of the weight's last place, what that takes off
    depends on the fraction alone, neither on exponent nor sign.

    Args:
        reference: the base's bits.
        dtype: of the base's values.

    Returns:
        Whole numbers below 2^`context_bits`.

    Example:
        >>> contexts(np.array([1.0, -1.5, 0.375], dtype="<f4").view("<u4"), torch.float32).tolist()
        [0, 2048, 2048]
    """
    fraction, kept = _fraction_bits(dtype), context_bits(dtype)
    return ((reference & ((1 << fraction) - 1)) >> (fraction - kept)).astype(np.uint16)


def common_differences(differences: Words, context: npt.NDArray[np.uint16], bits: int) -> Words:
    """The commonest difference of each context, where one is common, and 0 elsewhere.

    In a matrix of which some rows took no part in training, it is what weight decay did to those: subtracted from all,
    it leaves zeros there.

    Args:
        differences: modulo 2^w; a sample will do.
        context: of each difference.
        bits: there are 2^bits contexts.

    Returns:
        2^bits words. Of differences that are equally common the smallest counts.

    Example:
        >>> differences = np.array([7, 5, 5, 9, 8, 8], dtype=np.uint32)
        >>> common_differences(differences, np.array([0, 0, 0, 1, 1, 1], dtype=np.uint16), bits=1).tolist()
        [5, 8]
    """
    table = np.zeros(1 << bits, dtype=differences.dtype)
    # Context and difference as one number, which sorts faster than a pair. What has no room in it is no decay.
    folded = fold(differences).astype(np.uint64)
    pairs = np.sort((context.astype(np.uint64) << _PAIR_BITS | folded)[folded < 1 << _PAIR_BITS])
    first = np.flatnonzero(np.diff(pairs, prepend=~pairs[:1]))
    repeats = np.diff(np.append(first, pairs.size))
    place = (pairs[first] >> _PAIR_BITS).astype(np.intp)
    # The last to be written to an entry stays: the commonest, and of several the first.
    written = np.lexsort((-first, repeats))
    totals = np.bincount(context, minlength=1 << bits)
    written = written[(repeats[written] > 1) & (repeats[written] * _COMMON >= totals[place[written]])]
    table[place[written]] = unfold((pairs[first[written]] & ((1 << _PAIR_BITS) - 1)).astype(differences.dtype))
    return table


def _fraction_bits(dtype: torch.dtype) -> int:
    return round(-math.log2(torch.finfo(dtype).eps)) if dtype.is_floating_point else 0
