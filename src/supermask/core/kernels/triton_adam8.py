"""The Triton kernel for Adam with 8-bit moments.

The physical floor. Per weight, with a float32 gradient: 4 + 4 + 1 + 1 bytes read, 4 + 1 + 1 written and 16 bytes a
block for the scales: 16.06 in all, against the 28 of float32 moments. Division, root, two codings and a hash make 140
instructions per weight, so that on an H200 arithmetic is the limit: some 5 ps per weight, where memory would take 4
(and 7 for 28 bytes).
"""
# mypy: allow-untyped-defs, allow-incomplete-defs
# Kernels have no annotations but `tl.constexpr`: Triton would read others as types of its own.

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from supermask.core.counter_random import KeyWords
from supermask.core.kernels import adam8
from supermask.core.kernels.arguments import AdamStep
from supermask.core.kernels.triton_launch import (
    BLOCK,
    LAUNCH,
    jit,
    key_arguments,
    launch,
    random_numbers,
    scale_arguments,
    tl,
)

__all__ = ["adam_step_8bit_"]

_SCALED_TOGETHER = adam8.BLOCK
# Every operation rounds by itself, so that the bits are those of the eager form.
_LAUNCH: dict[str, Any] = {**LAUNCH, "enable_fp_fusion": False}

_FIRST_BELOW, _SECOND_BELOW = tl.constexpr(adam8.FIRST_BELOW), tl.constexpr(adam8.SECOND_BELOW)
_FIRST_LOWEST, _SECOND_LOWEST = tl.constexpr(adam8.FIRST_LOWEST), tl.constexpr(adam8.SECOND_LOWEST)
_FIRST_HALF = tl.constexpr(0.5 * adam8.FIRST_LOWEST)
_TOP, _PER_TOP = tl.constexpr(adam8.TOP), tl.constexpr(1.0 / adam8.TOP)
_TINY = tl.constexpr(adam8.TINY)
_LARGEST = tl.constexpr(torch.finfo(torch.float32).max)
_SHIFT, _HALF_STEP = tl.constexpr(adam8.SHIFT), tl.constexpr(adam8.HALF_STEP)


@jit
def _decoded(codes, below: tl.constexpr):
    bits = (codes + below) << _SHIFT
    return tl.where(codes > 0, bits.to(tl.float32, bitcast=True), 0.0)


@jit
def _share(moment):
    """The scale of each row, and the magnitudes over it, in [0, 1.875]."""
    size = tl.abs(moment)
    size = tl.where(size <= _LARGEST, size, 0.0)
    largest = tl.max(size, axis=1)
    largest = tl.where(largest >= _TINY, largest, 0.0)
    inverse = tl.where(largest > 0.0, tl.div_rn(tl.full(largest.shape, _TOP, tl.float32), largest), 0.0)
    return largest * _PER_TOP, tl.minimum(size * inverse[:, None], _TOP)


@jit
def _coded(share, added, below: tl.constexpr, most: tl.constexpr):
    """Bytes of numbers in the grid's range; what is added below the mantissa's third bit rounds them."""
    return tl.minimum(((share.to(tl.int32, bitcast=True) + added) >> _SHIFT) - below, most)


@jit
def _step(
    mask_logits,
    gradient,
    first,
    first_scale,
    second,
    second_scale,
    count,
    keep_first,
    add_first,
    keep_second,
    add_second,
    eps,
    rate,
    unbias,
    scale,
    scale_number,
    scale_in_memory: tl.constexpr,
    key,
    first_word,
    second_word,
    key_in_memory: tl.constexpr,
    rows: tl.constexpr,
    together: tl.constexpr,
):
    start = tl.program_id(0).to(tl.int64) * (rows * together)
    lanes = tl.arange(0, rows)[:, None] * together + tl.arange(0, together)[None, :]
    inside = start + lanes < count
    row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    of_tensor = row * together < count
    if scale_in_memory:
        scale_number = tl.load(scale).to(tl.float32)
    slope = tl.load(gradient + start + lanes, mask=inside, other=0.0).to(tl.float32) * scale_number

    codes = tl.load(first + start + lanes, mask=inside, other=0).to(tl.int32)
    moment = _decoded(codes & 127, _FIRST_BELOW) * tl.load(first_scale + row, mask=of_tensor, other=0.0)[:, None]
    moment = tl.where(codes >= 128, -moment, moment) * keep_first + slope * add_first
    codes = tl.load(second + start + lanes, mask=inside, other=0).to(tl.int32)
    square = _decoded(codes, _SECOND_BELOW) * tl.load(second_scale + row, mask=of_tensor, other=0.0)[:, None]
    square = square * keep_second + (slope * add_second) * slope

    logits = tl.load(mask_logits + start + lanes, mask=inside, other=0.0)
    logits = logits - tl.div_rn(moment, tl.sqrt_rn(square) * unbias + eps) * rate
    tl.store(mask_logits + start + lanes, logits, mask=inside)

    new_scale, share = _share(moment)
    tl.store(first_scale + row, new_scale, mask=of_tensor)
    small = tl.where(share >= _FIRST_HALF, 1, 0)
    codes = tl.where(share < _FIRST_LOWEST, small, _coded(share, _HALF_STEP, _FIRST_BELOW, 127))
    codes = tl.where(moment < 0.0, codes + 128, codes)
    tl.store(first + start + lanes, codes.to(tl.uint8), mask=inside)

    new_scale, share = _share(square)
    tl.store(second_scale + row, new_scale, mask=of_tensor)
    random = random_numbers(lanes, start, key, first_word, second_word, key_in_memory).to(tl.int32)
    small = tl.where(share > 0.0, 1, 0)
    codes = tl.where(share < _SECOND_LOWEST, small, _coded(share, random * 16 + 8, _SECOND_BELOW, 255))
    tl.store(second + start + lanes, codes.to(tl.uint8), mask=inside)


def adam_step_8bit_(
    mask_logits: Tensor, gradient: Tensor, moments: adam8.EightBitMoments, adam: AdamStep, *, key: KeyWords | Tensor
) -> None:
    """`adam8.adam_step_8bit_`, the same bits, in one pass; key and scale may be read on the device."""
    adam8.check_8bit_state(mask_logits, gradient, moments)
    launch(
        _step,
        BLOCK,
        mask_logits,
        gradient.contiguous(),
        *moments,
        mask_logits.numel(),
        float(adam.beta1),
        1.0 - adam.beta1,
        float(adam.beta2),
        1.0 - adam.beta2,
        float(adam.eps),
        adam.rate,
        1.0 / adam.root,
        *scale_arguments(adam.gradient_scale, mask_logits),
        *key_arguments(key, mask_logits),
        BLOCK // _SCALED_TOGETHER,
        _SCALED_TOGETHER,
        options=_LAUNCH,
    )
