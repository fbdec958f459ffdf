"""Values as whole numbers: what they differ by from the base's, and in which order that is stored.

Everything here works on the bits of one block of values, as unsigned whole numbers of w bits; sums and differences are
modulo 2^w, so each step has an exact inverse whatever the bits mean. docs/FORMAT.md, section "Values", specifies it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Words", "fold", "magnitude_order", "shuffle", "unfold", "unshuffle_"]

Words: TypeAlias = npt.NDArray[Any]
"""Unsigned whole numbers of 8, 16, 32 or 64 bits, little-endian, one dimension."""

_MOST_ORDER_BITS = 16  # numpy sorts such keys by radix


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
    """All lowest bytes, then all second ones, and so on: bytes of shape (bytes of a word, words).

    Example:
        >>> shuffle(np.array([0x0102, 0x0304], dtype="<u2")).tolist()
        [[2, 4], [1, 3]]
    """
    return np.ascontiguousarray(words.view(np.uint8).reshape(-1, words.itemsize).T)


def unshuffle_(data: bytes, words: Words) -> None:
    """The inverse of `shuffle`, into words that are there already."""
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
