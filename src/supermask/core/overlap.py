"""How much two keep masks agree on what to drop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from supermask.core.sparsity import zero_count
from supermask.errors import ConfigurationError

__all__ = ["ZeroOverlap", "zero_overlap"]

# Below, loading the compiled loop takes longer than torch's temporary masks.
_WORTH_COMPILING = 1 << 16


@final
@dataclass(frozen=True)
class ZeroOverlap:
    """Zeros that two masks share.

    Args:
        shared: weights that both masks drop.
        fraction: `shared` over the zeros of the first mask: the share of the first's zeros that the second drops too.
        chance: what `fraction` would be in expectation if the second mask's zeros fell at random: its sparsity.
    """

    shared: int
    fraction: float
    chance: float


def zero_overlap(first_keep_mask: Tensor, second_keep_mask: Tensor) -> ZeroOverlap:
    """Count the zeros of one mask that are zeros of another too, beside the chance level.

    Args:
        first_keep_mask: boolean, any shape.
        second_keep_mask: boolean, same shape.

    Returns:
        The overlap; a first mask without zeros has fraction 0.

    Raises:
        ConfigurationError: if the shapes differ.

    Example:
        >>> zero_overlap(torch.tensor([False, False, True, True]), torch.tensor([False, True, True, True]))
        ZeroOverlap(shared=1, fraction=0.5, chance=0.25)

    Source: Figure 7 of the paper.
    """
    if first_keep_mask.shape != second_keep_mask.shape:
        raise ConfigurationError(
            "overlap needs masks of one shape, received "
            f"{tuple(first_keep_mask.shape)} and {tuple(second_keep_mask.shape)}"
        )
    first_zeros, second_zeros, shared = _count(first_keep_mask, second_keep_mask)
    return ZeroOverlap(
        shared=shared,
        fraction=shared / first_zeros if first_zeros else 0.0,
        chance=second_zeros / first_keep_mask.numel() if first_keep_mask.numel() else 0.0,
    )


def _count(first_keep_mask: Tensor, second_keep_mask: Tensor) -> tuple[int, int, int]:
    """Zeros of the first mask, of the second, and of both."""
    masks = [mask.detach().reshape(-1) for mask in (first_keep_mask, second_keep_mask)]
    compilable = all(mask.device.type == "cpu" and mask.dtype == torch.bool for mask in masks)
    if compilable and masks[0].numel() >= _WORTH_COMPILING:
        from supermask.core.distance_kernels import shared_zeros

        counts: tuple[int, int, int] = shared_zeros(*(mask.view(torch.uint8).numpy() for mask in masks))
        return counts
    kept = masks[0].logical_or(masks[1])
    return zero_count(masks[0]), zero_count(masks[1]), zero_count(kept)
