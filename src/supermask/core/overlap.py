"""How much two keep masks agree on what to drop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from supermask.core.sparsity import sparsity, zero_count
from supermask.errors import ConfigurationError

__all__ = ["ZeroOverlap", "zero_overlap"]


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
        >>> import torch
        >>> zero_overlap(torch.tensor([False, False, True, True]), torch.tensor([False, True, True, True]))
        ZeroOverlap(shared=1, fraction=0.5, chance=0.25)

    Source: Figure 7 of the paper.
    """
    if first_keep_mask.shape != second_keep_mask.shape:
        raise ConfigurationError(
            "overlap needs masks of one shape, received "
            f"{tuple(first_keep_mask.shape)} and {tuple(second_keep_mask.shape)}"
        )
    shared = int((~first_keep_mask & ~second_keep_mask).count_nonzero())
    zeros = zero_count(first_keep_mask)
    return ZeroOverlap(shared=shared, fraction=shared / zeros if zeros else 0.0, chance=sparsity(second_keep_mask))
