"""Compiled loops over the weights that a mask names: numpy and torch would take more passes or wider indices for them.

numba takes a while to load, so this module is imported where it is first used. All loops run without the interpreter's
lock and trust their arguments: positions and bits within `flat`, and as many values as there are of them.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

from supermask.core.kernels.compiled import compiled

__all__ = ["lift_bits", "lift_positions", "pack", "put_bits", "put_positions"]

_ONE = np.uint64(1)
_WORD = np.uint64(64)
_IN_WORD = np.uint64(63)
_TO_WORD = np.uint64(6)


def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(numba.types.boolean, 1))

    return numba.types.uint64(numba.types.uint64), generate


_lowest_bit: Any = intrinsic(_trailing_zeros)  # where the lowest one of a word is; the word is not 0


def _lift_positions(flat: Any, positions: Any, values: Any, done: Any) -> None:
    for index in range(positions.size):
        position = np.uint64(positions[index])  # unsigned, or numba looks for negative indices each time
        values[index] = flat[position]
        flat[position] = 0
    done[0] = True


def _put_positions(flat: Any, positions: Any, values: Any) -> None:
    for index in range(positions.size):
        flat[np.uint64(positions[index])] = values[index]


def _lift_bits(flat: Any, words: Any, values: Any, done: Any) -> None:
    index = np.uint64(0)
    for place in range(words.size):
        word, start = words[place], np.uint64(place) * _WORD
        while word:
            position = start + _lowest_bit(word)
            values[index] = flat[position]
            flat[position] = 0
            index += _ONE
            word &= word - _ONE
    done[0] = True


def _put_bits(flat: Any, words: Any, values: Any) -> None:
    index = np.uint64(0)
    for place in range(words.size):
        word, start = words[place], np.uint64(place) * _WORD
        while word:
            flat[start + _lowest_bit(word)] = values[index]
            index += _ONE
            word &= word - _ONE


def _pack(positions: Any, words: Any) -> None:
    for index in range(positions.size):
        position = np.uint64(positions[index])
        words[position >> _TO_WORD] |= _ONE << (position & _IN_WORD)


lift_positions = compiled(_lift_positions)
"""(flat, positions, values, done): move the weights at `positions` to `values`, leave zeros, then set `done[0]`."""

put_positions = compiled(_put_positions)
"""(flat, positions, values): write `values` to `positions`."""

lift_bits = compiled(_lift_bits)
"""(flat, words, values, done): as `lift_positions`, where `words` have a one for each weight to move."""

put_bits = compiled(_put_bits)
"""(flat, words, values): as `put_positions`, where `words` have a one for each weight to write."""

pack = compiled(_pack)
"""(positions, words): set the bits at `positions` in words of 64, all zero before."""
