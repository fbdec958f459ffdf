"""Compiled loops for the gradient of the mask logits, block by block as in `cpu_draw`.

σ'(ν) = e / (1 + e)² with e = exp(-|ν|), where nothing cancels. e = 2^n exp(r) with -|ν| = n ln 2 + r, ln 2 in two
parts, and for |r| ≤ ln 2 / 2 a polynomial that is off by 3e-9. Every slope comes out to within 4e-7 of itself up to
|ν| = 87, where e nears the end of float32's range; beyond, it is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.np.numpy_support import carray

from supermask.core.kernels.compiled import CompiledTask, compiled
from supermask.core.kernels.cpu_formats import as_float32, width_of
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

__all__ = ["gradient_task"]

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_LOG2E = np.float32(1.4426950408889634)
_LN2_UPPER, _LN2_LOWER = np.float32(0.693359375), np.float32(-2.12194440e-4)  # their sum; n times the first is exact
_TO_INTEGER = np.float32(12582912.0)  # 1.5 * 2**23: adding it rounds to a whole number, which the low bits then hold
_EXPONENT, _BIAS = np.uint32(23), np.uint32(127 << 23)
_FARTHEST = np.float32(87.0)
_P2, _P3, _P4 = np.float32(0.49999993), np.float32(0.1666652), np.float32(0.04166839)
_P5, _P6 = np.float32(0.00836878), np.float32(0.00138145)


@compiled
def mask_gradient(gradient: Any, weight: Any, logits: Any, through: Any, out: Any) -> None:
    if not through:
        for j in range(out.size):
            out[j] = gradient[j] * weight[j]
        return
    for j in range(out.size):
        distance = abs(logits[j])
        far = distance > _FARTHEST
        x = -choose(far, _FARTHEST, distance)  # what is not a number stays so
        shifted = multiply_add(x, _LOG2E, _TO_INTEGER)
        n = shifted - _TO_INTEGER
        r = multiply_add(n, -_LN2_LOWER, multiply_add(n, -_LN2_UPPER, x))
        power = multiply_add(multiply_add(_P6, r, _P5), r, _P4)
        power = multiply_add(multiply_add(power, r, _P3), r, _P2)
        power = multiply_add(power, r * r, r) + _ONE
        e = power * float_of(np.uint32(np.uint32(bits_of(shifted) << _EXPONENT) + _BIAS))
        slope = e / ((_ONE + e) * (_ONE + e))
        out[j] = gradient[j] * weight[j] * choose(far, _ZERO, slope)


def _mask_logit_gradient(address: int) -> None:
    job = carray(pointer_at(address), 16, np.int64)
    count, chunk, through, gradient_at, gradient_kind = job[1], job[2], job[3], job[4], job[5]
    weight_at, weight_kind, logits_at, out_at = job[6], job[7], job[8], job[9]
    gradient_width, weight_width = width_of(gradient_kind), width_of(weight_kind)
    gradient_room, weight_room, mask_room = room(), room(), room()
    in_place = out_at == gradient_at
    while True:
        start = fetch_add(address, chunk)
        if start >= count:
            break
        end = min(start + chunk, count)
        for begin in range(start - AHEAD, end, BLOCK):
            ask_ahead(gradient_at, gradient_width, begin, end, False)
            ask_ahead(weight_at, weight_width, begin, end, False)
            if through:
                ask_ahead(logits_at, 4, begin, end, False)
            ask_ahead(out_at, 4, begin, end, True)
            if begin < start:
                continue
            size = min(BLOCK, end - begin)
            out = carray(pointer_at(out_at + 4 * begin), size, np.float32)
            # The vector loop is only for tensors that lie apart.
            mask = carray(pointer_at(mask_room), size, np.float32) if in_place else out
            gradient = as_float32(gradient_kind, gradient_at, begin, size, gradient_room)
            weight = as_float32(weight_kind, weight_at, begin, size, weight_room)
            mask_gradient(
                carray(pointer_at(gradient), size, np.float32),
                carray(pointer_at(weight), size, np.float32),
                carray(pointer_at(logits_at + 4 * begin), size, np.float32),
                through != 0,
                mask,
            )
            if in_place:
                for j in range(size):
                    out[j] = mask[j]


gradient_task = CompiledTask(
    _mask_logit_gradient,
    uses=("supermask.core.kernels.instructions", "supermask.core.kernels.cpu_formats", __name__),
)
"""Integers of its job: `through`; address and format of ∂L/∂θ and of θ̃; addresses of ν and of the result."""
