"""Counting zeros, and what they cost to store."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from supermask.errors import ConfigurationError

__all__ = ["count_zeros", "entropy_bits", "sparsity", "zero_count", "zeros_of_logits"]

# 4 MiB of float32: as fast as one piece a tensor, and a large embedding needs no second tensor of its size.
_CHUNK = 1 << 20
# Below, loading the compiled loop takes longer than torch's temporary masks.
_WORTH_COMPILING = 1 << 16


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


@torch.no_grad()
def zeros_of_logits(mask_logits: Iterable[Tensor]) -> tuple[int, float]:
    """How many weights the thresholded mask drops, and how many a draw drops in expectation, Σ (1 - σ(ν)).

    Example:
        >>> zeros_of_logits([torch.tensor([0.0, 2.0]), torch.zeros(1, 2)])
        (3, 1.6192029...)
    """
    sums: dict[torch.device, tuple[Tensor, Tensor]] = {}  # on the devices, so that each is waited for once
    weights = 0
    for tensor in mask_logits:
        weights += tensor.numel()
        for piece in torch.split(tensor.detach().reshape(-1), _CHUNK):
            kept, expected = piece.gt(0).count_nonzero(), piece.neg().sigmoid_().sum(dtype=torch.float64)
            before = sums.get(piece.device)
            sums[piece.device] = (kept, expected) if before is None else (before[0] + kept, before[1] + expected)
    kept_weights = sum(int(kept) for kept, _ in sums.values())
    return weights - kept_weights, sum((float(expected) for _, expected in sums.values()), 0.0)
