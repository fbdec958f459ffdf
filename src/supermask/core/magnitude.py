"""Ranking weights by magnitude: which ones a keep mask of a given sparsity drops."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from supermask.errors import ConfigurationError

__all__ = ["global_magnitude_keep_masks", "magnitude_keep_mask", "zeros_at"]

_WORTH_A_HISTOGRAM = 1 << 16


def zeros_at(sparsity: float, weights: int) -> int:
    """How many of `weights` weights are zero at `sparsity`: the nearest whole number, halves upwards.

    Example:
        >>> zeros_at(0.5, 5)
        3

    Raises:
        ConfigurationError: if the sparsity is outside [0, 1].
    """
    if not 0.0 <= sparsity <= 1.0:
        raise ConfigurationError(f"sparsity is a fraction of zeros in [0, 1], received {sparsity}")
    return min(weights, int(sparsity * weights + 0.5))


def magnitude_keep_mask(weight: Tensor, *, sparsity: float) -> Tensor:
    """Drop the smallest magnitudes: a keep mask with exactly `zeros_at(sparsity, n)` zeros.

    Ties are broken by index, lower index dropped first, so the count is exact whatever the weights are: a threshold
    alone would miss it (half a quantised tensor may share one magnitude).

    Args:
        weight: any shape, floating point.
        sparsity: wanted fraction of zeros, in [0, 1].

    Returns:
        Boolean tensor of the same shape and device, True = survives.

    Raises:
        ConfigurationError: if the sparsity is outside [0, 1], or a weight is not a number.

    Example:
        >>> magnitude_keep_mask(torch.tensor([0.3, -0.1, 0.2, -0.4]), sparsity=0.5)
        tensor([ True, False, False,  True])

    Source: section 3.3 of the paper ("Pruning is based on weight magnitudes in each layer").
    """
    # float32 holds every half and bfloat16 exactly; float64 weights keep their own resolution.
    flat = weight.detach().reshape(-1)
    magnitude = (flat if flat.dtype == torch.float64 else flat.float()).abs()
    zeros = zeros_at(sparsity, magnitude.numel())
    if bool(magnitude.isnan().any()):
        raise ConfigurationError("a weight is not a number, so magnitudes cannot be ranked; check the base's tensors")
    if zeros == 0:
        return torch.ones(weight.shape, dtype=torch.bool, device=weight.device)
    threshold = _kth_smallest(magnitude, zeros)
    keep_mask = magnitude > threshold
    tied = (magnitude == threshold).nonzero().reshape(-1)
    kept_ties = magnitude.numel() - zeros - int(keep_mask.sum())
    keep_mask[tied[tied.numel() - kept_ties :]] = True
    return keep_mask.reshape(weight.shape)


def global_magnitude_keep_masks(weights: Mapping[str, Tensor], *, sparsity: float) -> dict[str, Tensor]:
    """Drop the smallest magnitudes of all tensors together: one threshold for the whole model.

    Args:
        weights: tensors by name; ties are broken in this order, then by index.
        sparsity: wanted fraction of zeros among all of them, in [0, 1].

    Returns:
        A boolean tensor for each name, True = survives; together they hold exactly `zeros_at(sparsity, total)` zeros.

    Raises:
        ConfigurationError: as `magnitude_keep_mask`.

    Example:
        >>> weights = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([9.0, 8.0])}
        >>> masks = global_magnitude_keep_masks(weights, sparsity=0.5)
        >>> masks["a"].tolist(), masks["b"].tolist()
        ([False, False], [True, True])
    """
    if not weights:
        return {}
    joint = magnitude_keep_mask(
        torch.cat([weight.detach().reshape(-1) for weight in weights.values()]), sparsity=sparsity
    )
    pieces = torch.split(joint, [weight.numel() for weight in weights.values()])
    return {name: piece.reshape(weights[name].shape) for name, piece in zip(weights, pieces, strict=True)}


def _kth_smallest(magnitude: Tensor, k: int) -> Tensor:
    """The k-th smallest of numbers that are not negative.

    These are ordered as the bits of their floats are, so a histogram of the upper half of the bits says where it is,
    and only the few numbers there are ranked: three times as fast as ranking all of them.
    """
    if magnitude.dtype != torch.float32 or magnitude.numel() < _WORTH_A_HISTOGRAM:
        return magnitude.kthvalue(k).values
    bits = magnitude.view(torch.int32)
    upper = bits >> 16
    up_to = torch.bincount(upper, minlength=1 << 15).cumsum(0)
    place = int(torch.searchsorted(up_to, k))
    before = int(up_to[place - 1]) if place else 0
    return bits[upper == place].kthvalue(k - before).values.view(torch.float32)
