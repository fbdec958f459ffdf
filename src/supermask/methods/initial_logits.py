"""Mask logits before training."""

from __future__ import annotations

import torch
from torch import Tensor

from supermask.core import magnitude_keep_mask
from supermask.core.magnitude import zeros_at

__all__ = ["initial_mask_logits"]


def initial_mask_logits(weight: Tensor, *, initial_sparsity: float, init_logit: float) -> Tensor:
    """ν at the start: -init_logit for the smallest magnitudes, +init_logit for the rest (a soft magnitude-pruning
    mask).

    Args:
        weight: θ̃, any shape.
        initial_sparsity: fraction that starts dropped, in [0, 1].
        init_logit: |ν|.

    Returns:
        float32 tensor of the same shape and device.

    Raises:
        ConfigurationError: if the sparsity is outside [0, 1], or a weight is not a number.

    Example:
        >>> initial_mask_logits(torch.tensor([0.1, -2.0]), initial_sparsity=0.5, init_logit=5.0)
        tensor([-5.,  5.])

    Source: section 3.3 of the paper.
    """
    # float32 whatever the weight's dtype: bfloat16 steps by 0.031 near 5, so smaller updates would vanish.
    logits = torch.full(weight.shape, init_logit, dtype=torch.float32, device=weight.device)
    # Where none is dropped nothing is ranked; a sum shows in one pass whether every weight is a number. Infinities of
    # both signs are none either when added, and are left to the ranking to judge.
    if zeros_at(initial_sparsity, weight.numel()) == 0 and not bool(weight.detach().sum().isnan()):
        return logits
    keep_mask = magnitude_keep_mask(weight, sparsity=initial_sparsity)
    return logits.masked_fill_(keep_mask.logical_not_(), -init_logit)
