"""Counting zeros, and what they cost to store."""

from __future__ import annotations

import math

from torch import Tensor

from supermask.errors import ConfigurationError

__all__ = ["entropy_bits", "sparsity", "zero_count"]


def zero_count(keep_mask: Tensor) -> int:
    """How many weights a keep mask drops.

    Example:
        >>> import torch
        >>> zero_count(torch.tensor([True, False, True]))
        1
    """
    return keep_mask.numel() - int(keep_mask.count_nonzero())


def sparsity(keep_mask: Tensor) -> float:
    """The fraction of weights that a keep mask drops, in [0, 1]; 0 for an empty mask.

    Example:
        >>> import torch
        >>> sparsity(torch.tensor([True, False, True, True]))
        0.25
    """
    return zero_count(keep_mask) / keep_mask.numel() if keep_mask.numel() else 0.0


def entropy_bits(sparsity: float) -> float:
    """Shannon entropy H(s) of one weight's keep bit when zeros fall at random, in bits per weight.

    H(s) = -s log₂ s - (1 - s) log₂ (1 - s).

    Raises:
        ConfigurationError: if the sparsity is outside [0, 1].

    Example:
        >>> entropy_bits(0.5)
        1.0
        >>> round(entropy_bits(0.01), 4)
        0.0808
    """
    if not 0.0 <= sparsity <= 1.0:
        raise ConfigurationError(f"sparsity is a fraction of zeros in [0, 1], received {sparsity}")
    return -sum(share * math.log2(share) for share in (sparsity, 1.0 - sparsity) if share > 0.0) + 0.0
