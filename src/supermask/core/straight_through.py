"""The masked weight and its gradient to the mask logits."""

from __future__ import annotations

from typing import Any, Literal, final, get_args

import torch
from torch import Tensor

from supermask.core.kernels.reference import select_kept, straight_through_gradient
from supermask.errors import ConfigurationError

__all__ = ["GradientConvention", "masked_weight"]

GradientConvention = Literal["stop", "through"]


def masked_weight(
    weight: Tensor, mask_logits: Tensor, keep_mask: Tensor, *, gradient: GradientConvention = "stop"
) -> Tensor:
    """Zero the dropped weights, θ = θ̃ ⊙ μ, with a straight-through gradient to the mask logits ν.

    The mask is a step of ν, so its true gradient is zero almost everywhere. Two conventions are in use, and the paper
    does not say which it takes:

    - `"stop"`: the gradient stops at the sample, ∂L/∂ν = θ̃ · ∂L/∂θ;
    - `"through"`: it goes on through the sigmoid, ∂L/∂ν = θ̃ · ∂L/∂θ · σ'(ν), where σ'(5) = 0.0066.

    Nothing is saved for backward but the two tensors that exist anyway: the mask itself is not needed.

    Args:
        weight: θ̃, the base's weight, frozen; any shape and floating dtype.
        mask_logits: ν, same shape, float32.
        keep_mask: μ, same shape, boolean, True = survives.
        gradient: the convention.

    Returns:
        θ in the dtype of `weight`: kept entries have exactly the base's bits, dropped ones are +0.

    Raises:
        ConfigurationError: if the shapes differ, the mask is not boolean, or the convention is unknown.

    Example:
        >>> weight, logits = torch.tensor([2.0, -3.0]), torch.tensor([5.0, -5.0], requires_grad=True)
        >>> masked_weight(weight, logits, logits > 0).sum().backward()
        >>> logits.grad
        tensor([ 2., -3.])

    Source: equations 3 and 4 of the paper; the estimator as in Mallya et al. (2018) and Zhou et al. (2019).
    """
    if not weight.shape == mask_logits.shape == keep_mask.shape:
        raise ConfigurationError(
            "weight, mask logits and keep mask need one shape, received "
            f"{tuple(weight.shape)}, {tuple(mask_logits.shape)} and {tuple(keep_mask.shape)}"
        )
    if keep_mask.dtype != torch.bool:
        raise ConfigurationError(f"a keep mask is boolean, True = survives; received {keep_mask.dtype}")
    if gradient not in get_args(GradientConvention):
        raise ConfigurationError(f"gradient is one of {', '.join(get_args(GradientConvention))}; received {gradient!r}")
    masked: Tensor = _MaskedWeight.apply(weight, mask_logits, keep_mask, gradient == "through")  # type: ignore[no-untyped-call]
    return masked


@final
class _MaskedWeight(torch.autograd.Function):
    # A formula such as `mask + p - p.detach()` would leave values near 1 that are not 1; here the forward pass is
    # exact.
    @staticmethod
    def forward(ctx: Any, weight: Tensor, mask_logits: Tensor, keep_mask: Tensor, through_sigmoid: bool) -> Tensor:
        ctx.save_for_backward(weight, mask_logits)
        ctx.through_sigmoid = through_sigmoid
        return select_kept(weight, keep_mask)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        weight, mask_logits = ctx.saved_tensors
        gradient = straight_through_gradient(grad_outputs[0], weight, mask_logits, through=ctx.through_sigmoid)
        return None, gradient, None, None
