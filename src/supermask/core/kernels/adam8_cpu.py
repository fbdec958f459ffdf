"""Adam with 8-bit moments, compiled for the CPU.

A block of 256 weights goes through all of a step in the fastest cache, in loops that LLVM makes vector instructions of.
Every operation is rounded by itself, so that the bits are those of `adam8`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba.np.numpy_support import carray
from torch import Tensor

from supermask.core.counter_random import KeyWords
from supermask.core.kernels.adam8 import (
    BLOCK,
    FIRST_BELOW,
    FIRST_LOWEST,
    HALF_STEP,
    SECOND_BELOW,
    SECOND_LOWEST,
    SHIFT,
    TINY,
    TOP,
    EightBitMoments,
    check_8bit_state,
)
from supermask.core.kernels.arguments import AdamStep
from supermask.core.kernels.compiled import CompiledTask, compiled
from supermask.core.kernels.cpu_draw import random_bits
from supermask.core.kernels.instructions import bits_of, choose, fetch_add, float_of, pointer_at
from supermask.core.kernels.team import do_job

__all__ = ["adam_step_8bit_"]

_BLOCK = BLOCK
_SHIFT, _HALF_STEP = np.uint32(SHIFT), np.uint32(HALF_STEP)
_TO_SIGN, _SIGN, _LOW_SEVEN = np.uint32(24), np.uint32(128), np.uint32(127)
_ZERO, _ONE, _FOUR, _EIGHT = np.uint32(0), np.uint32(1), np.uint32(4), np.uint32(8)
_MAGNITUDE, _INFINITE = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)
_FIRST_BELOW, _SECOND_BELOW = np.uint32(FIRST_BELOW), np.uint32(SECOND_BELOW)
_FIRST_MOST, _SECOND_MOST = np.uint32(127), np.uint32(255)
_FIRST_LOWEST, _SECOND_LOWEST = np.float32(FIRST_LOWEST), np.float32(SECOND_LOWEST)
_HALF_LOWEST = np.float32(0.5 * FIRST_LOWEST)
_TOP, _PER_TOP, _TINY, _NOTHING = np.float32(TOP), np.float32(1.0 / TOP), np.float32(TINY), np.float32(0.0)


@compiled
def update(
    logits: Any, gradient: Any, first: Any, second: Any, first_scale: Any, second_scale: Any, constants: Any,
    m_bits: Any, v_bits: Any,
) -> None:  # fmt: skip
    beta1, rest1, beta2, rest2 = constants[0], constants[1], constants[2], constants[3]
    eps, rate, per_root, gradient_scale = constants[4], constants[5], constants[6], constants[7]
    for i in range(logits.size):
        code = np.uint32(first[i])
        size = np.uint32(code & _LOW_SEVEN)
        bits = choose(size > _ZERO, np.uint32(np.uint32(size + _FIRST_BELOW) << _SHIFT), _ZERO)
        m = float_of(np.uint32(bits | np.uint32(np.uint32(code & _SIGN) << _TO_SIGN))) * first_scale
        code = np.uint32(second[i])
        v = float_of(choose(code > _ZERO, np.uint32(np.uint32(code + _SECOND_BELOW) << _SHIFT), _ZERO)) * second_scale
        g = gradient[i] * gradient_scale
        m = m * beta1 + g * rest1
        v = v * beta2 + (g * rest2) * g
        logits[i] = logits[i] - m / (np.sqrt(v) * per_root + eps) * rate
        m_bits[i], v_bits[i] = bits_of(m), bits_of(v)


@compiled
def largest_of(moment_bits: Any) -> Any:
    """The largest magnitude: numbers that are not negative are in the order of their bits."""
    most = _ZERO
    for i in range(moment_bits.size):
        bits = np.uint32(moment_bits[i] & _MAGNITUDE)
        bits = choose(bits < _INFINITE, bits, _ZERO)
        most = choose(bits > most, bits, most)
    largest = float_of(most)
    return choose(largest >= _TINY, largest, _NOTHING)


@compiled
def code_first(m_bits: Any, largest: Any, first: Any) -> None:
    inverse = choose(largest > _NOTHING, _TOP / largest, _NOTHING)
    for i in range(m_bits.size):
        bits = np.uint32(m_bits[i] & _MAGNITUDE)
        share = float_of(choose(bits < _INFINITE, bits, _ZERO)) * inverse
        share = choose(share < _TOP, share, _TOP)
        nearest = np.uint32(np.uint32(np.uint32(bits_of(share) + _HALF_STEP) >> _SHIFT) - _FIRST_BELOW)
        nearest = choose(nearest < _FIRST_MOST, nearest, _FIRST_MOST)
        size = choose(share < _FIRST_LOWEST, choose(share >= _HALF_LOWEST, _ONE, _ZERO), nearest)
        first[i] = np.uint8(size | choose(float_of(m_bits[i]) < _NOTHING, _SIGN, _ZERO))


@compiled
def code_second(v_bits: Any, largest: Any, index: Any, low: Any, high: Any, second: Any) -> None:
    inverse = choose(largest > _NOTHING, _TOP / largest, _NOTHING)
    for i in range(v_bits.size):
        bits = np.uint32(v_bits[i] & _MAGNITUDE)
        share = float_of(choose(bits < _INFINITE, bits, _ZERO)) * inverse
        share = choose(share < _TOP, share, _TOP)
        random = random_bits(np.uint32(index + np.uint32(i)), low, high)
        added = np.uint32(bits_of(share) + np.uint32(np.uint32(random << _FOUR) + _EIGHT))
        drawn = np.uint32(np.uint32(added >> _SHIFT) - _SECOND_BELOW)
        drawn = choose(drawn < _SECOND_MOST, drawn, _SECOND_MOST)
        second[i] = np.uint8(choose(share < _SECOND_LOWEST, choose(share > _NOTHING, _ONE, _ZERO), drawn))


def _adam_step_8bit(address: int) -> None:
    job = carray(pointer_at(address), 16, np.int64)
    count, chunk = job[1], job[2]
    numbers = carray(pointer_at(address + 128), 8, np.float64)
    constants = np.empty(8, dtype=np.float32)
    for i in range(8):
        constants[i] = np.float32(numbers[i])
    low, high = np.uint32(job[9]), np.uint32(job[10])
    m_room, v_room = np.empty(_BLOCK, dtype=np.uint32), np.empty(_BLOCK, dtype=np.uint32)
    while True:
        start = fetch_add(address, chunk)
        if start >= count:
            break
        for begin in range(start, min(start + chunk, count), _BLOCK):
            size = min(_BLOCK, count - begin)
            m_bits, v_bits = m_room[:size], v_room[:size]
            logits = carray(pointer_at(job[3] + 4 * begin), size, np.float32)
            gradient = carray(pointer_at(job[4] + 4 * begin), size, np.float32)
            first = carray(pointer_at(job[5] + begin), size, np.uint8)
            second = carray(pointer_at(job[7] + begin), size, np.uint8)
            first_scale = carray(pointer_at(job[6] + 4 * (begin // _BLOCK)), 1, np.float32)
            second_scale = carray(pointer_at(job[8] + 4 * (begin // _BLOCK)), 1, np.float32)
            update(logits, gradient, first, second, first_scale[0], second_scale[0], constants, m_bits, v_bits)
            largest = largest_of(m_bits)
            code_first(m_bits, largest, first)
            first_scale[0] = largest * _PER_TOP
            largest = largest_of(v_bits)
            # 256 numbers from a multiple of 256 never straddle a multiple of 2**32.
            code_second(v_bits, largest, np.uint32(begin), low, np.uint32(high + np.uint32(begin >> 32)), second)
            second_scale[0] = largest * _PER_TOP


_task = CompiledTask(_adam_step_8bit, uses=("supermask.core.kernels.adam8", "supermask.core.kernels.cpu_draw"))


@torch.no_grad()
def adam_step_8bit_(
    mask_logits: Tensor, gradient: Tensor, moments: EightBitMoments, adam: AdamStep, *, key: KeyWords
) -> None:
    """`adam8.adam_step_8bit_`, the same bits, in one pass over memory."""
    check_8bit_state(mask_logits, gradient, moments)
    gradient = gradient.float().contiguous()
    do_job(
        _task,
        mask_logits.numel(),
        *(tensor.data_ptr() for tensor in (mask_logits, gradient, *moments)),
        *key,
        numbers=(
            adam.beta1,
            1.0 - adam.beta1,
            adam.beta2,
            1.0 - adam.beta2,
            adam.eps,
            adam.rate,
            1.0 / adam.root,
            float(adam.gradient_scale),
        ),
    )
