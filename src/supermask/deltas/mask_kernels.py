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

__all__ = ["move_bits", "move_positions", "pack"]

_ONE = np.uint64(1)
_WORD = np.uint64(64)


def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(numba.types.boolean, 1))

    return numba.types.uint64(numba.types.uint64), generate


_lowest_bit: Any = intrinsic(_trailing_zeros)  # where the lowest one of a word is; the word is not 0


@compiled
def move_positions(flat: Any, positions: Any, values: Any, out: Any) -> None:
    """Move the weights at `positions` to `values`, leave zeros and set `out[0]`; if it was set, move them back."""
    moving_out = not out[0]
    for index in range(positions.size):
        position = np.uint64(positions[index])  # unsigned, or numba looks for negative indices each time
        if moving_out:
            values[index] = flat[position]
            flat[position] = 0
        else:
            flat[position] = values[index]
    out[0] = True


@compiled
def move_bits(flat: Any, words: Any, values: Any, out: Any) -> None:
    """As `move_positions`, where words of 64 bits have a one for each weight to move."""
    moving_out, index = not out[0], np.uint64(0)
    for place in range(words.size):
        word, start = words[place], np.uint64(place) * _WORD
        while word:
            position = start + _lowest_bit(word)
            if moving_out:
                values[index] = flat[position]
                flat[position] = 0
            else:
                flat[position] = values[index]
            index += _ONE
            word &= word - _ONE
    out[0] = True


@compiled
def pack(positions: Any, words: Any) -> None:
    """Set the bits at `positions` in words of 64, all zero before."""
    for index in range(positions.size):
        position = np.uint64(positions[index])
        words[position // _WORD] |= _ONE << position % _WORD
