"""How much two keep masks agree on what to drop."""

from __future__ import annotations

import torch
from torch import Tensor

from supermask.core.sparsity import zero_count
from supermask.errors import ConfigurationError

__all__ = ["count_zeros"]

# Below, loading the compiled loop takes longer than torch's temporary masks.
_WORTH_COMPILING = 1 << 16


def count_zeros(first_keep_mask: Tensor, second_keep_mask: Tensor) -> tuple[int, int, int]:
    """Count what the first of two masks drops, what the second drops, and what both drop, in one pass over memory.

    Args:
        first_keep_mask: boolean, any shape.
        second_keep_mask: boolean, same shape.

    Raises:
        ConfigurationError: if the shapes differ.

    Example:
        >>> count_zeros(torch.tensor([False, False, True, True]), torch.tensor([False, True, True, True]))
        (2, 1, 1)

    Source: Figure 7 of the paper.
    """
    if first_keep_mask.shape != second_keep_mask.shape:
        raise ConfigurationError(
            "overlap needs masks of one shape, received "
            f"{tuple(first_keep_mask.shape)} and {tuple(second_keep_mask.shape)}"
        )
    masks = [mask.detach().reshape(-1) for mask in (first_keep_mask, second_keep_mask)]
    compilable = all(mask.device.type == "cpu" and mask.dtype == torch.bool for mask in masks)
    if compilable and masks[0].numel() >= _WORTH_COMPILING:
        from supermask.core.distance_kernels import shared_zeros

        counts: tuple[int, int, int] = shared_zeros(*(mask.view(torch.uint8).numpy() for mask in masks))
        return counts
    kept = masks[0].logical_or(masks[1])
    return zero_count(masks[0]), zero_count(masks[1]), zero_count(kept)
