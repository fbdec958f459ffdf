"""Triton kernels for the mask logits' gradient and Adam's step on them.

The physical floor. Per weight, with bfloat16 weights and gradients of them: the gradient alone reads 2 + 2 bytes (and
4 of ν, if it goes through the sigmoid) and writes 4; Adam reads 4 × 4 and writes 3 × 4; both in one read 2 + 2 + 3 × 4
and write 3 × 4, 28 bytes instead of the 36 or 40 of two passes, and no gradient of ν in memory. Memory is the limit of
all three.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs
# Kernels have no annotations but `tl.constexpr`: Triton would read others as types of its own.

from __future__ import annotations

import math

import torch
from torch import Tensor

from supermask.core.kernels.arguments import AdamStep, check_in_place, check_together, result_like
from supermask.core.kernels.triton_launch import BLOCK, jit, launch, tl

__all__ = ["adam_step_", "mask_logit_gradient"]

_LOG2_E = tl.constexpr(math.log2(math.e))


@jit
def _straight_through(weight_gradient, weight, mask_logits, through: tl.constexpr):
    """θ̃ · ∂L/∂θ, and times σ'(ν)."""
    gradient = weight_gradient.to(tl.float32) * weight.to(tl.float32)
    if through:
        # σ' = e / (1 + e)² is even in ν; at -|ν| nothing overflows or cancels.
        exponential = tl.exp2(tl.abs(mask_logits) * -_LOG2_E)
        share = 1.0 / (1.0 + exponential)
        gradient = gradient * (exponential * share * share)
    return gradient


@jit
def _adam(mask_logits, gradient, first, second, add_first, keep_second, add_second, unbias, eps, rate):
    """ν, m and v after a step; root and quotient round as IEEE says, which costs nothing beside the memory."""
    first = first + (gradient - first) * add_first
    second = second * keep_second + gradient * gradient * add_second
    root = tl.sqrt_rn(second) * unbias + eps
    return mask_logits - rate * tl.div_rn(first, root), first, second


@jit
def _gradient(gradient, weight_gradient, weight, mask_logits, count, through: tl.constexpr, block: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * block
    lanes = tl.arange(0, block)
    inside = start + lanes < count
    incoming = tl.load(weight_gradient + start + lanes, mask=inside, other=0.0)
    values = tl.load(weight + start + lanes, mask=inside, other=0.0)
    logits = values
    if through:
        logits = tl.load(mask_logits + start + lanes, mask=inside, other=0.0)
    tl.store(gradient + start + lanes, _straight_through(incoming, values, logits, through), mask=inside)


@jit
def _step(
    mask_logits,
    gradient,
    weight,
    first,
    second,
    count,
    add_first,
    keep_second,
    add_second,
    unbias,
    eps,
    rate,
    scale,
    scale_number,
    scale_in_memory: tl.constexpr,
    of_weight: tl.constexpr,
    through: tl.constexpr,
    block: tl.constexpr,
):
    start = tl.program_id(0).to(tl.int64) * block
    lanes = tl.arange(0, block)
    inside = start + lanes < count
    logits = tl.load(mask_logits + start + lanes, mask=inside, other=0.0)
    slope = tl.load(gradient + start + lanes, mask=inside, other=0.0).to(tl.float32)
    moment = tl.load(first + start + lanes, mask=inside, other=0.0)
    square = tl.load(second + start + lanes, mask=inside, other=0.0)
    if of_weight:
        slope = _straight_through(slope, tl.load(weight + start + lanes, mask=inside, other=0.0), logits, through)
    if scale_in_memory:
        scale_number = tl.load(scale).to(tl.float32)
    slope = slope * scale_number
    logits, moment, square = _adam(logits, slope, moment, square, add_first, keep_second, add_second, unbias, eps, rate)
    tl.store(mask_logits + start + lanes, logits, mask=inside)
    tl.store(first + start + lanes, moment, mask=inside)
    tl.store(second + start + lanes, square, mask=inside)


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


def adam_step_(
    mask_logits: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    adam: AdamStep,
    *,
    weight: Tensor | None = None,
    through: bool = False,
) -> None:
    """`reference.adam_step_` in one pass, to within a few float32 roundings; a tensor's scale is read on the device."""
    weighing = {} if weight is None else {"weight": weight}
    check_together(mask_logits, gradient=gradient, first=first, second=second, **weighing)
    check_in_place(mask_logits=mask_logits, first=first, second=second)
    launch(
        _step,
        BLOCK,
        mask_logits,
        gradient.contiguous(),
        mask_logits if weight is None else weight.contiguous(),
        first,
        second,
        mask_logits.numel(),
        1.0 - adam.beta1,
        float(adam.beta2),
        1.0 - adam.beta2,
        1.0 / adam.root,
        float(adam.eps),
        adam.rate,
        *scale_arguments(adam.gradient_scale, mask_logits),
        weight is not None,
        through,
        BLOCK,
    )


def scale_arguments(gradient_scale: float | Tensor, on: Tensor) -> tuple[Tensor, float, bool]:
    """What a kernel takes for a scale: a pointer or a number, and which of the two.

    Args:
        gradient_scale: a number, or a tensor of one element; it is read when the kernel runs if it is where `on` is.
        on: any tensor of the kernel's.
    """
    if isinstance(gradient_scale, Tensor) and gradient_scale.device == on.device:
        return gradient_scale, 1.0, True
    return on, float(gradient_scale), False
