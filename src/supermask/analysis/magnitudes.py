"""How large, in the base, the weights are that a mask drops: beside all weights, and beside magnitude pruning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, final

import torch
from torch import Tensor

from supermask.configuration import Configuration
from supermask.core import global_magnitude_keep_masks, magnitude_keep_mask, zero_count
from supermask.errors import ConfigurationError

__all__ = ["MAGNITUDE_BINS", "MagnitudePruning", "Magnitudes", "compare_with_magnitude_pruning", "magnitudes"]

_OCTAVES = range(-20, 4)

MAGNITUDE_BINS: tuple[float, ...] = (
    *(2.0**octave * (1 + quarter / 4) for octave in _OCTAVES for quarter in range(4)),
    2.0**_OCTAVES.stop,
)
"""The 97 edges of the histograms' bins, four equal ones in each octave from 2⁻²⁰ (about 1e-6) to 16: about 13 a decade.

Below the first edge and from the last edge on there is a bin each, so a histogram has 98 counts: counts[i] of
magnitudes from edge i-1, included, to edge i.
"""

# Four bins an octave are the exponent and the first two bits of the mantissa of a float32.
_BIN_SHIFT = 21
_FIRST_BIN = ((127 + _OCTAVES.start) << 2) - 1


@final
class Magnitudes(Configuration):
    """Magnitudes |θ̃| of some weights of a base.

    Args:
        weights: how many.
        max: the largest; 0 if there are none.
        mean: of all of them; 0 if there are none.
        histogram: how many in each bin of `MAGNITUDE_BINS`.
    """

    weights: int
    max: float
    mean: float
    histogram: tuple[int, ...]


@final
class MagnitudePruning(Configuration):
    """One-shot magnitude pruning of a base at a mask's own number of zeros, beside that mask.

    Args:
        scope: whether all tensors are ranked together (`global`), or each at its own number of zeros (`tensor`).
        pruned: magnitudes of what it drops.
        shared: weights that both drop.
    """

    scope: Literal["global", "tensor"]
    pruned: Magnitudes
    shared: int

    @property
    def overlap(self) -> float | None:
        """The fraction of the mask's zeros that are among the smallest weights, in [0, 1]; None without zeros.

        If the zeros lay at random it would be the sparsity, in expectation.
        """
        return self.shared / self.pruned.weights if self.pruned.weights else None


def magnitudes(weights: Iterable[Tensor]) -> Magnitudes:
    """Summarise the magnitudes of weights of any shapes: sums are taken in float64, bins in float32.

    Raises:
        ConfigurationError: if a weight is not finite.

    Example:
        >>> found = magnitudes([torch.tensor([0.5, -1.5]), torch.tensor([1.0])])
        >>> found.weights, found.max, found.mean, sum(found.histogram)
        (3, 1.5, 1.0, 3)

    Source: Table 4 and Figure 5 of the paper.
    """
    count, largest, total = 0, 0.0, 0.0
    histogram = torch.zeros(len(MAGNITUDE_BINS) + 1, dtype=torch.int64)
    for tensor in weights:
        size = _magnitude(tensor).reshape(-1)
        if not size.numel():
            continue
        count += size.numel()
        largest = max(largest, float(size.max()))
        total += float(size.sum(dtype=torch.float64))
        bins = (size.float().view(torch.int32) >> _BIN_SHIFT).sub_(_FIRST_BIN).clamp_(0, len(MAGNITUDE_BINS))
        histogram += torch.bincount(bins, minlength=len(histogram)).cpu()
    if not math.isfinite(total):
        raise ConfigurationError("a weight is not finite, so magnitudes cannot be summed; check the base's tensors")
    return Magnitudes(
        weights=count, max=largest, mean=total / count if count else 0.0, histogram=tuple(histogram.tolist())
    )


def compare_with_magnitude_pruning(
    weights: Mapping[str, Tensor], keep_masks: Mapping[str, Tensor], *, scope: Literal["global", "tensor"] = "global"
) -> MagnitudePruning:
    """Prune the base once by magnitude to as many zeros as a mask has, and count the zeros that both have.

    The paper compares "at the same final sparsity" and does not say whether it ranks all layers together. Its Table 4
    prints one largest pruned magnitude a task, as a global threshold gives; `scope="tensor"` ranks each tensor at the
    number of zeros that the mask has there, so that only the places within tensors are compared.

    Args:
        weights: the base's masked tensors by name.
        keep_masks: boolean, by the same names.
        scope: what is ranked together.

    Returns:
        What magnitude pruning drops, and how much of that the mask drops, too.

    Raises:
        ConfigurationError: if the names or shapes differ, or a weight is not a number.

    Example:
        >>> weights = {"a": torch.tensor([0.1, 0.2, 0.3, 0.4])}
        >>> found = compare_with_magnitude_pruning(weights, {"a": torch.tensor([False, True, True, False])})
        >>> found.shared, found.overlap, round(found.pruned.max, 3)
        (1, 0.5, 0.2)

    Source: Table 4 and Figure 5 of the paper.
    """
    if weights.keys() != keep_masks.keys():
        odd = sorted(weights.keys() ^ keep_masks.keys())
        raise ConfigurationError(f"each weight needs a keep mask and each keep mask a weight; without: {odd[0]}")
    for name, weight in weights.items():
        if weight.shape != keep_masks[name].shape:
            raise ConfigurationError(
                f"{name}: the weight has shape {tuple(weight.shape)} and its keep mask {tuple(keep_masks[name].shape)}"
            )
    zeros = {name: zero_count(keep_mask) for name, keep_mask in keep_masks.items()}
    total = sum(weight.numel() for weight in weights.values())
    if scope == "global":
        smallest = global_magnitude_keep_masks(weights, sparsity=sum(zeros.values()) / total if total else 0.0)
    else:
        smallest = {
            name: magnitude_keep_mask(weight, sparsity=zeros[name] / weight.numel() if weight.numel() else 0.0)
            for name, weight in weights.items()
        }
    dropped = {name: keep_mask.logical_not() for name, keep_mask in smallest.items()}
    shared = sum(int((dropped[name] > keep_mask).count_nonzero()) for name, keep_mask in keep_masks.items())
    return MagnitudePruning(
        scope=scope,
        pruned=magnitudes(weight.detach()[dropped[name]] for name, weight in weights.items()),
        shared=shared,
    )


def _magnitude(weight: Tensor) -> Tensor:
    weight = weight.detach()
    return (weight if weight.dtype in (torch.float32, torch.float64) else weight.float()).abs()
