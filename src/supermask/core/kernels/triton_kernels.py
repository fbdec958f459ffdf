"""The operations for CUDA, in Triton; they also run in Triton's interpreter, on the CPU, to be tested.

Inputs that are not contiguous are copied first; what is updated in place must be contiguous. Nothing here waits for the
device: launches go to the current stream of the tensors' device.

The physical floor. Per weight, with ν in float32 and θ̃ and θ in bfloat16, a masked weight reads 4 + 2 bytes and writes
2, a keep mask reads 4 and writes 1; nothing else of the weights' size is touched. Hash and decision compile to 30
instructions per weight for an H200, 17 of them for its integer units: two thirds of the time that its memory takes for
8 bytes, less on GPUs with slower memory, so that memory is the limit. For the 5 bytes of a mask the two are even. A
gradient reads 2 + 2 bytes (and 4 of ν, if it goes through the sigmoid) and writes 4.

What a draw may not do is look every weight up in the table of levels: each would take a 32-byte sector of its own from
the second-level cache, four times the bytes that come from memory. So the decision is first made in floating point,
without the table, and only where it falls within a margin that no exponential's rounding reaches, about one weight in
ten thousand, is the table read. The mask stays bit for bit that of the table.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs
# Kernels have no annotations but `tl.constexpr`: Triton would read others as types of its own.

from __future__ import annotations

import math

import torch
from torch import Tensor

from supermask.core.counter_random import KeyWords
from supermask.core.kernels.arguments import check_compute_dtype, check_together, result_like
from supermask.core.kernels.reference import logit_levels
from supermask.core.kernels.triton_adam8 import adam_step_8bit_
from supermask.core.kernels.triton_launch import BLOCK, jit, key_arguments, launch, random_numbers, tl

__all__ = [
    "adam_step_8bit_",
    "draw_keep_mask",
    "draw_masked_weight",
    "mask_logit_gradient",
    "threshold_masked_weight",
]

# The float32 whose lowest 16 bits count in ones, and what to add to it for u + 1/2: both sums are exact.
_COUNTER = tl.constexpr(0x4B000000)
_HALF_ABOVE = tl.constexpr(0.5 - 2.0**23)
_LEVELS = tl.constexpr(65536.0)
_LOG2_E = tl.constexpr(math.log2(math.e))
# In levels: 2⁻¹⁴ relative, four times the error that exp(-ν) has at most, on any device, where it is finite.
_MARGIN = tl.constexpr(4.0)


@jit
def _drawn(mask_logits, start, lanes, levels, key, first_word, second_word, key_in_memory: tl.constexpr):
    """Which weights a block keeps: ν > logit((u + 1/2) / 65536)."""
    numbers = random_numbers(lanes, start, key, first_word, second_word, key_in_memory)
    # With s = (u + 1/2) / 65536: ν > logit(s) where s exp(-ν) < 1 - s; here times 65536.
    share = (numbers | _COUNTER).to(tl.float32, bitcast=True) + _HALF_ABOVE
    excess = share * tl.exp2(mask_logits * -_LOG2_E) + (share - _LEVELS)
    undecided = tl.abs(excess) <= _MARGIN
    level = tl.load(levels + numbers.to(tl.int32), mask=undecided, other=excess)
    return level < tl.where(undecided, mask_logits, 0.0)


@jit
def _in_dtype_of(values, masked):
    """Weights in the dtype of the masked ones; from float64 by way of float32, as torch goes."""
    if values.dtype == tl.float64:  # noqa: SIM102 - Triton 3.2 has no `and` for what is known when compiling
        if masked.dtype.element_ty != tl.float64:
            values = values.to(tl.float32)
    return values.to(masked.dtype.element_ty)


@jit
def _draw_weight(
    masked,
    weight,
    mask_logits,
    count,
    levels,
    key,
    first_word,
    second_word,
    key_in_memory: tl.constexpr,
    block: tl.constexpr,
):
    start = tl.program_id(0).to(tl.int64) * block
    lanes = tl.arange(0, block)
    inside = start + lanes < count
    logits = tl.load(mask_logits + start + lanes, mask=inside, other=0.0)
    values = _in_dtype_of(tl.load(weight + start + lanes, mask=inside, other=0.0), masked)
    keep = _drawn(logits, start, lanes, levels, key, first_word, second_word, key_in_memory)
    tl.store(masked + start + lanes, tl.where(keep, values, tl.zeros_like(values)), mask=inside)


@jit
def _draw_mask(
    keep_mask,
    mask_logits,
    count,
    levels,
    key,
    first_word,
    second_word,
    key_in_memory: tl.constexpr,
    block: tl.constexpr,
):
    start = tl.program_id(0).to(tl.int64) * block
    lanes = tl.arange(0, block)
    inside = start + lanes < count
    logits = tl.load(mask_logits + start + lanes, mask=inside, other=0.0).to(tl.float32)
    keep = _drawn(logits, start, lanes, levels, key, first_word, second_word, key_in_memory)
    tl.store(keep_mask + start + lanes, keep, mask=inside)


@jit
def _threshold_weight(masked, weight, mask_logits, count, block: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * block
    lanes = tl.arange(0, block)
    inside = start + lanes < count
    keep = tl.load(mask_logits + start + lanes, mask=inside, other=0.0) > 0.0
    values = _in_dtype_of(tl.load(weight + start + lanes, mask=inside, other=0.0), masked)
    tl.store(masked + start + lanes, tl.where(keep, values, tl.zeros_like(values)), mask=inside)


@jit
def _gradient(gradient, weight_gradient, weight, mask_logits, count, through: tl.constexpr, block: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * block
    lanes = tl.arange(0, block)
    inside = start + lanes < count
    incoming = tl.load(weight_gradient + start + lanes, mask=inside, other=0.0).to(tl.float32)
    product = incoming * tl.load(weight + start + lanes, mask=inside, other=0.0).to(tl.float32)
    if through:
        # σ' = e / (1 + e)² is even in ν; at -|ν| nothing overflows or cancels.
        logits = tl.load(mask_logits + start + lanes, mask=inside, other=0.0)
        exponential = tl.exp2(tl.abs(logits) * -_LOG2_E)
        share = 1.0 / (1.0 + exponential)
        product = product * (exponential * share * share)
    tl.store(gradient + start + lanes, product, mask=inside)


def draw_masked_weight(
    weight: Tensor, mask_logits: Tensor, key: KeyWords | Tensor, *, dtype: torch.dtype, out: Tensor | None = None
) -> Tensor:
    """`reference.draw_masked_weight` in one pass; the key may also be a tensor of two words on the device."""
    check_together(mask_logits, weight=weight)
    check_compute_dtype(dtype)
    weight, mask_logits = weight.contiguous(), mask_logits.contiguous()
    masked, levels = result_like(weight, dtype=dtype, out=out), logit_levels(weight.device)
    key_words = key_arguments(key, levels)
    launch(_draw_weight, BLOCK, masked, weight, mask_logits, masked.numel(), levels, *key_words, BLOCK)
    return masked


def draw_keep_mask(mask_logits: Tensor, key: KeyWords | Tensor) -> Tensor:
    """`reference.draw_keep_mask` in one pass; the key may also be a tensor of two words on the device."""
    mask_logits = mask_logits.contiguous()
    keep_mask = torch.empty(mask_logits.shape, dtype=torch.bool, device=mask_logits.device)
    levels = logit_levels(mask_logits.device)
    launch(_draw_mask, BLOCK, keep_mask, mask_logits, keep_mask.numel(), levels, *key_arguments(key, levels), BLOCK)
    return keep_mask


def threshold_masked_weight(
    weight: Tensor, mask_logits: Tensor, *, dtype: torch.dtype, out: Tensor | None = None
) -> Tensor:
    """`reference.threshold_masked_weight` in one pass."""
    check_together(mask_logits, weight=weight)
    check_compute_dtype(dtype)
    weight, mask_logits = weight.contiguous(), mask_logits.contiguous()
    masked = result_like(weight, dtype=dtype, out=out)
    launch(_threshold_weight, BLOCK, masked, weight, mask_logits, masked.numel(), BLOCK)
    return masked


def mask_logit_gradient(
    weight_gradient: Tensor, weight: Tensor, mask_logits: Tensor, *, through: bool, out: Tensor | None = None
) -> Tensor:
    """`reference.mask_logit_gradient` in one pass; ν is not read unless the gradient goes through the sigmoid.

    Without the sigmoid, bit for bit the reference's; through it, to within 1e-5 of it, relatively, where |ν| < 80, and
    absolutely 1e-34 of the weight's gradient beyond.
    """
    check_together(mask_logits, weight=weight, weight_gradient=weight_gradient)
    weight_gradient, weight, mask_logits = weight_gradient.contiguous(), weight.contiguous(), mask_logits.contiguous()
    gradient = result_like(mask_logits, dtype=torch.float32, out=out)
    count = gradient.numel()
    launch(_gradient, BLOCK, gradient, weight_gradient, weight, mask_logits, count, through, BLOCK)
    return gradient
