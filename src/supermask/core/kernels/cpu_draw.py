"""Compiled loops that draw: from mask logits to keep masks and masked weights.

Work goes block by block, through buffers that stay in the fastest cache, and each loop is written so that LLVM makes
vector instructions of it: numbers of one width, no branches, and neither exponential nor table for each weight.

**The comparison.** A weight is kept where ν > L(u), the table of logit((u + 1/2) / 65536) rounded to float32. Looking
levels up at random costs several times what all the rest does, so it is done only near a level. With a = u + 1/2, ν is
above the exact level just if d = (65536 - a) e^ν - a is positive. As computed here d is off by less than 5e-6 a: the
exponent ν log₂e, below 18.1, is rounded (which shifts e^ν by 1e-6), the polynomial for 2^f on [-1/2, 1/2] is off by
2.6e-6, rounding in it and in d adds 3e-7, and rounding the level itself is worth up to 7e-7. Where |d| ≤ 1e-5 a, the
sign is not trusted, and the block, one in a hundred or fewer, is done again by the table. So the mask is the table's,
bit for bit, whatever the processor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.np.numpy_support import carray

from supermask.core.kernels.compiled import CompiledTask, compiled
from supermask.core.kernels.cpu_formats import width_of, write_kept
from supermask.core.kernels.instructions import (
    AHEAD,
    BLOCK,
    ask_ahead,
    bits_of,
    choose,
    fetch_add,
    float_of,
    multiply_add,
    pointer_at,
    room,
)

__all__ = ["DRAWN", "THRESHOLDED", "draw_task"]

DRAWN, THRESHOLDED = 0, 1
"""Which mask."""

_ALL, _NONE, _ONE = np.uint32(0xFFFFFFFF), np.uint32(0), np.uint32(1)
_ZERO, _HALF, _LEVELS = np.float32(0.0), np.float32(0.5), np.float32(65536.0)
_SHIFT = np.uint32(16)
_ROUND_1, _ROUND_2, _ROUND_3 = np.uint32(0x21F0AAAD), np.uint32(0xD35A2D97), np.uint32(0x85EBCA6B)
_LOW, _HIGH = np.float32(-12.5), np.float32(12.5)  # beyond the lowest and the highest level
_LOG2E = np.float32(1.4426950408889634)
_TO_INTEGER = np.float32(12582912.0)  # 1.5 * 2**23: adding it rounds to a whole number, which the low bits then hold
_EXPONENT = np.uint32(23)
_P0, _P1, _P2 = np.float32(0.99999926), np.float32(0.69312181), np.float32(0.24024745)
_P3, _P4 = np.float32(0.05591786), np.float32(0.0095701)
_NEAR = np.float32(1e-5)


@compiled
def random_bits(index: Any, first: Any, second: Any) -> Any:
    word = np.uint32(index + first)
    word = np.uint32(np.uint32(word ^ (word >> _SHIFT)) * _ROUND_1)
    word = np.uint32(np.uint32(word ^ (word >> _SHIFT)) * _ROUND_2)
    word = np.uint32(word + second)
    word = np.uint32(np.uint32(word ^ (word >> _SHIFT)) * _ROUND_3)
    return np.uint32(word >> _SHIFT)


@compiled
def draw(logits: Any, first: Any, second: Any, levels: Any, keep: Any) -> None:
    near = _NONE
    for j in range(logits.size):
        a = np.float32(np.int32(random_bits(np.uint32(j), first, second))) + _HALF
        logit = logits[j]
        logit = choose(logit > _LOW, logit, _LOW)  # what is not a number becomes the lowest, and is dropped
        logit = choose(logit < _HIGH, logit, _HIGH)
        exponent = logit * _LOG2E
        shifted = exponent + _TO_INTEGER
        f = exponent - (shifted - _TO_INTEGER)
        power = multiply_add(multiply_add(_P4, f, _P3), f, _P2)
        power = multiply_add(multiply_add(power, f, _P1), f, _P0)
        power = float_of(np.uint32(bits_of(power) + np.uint32(bits_of(shifted) << _EXPONENT)))
        d = multiply_add(_LEVELS - a, power, -a)
        keep[j] = choose(d > _ZERO, _ALL, _NONE)
        near = np.uint32(near | choose(abs(d) <= _NEAR * a, _ALL, _NONE))
    if near:
        for j in range(logits.size):
            keep[j] = choose(logits[j] > levels[random_bits(np.uint32(j), first, second)], _ALL, _NONE)


@compiled
def threshold(logits: Any, keep: Any) -> None:
    for j in range(logits.size):
        keep[j] = choose(logits[j] > _ZERO, _ALL, _NONE)


@compiled
def keep_block(
    mode: Any, logits_at: Any, begin: Any, size: Any, first: Any, second: Any, levels_at: Any, keep: Any
) -> None:
    logits = carray(pointer_at(logits_at + 4 * begin), size, np.float32)
    if mode == THRESHOLDED:
        threshold(logits, keep)
    else:
        # Tensors of 2**32 weights and more take the high half of the index into the key.
        levels = carray(pointer_at(levels_at), 65536, np.float32)
        draw(logits, np.uint32(first + begin), np.uint32(second + (begin >> 32)), levels, keep)


def _draw_task(address: int) -> None:
    job = carray(pointer_at(address), 16, np.int64)
    count, chunk, mode, first, second, levels_at = job[1], job[2], job[3], job[4], job[5], job[6]
    logits_at, weight_at, weight_kind, out_at, out_kind = job[7], job[8], job[9], job[10], job[11]
    weight_width, out_width = width_of(weight_kind), width_of(out_kind) if weight_at else 1
    keep_at, room_at = room(), room()
    while True:
        start = fetch_add(address, chunk)
        if start >= count:
            break
        end = min(start + chunk, count)
        for begin in range(start - AHEAD, end, BLOCK):
            ask_ahead(logits_at, 4, begin, end, False)
            if weight_at:
                ask_ahead(weight_at, weight_width, begin, end, False)
            ask_ahead(out_at, out_width, begin, end, True)
            if begin < start:
                continue
            size = min(BLOCK, end - begin)
            keep = carray(pointer_at(keep_at), size, np.uint32)
            keep_block(mode, logits_at, begin, size, first, second, levels_at, keep)
            if weight_at:
                write_kept(weight_kind, weight_at, out_kind, out_at, begin, size, keep, room_at)
            else:
                out = carray(pointer_at(out_at + begin), size, np.uint8)
                for j in range(size):
                    out[j] = np.uint8(keep[j] & _ONE)


draw_task = CompiledTask(
    _draw_task, uses=("supermask.core.kernels.instructions", "supermask.core.kernels.cpu_formats", __name__)
)
"""Integers of its job: mode, the key's two words, addresses of levels and logits, address and format of θ̃ and of the
result. If the address of θ̃ is 0, the result is the keep mask, a byte a weight."""
