"""The operations in eager torch, on any device: what they mean. All other backends are held to this one.

Plain tensors in, plain tensors out, no autograd. Temporary tensors of the weights' size come and go here; the fused
forms have none.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from supermask.core.counter_random import KeyWords, random_bits16
from supermask.core.kernels.adam8 import adam_step_8bit_
from supermask.core.kernels.arguments import check_compute_dtype, check_together, result_like

__all__ = [
    "adam_step_8bit_",
    "draw_keep_mask",
    "draw_masked_weight",
    "logit_levels",
    "mask_logit_gradient",
    "select_kept",
    "straight_through_gradient",
    "threshold_masked_weight",
]

_LEVELS = 1 << 16


@functools.lru_cache(maxsize=8)
def logit_levels(device: torch.device) -> Tensor:
    """logit((u + 1/2) / 65536) for every 16-bit u, computed in float64 on the CPU and rounded once to float32.

    Shape (65536,), strictly ascending from -11.78 to 11.78; made once for each device and shared, not to be written.
    """
    # The CPU by name: under `torch.set_default_device` another device would round its own way, and devices would
    # disagree.
    share = (torch.arange(_LEVELS, dtype=torch.float64, device="cpu") + 0.5) / _LEVELS
    return torch.logit(share).float().to(device)


@torch.no_grad()
def draw_keep_mask(mask_logits: Tensor, key: KeyWords) -> Tensor:
    """Keep where ν > logit((u + 1/2) / 65536), with the 16 random bits u of (key, index).

    Args:
        mask_logits: ν, any shape and layout, floating point; taken in float32. The index counts in row-major order.
        key: the two words of `key_words`.

    Returns:
        Boolean, same shape, contiguous, True = survives; False where ν is not a number.
    """
    flat = mask_logits.reshape(-1).float()
    keep_mask = torch.empty(flat.shape, dtype=torch.bool, device=flat.device)
    levels = logit_levels(flat.device)
    for start, bits in random_bits16(flat.numel(), key, flat.device):
        stop = start + bits.numel()
        torch.gt(flat[start:stop], levels.index_select(0, bits), out=keep_mask[start:stop])
    return keep_mask.reshape(mask_logits.shape)


def select_kept(weight: Tensor, keep_mask: Tensor) -> Tensor:
    """The weight where it is kept, its bits unchanged, and +0 elsewhere."""
    return torch.where(keep_mask, weight, torch.zeros((), dtype=weight.dtype, device=weight.device))


@torch.no_grad()
def draw_masked_weight(
    weight: Tensor, mask_logits: Tensor, key: KeyWords, *, dtype: torch.dtype, out: Tensor | None = None
) -> Tensor:
    """The weight under a drawn mask, θ = θ̃ ⊙ μ with μ ~ Bern(σ(ν)), in the dtype of the computation.

    Args:
        weight: θ̃; float32, bfloat16, float16 or float64, any layout.
        mask_logits: ν, same shape and device, float32.
        key: the two words of `key_words`.
        dtype: of the result; rounded to nearest even from the weight's, as `Tensor.to` does.
        out: where to write the result, contiguous; fresh memory costs a CPU several times what the draw does.

    Returns:
        θ, same shape, contiguous: kept entries have the (converted) weight's bits, dropped ones are +0.

    Raises:
        ConfigurationError: if shapes, devices or dtypes do not fit.
    """
    check_together(mask_logits, weight=weight)
    check_compute_dtype(dtype)
    result = result_like(weight, dtype=dtype, out=out)
    return result.copy_(select_kept(weight.to(dtype), draw_keep_mask(mask_logits, key)))


@torch.no_grad()
def threshold_masked_weight(
    weight: Tensor, mask_logits: Tensor, *, dtype: torch.dtype, out: Tensor | None = None
) -> Tensor:
    """The weight under the thresholded mask, kept where ν > 0.

    Arguments, result and errors are those of `draw_masked_weight`.
    """
    check_together(mask_logits, weight=weight)
    check_compute_dtype(dtype)
    result = result_like(weight, dtype=dtype, out=out)
    return result.copy_(select_kept(weight.to(dtype), mask_logits > 0))


def straight_through_gradient(weight_gradient: Tensor, weight: Tensor, mask_logits: Tensor, *, through: bool) -> Tensor:
    """∂L/∂ν in the mask logits' dtype, whatever floating dtypes the tensors have; see `mask_logit_gradient`."""
    gradient = weight_gradient.to(mask_logits.dtype) * weight.to(mask_logits.dtype)
    if through:
        # σ' = σ - σ², which is even in ν; at -|ν| it does not cancel, so a large ν keeps its small gradient.
        probability = torch.sigmoid(mask_logits.abs().neg_())
        gradient.mul_(probability.sub_(probability.square()))
    return gradient


@torch.no_grad()
def mask_logit_gradient(
    weight_gradient: Tensor, weight: Tensor, mask_logits: Tensor, *, through: bool, out: Tensor | None = None
) -> Tensor:
    """The gradient of the mask logits: θ̃ · ∂L/∂θ, and times σ'(ν) if it goes through the sigmoid.

    Products are taken in float32. The mask itself is not needed: dropped weights have a gradient too.

    Args:
        weight_gradient: ∂L/∂θ; float32, bfloat16, float16 or float64, any layout.
        weight: θ̃; likewise.
        mask_logits: ν, float32.
        through: whether the gradient goes through the sigmoid.
        out: where to write the result, contiguous; `weight_gradient` itself, if it is float32 and needed no more.

    Returns:
        ∂L/∂ν, float32, same shape, contiguous.

    Raises:
        ConfigurationError: if shapes, devices or dtypes do not fit.
    """
    check_together(mask_logits, weight=weight, weight_gradient=weight_gradient)
    result = result_like(weight, dtype=torch.float32, out=out)
    return result.copy_(straight_through_gradient(weight_gradient, weight, mask_logits, through=through))
