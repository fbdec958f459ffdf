"""Adam on mask logits with both moments in 8 bits: the definition, in eager torch on any device.

A moment x is stored as one byte a weight and one float32 scale for each block of 256 consecutive weights of the
flattened tensor (the last block may be shorter): x ≈ scale · value(byte). The scale is max|x| / 1.875 over the block,
so that the largest is met to rounding. Values are small floating-point numbers, so that an entry keeps its *relative*
precision however far below its block's largest it lies:

- first moment m: a sign, 4 bits of exponent, 3 of mantissa: ±(1 + j/8) · 2^(e-15), from 2^-15 · 1.125 to 1.875;
- second moment v: 5 bits of exponent, 3 of mantissa: (1 + j/8) · 2^(e-31), from 2^-31 · 1.125 to 1.875.

In both, byte 0 (for m, with either sign) is 0 instead of the smallest number, and there are no subnormal ones.

The first moment is rounded to nearest (halves away from 0; numbers below the smallest to it or to 0). The second is
rounded *stochastically*, up or down with the probabilities that make it right on average: steps of the grid are 6 to
12.5 %, while β₂ = 0.999 changes v by a tenth of a percent a step, so that to nearest it would follow growth and stand
still otherwise. The random bits are counter-based (`supermask.core.counter_random`): a step is a pure function of its
arguments, and a resumed run is bit for bit the same. Only a v below the smallest number is rounded up always, because a
second moment of 0 would let ν leap.

All arithmetic is single IEEE operations in float32, in one order, without fused multiply-add: the CPU's compiled form
gives the same bits. A backend that fuses may differ in the last bit of ν and, rarely, by one step of a byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, final

import torch
from torch import Tensor

from supermask.core.counter_random import random_bits16
from supermask.core.kernels.arguments import AdamStep, check_together
from supermask.errors import ConfigurationError

if TYPE_CHECKING:
    from supermask.core.counter_random import KeyWords

__all__ = [
    "BLOCK",
    "TINY",
    "TOP",
    "EightBitMoments",
    "adam_step_8bit_",
    "check_8bit_state",
    "first_moment",
    "second_moment",
]

BLOCK: Final = 256
"""Weights that share a scale."""

TOP: Final = 1.875
"""The largest value of a byte."""

TINY: Final = 2.0**-100
"""A block whose largest moment is below this is stored as zeros: nothing of it would reach ν past eps."""

SHIFT: Final = 20  # float32 has 23 bits of mantissa, and 3 stay
HALF_STEP: Final = 1 << 19
FIRST_BELOW: Final = (127 - 15) << 3  # what to subtract from the upper bits of a float32 to get the byte of m
SECOND_BELOW: Final = (127 - 31) << 3
FIRST_LOWEST: Final = 1.125 * 2.0**-15
SECOND_LOWEST: Final = 1.125 * 2.0**-31


@final
class EightBitMoments(NamedTuple):
    """Both moments of a tensor's mask logits; zeros before the first step.

    Args:
        first: the bytes of m, uint8 of shape (weights,).
        first_scale: their scales, float32 of shape (blocks,).
        second: the bytes of v, likewise.
        second_scale: their scales, likewise.
    """

    first: Tensor
    first_scale: Tensor
    second: Tensor
    second_scale: Tensor

    @classmethod
    def zeros(cls, weights: int, device: torch.device | str = "cpu") -> EightBitMoments:
        """Of so many weights."""
        sizes = (weights, torch.uint8), (-(-weights // BLOCK), torch.float32)
        return cls(*(torch.zeros(size, dtype=dtype, device=device) for size, dtype in 2 * sizes))


@torch.no_grad()
def adam_step_8bit_(
    mask_logits: Tensor, gradient: Tensor, moments: EightBitMoments, adam: AdamStep, *, key: KeyWords
) -> None:
    """One step of Adam on the mask logits, in place: moments decoded, updated, used, and coded again.

    g = s ∂L/∂ν;  m ← β₁ m + (1 - β₁) g;  v ← β₂ v + ((1 - β₂) g) g;  ν ← ν - λ / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε).

    ν is updated with the moments before they are coded. A moment that is not finite is stored as 0.

    Args:
        mask_logits: ν, float32, contiguous; updated.
        gradient: ∂L/∂ν, any of the kernels' dtypes and layouts.
        moments: m and v; updated.
        adam: the numbers of the step.
        key: of the rounding of v; another one for each step and tensor. Weight i takes number i of `random_bits16`.

    Raises:
        ConfigurationError: if shapes, devices or dtypes do not fit, or what is updated is not contiguous.

    Source: block-wise quantised moments of Dettmers et al. (2022), "8-bit Optimizers via Block-wise Quantization"; the
    floating-point bytes and the stochastic rounding are ours.
    """
    check_8bit_state(mask_logits, gradient, moments)
    first, first_scale, second, second_scale = moments
    flat = gradient.reshape(-1).float() * adam.gradient_scale
    m = first_moment(first, first_scale) * adam.beta1 + flat * (1.0 - adam.beta1)
    v = second_moment(second, second_scale) * adam.beta2 + (flat * (1.0 - adam.beta2)) * flat
    # By way of float64: torch's float32 root on the CPU may be off in the last bit.
    root = v.double().sqrt().float() * (1.0 / adam.root) + adam.eps
    mask_logits.view(-1).sub_(m / root * adam.rate)
    _code_first_(m, first, first_scale)
    _code_second_(v, second, second_scale, key)


def first_moment(codes: Tensor, scale: Tensor) -> Tensor:
    """m, float32 of shape (weights,), out of its bytes and scales, uint8 (weights,) and float32 (blocks,).

    Example:
        >>> first_moment(torch.tensor([127, 255, 0], dtype=torch.uint8), torch.tensor([2.0]))
        tensor([ 3.7500, -3.7500,  0.0000])
    """
    whole = codes.to(torch.int32)
    magnitude = _decoded(whole & 127, FIRST_BELOW) * _per_weight(scale, codes)
    return torch.where(whole >= 128, -magnitude, magnitude)


def second_moment(codes: Tensor, scale: Tensor) -> Tensor:
    """v, float32 of shape (weights,), out of its bytes and scales, uint8 (weights,) and float32 (blocks,).

    Example:
        >>> second_moment(torch.tensor([255, 254, 0], dtype=torch.uint8), torch.tensor([2.0]))
        tensor([3.7500, 3.5000, 0.0000])
    """
    return _decoded(codes.to(torch.int32), SECOND_BELOW) * _per_weight(scale, codes)


def check_8bit_state(mask_logits: Tensor, gradient: Tensor, moments: EightBitMoments) -> None:
    """Shapes, devices and dtypes are as `adam_step_8bit_` says."""
    check_together(mask_logits, gradient=gradient)
    if not mask_logits.is_contiguous():  # a copy would take the update and be lost
        raise ConfigurationError(
            f"mask logits are updated in place and need to be contiguous, received strides {mask_logits.stride()}; "
            "call .contiguous() when they are made"
        )
    count = mask_logits.numel()
    for name, tensor in zip(moments._fields, moments, strict=True):
        size, dtype = (-(-count // BLOCK), torch.float32) if name.endswith("scale") else (count, torch.uint8)
        fits = tensor.shape == (size,) and tensor.dtype == dtype and tensor.device == mask_logits.device
        if not fits or not tensor.is_contiguous():
            raise ConfigurationError(
                f"{name} is a contiguous {dtype} tensor of shape ({size},) on {mask_logits.device} for {count} mask "
                f"logits; received {tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"
            )


def _decoded(codes: Tensor, below: int) -> Tensor:
    bits = (codes + below) << SHIFT
    return torch.where(codes > 0, bits.view(torch.float32), torch.zeros((), device=codes.device))


def _per_weight(scale: Tensor, codes: Tensor) -> Tensor:
    return scale.repeat_interleave(BLOCK)[: codes.numel()]


def _code_first_(m: Tensor, codes: Tensor, scale: Tensor) -> None:
    share = _share_(m, scale)
    small = torch.where(share >= 0.5 * FIRST_LOWEST, 1, 0)
    nearest = (((share.view(torch.int32) + HALF_STEP) >> SHIFT) - FIRST_BELOW).clamp_(max=127)
    coded = torch.where(share < FIRST_LOWEST, small, nearest)
    codes.copy_(torch.where(m < 0, coded + 128, coded))


def _code_second_(v: Tensor, codes: Tensor, scale: Tensor, key: KeyWords) -> None:
    share = _share_(v, scale)
    small = torch.where(share > 0, 1, 0)
    random = torch.empty(share.shape, dtype=torch.int32, device=share.device)
    for start, bits in random_bits16(share.numel(), key, share.device):
        random[start : start + bits.numel()] = bits
    # Added below the mantissa's third bit, random bits carry over as often as the rest is large.
    drawn = (((share.view(torch.int32) + (random * 16 + 8)) >> SHIFT) - SECOND_BELOW).clamp_(max=255)
    codes.copy_(torch.where(share < SECOND_LOWEST, small, drawn))


def _share_(moment: Tensor, scale: Tensor) -> Tensor:
    """Write the scales; the moments' magnitudes over them, in [0, 1.875]."""
    size = moment.abs()
    size = torch.where(size <= torch.finfo(torch.float32).max, size, torch.zeros((), device=size.device))
    blocks = torch.nn.functional.pad(size, (0, scale.numel() * BLOCK - size.numel())).view(-1, BLOCK)
    largest = blocks.amax(dim=1)
    largest = torch.where(largest >= TINY, largest, torch.zeros((), device=size.device))
    scale.copy_(largest * (1.0 / TOP))
    inverse = torch.where(largest > 0, torch.full_like(largest, TOP) / largest, torch.zeros((), device=size.device))
    return (size * _per_weight(inverse, size)).clamp_(max=TOP)
