"""What masks drawn at random show that nobody has learnt: the noise floor, and what it does to overlaps.

An untouched mask logit ν = +5 is dropped by 1 - σ(5) = 0.669 % of draws. Statistics of draws therefore hold zeros that
lie at random; statistics of thresholded masks do not. The functions here say what the floor alone would give.

A delta holds the thresholded mask and no mask logit, so the expected zeros of a draw cannot be had from it; the
record's `sampled_sparsity` has their total. Where a function has to assume where the logits are, it assumes that they
never moved or are far beyond zero, and says so. `init_logit` is the ν that kept weights start with; what should be a
fraction and is none is a `ConfigurationError`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from supermask.analysis.overlap import OverlapCount
from supermask.core import global_magnitude_keep_masks, zero_count
from supermask.errors import ConfigurationError

__all__ = [
    "learnt_sparsity",
    "noise_floor",
    "noise_overlap",
    "sampled_magnitude_overlap",
    "sampled_overlap",
    "sampled_sparsity",
]


def noise_floor(init_logit: float = 5.0) -> float:
    """The fraction of untouched weights that a draw drops: 1 - σ(ν).

    Example:
        >>> round(100 * noise_floor(), 3)
        0.669
    """
    return 1.0 / (1.0 + math.exp(init_logit))


def sampled_sparsity(zeros: float, *, init_logit: float = 5.0, certain: bool = True) -> float:
    """The sparsity of a draw, in expectation, of a mask whose kept weights' logits never moved.

    s = ℓ + (1-ℓ)(1-σ(ν)) where learnt zeros are certain; with the start of a soft magnitude mask, whose zeros stand at
    -ν, s = ℓ σ(ν) + (1-ℓ)(1-σ(ν)). For an initial sparsity of 0 the latter gives 0.67 %, and for 90 % it gives 89.5 %:
    before any training, the ends of the range from 1 % to 89 % that the paper reports.

    Args:
        zeros: thresholded sparsity ℓ, in [0, 1].
        certain: whether learnt zeros are dropped by every draw, or stand at -ν.

    Example:
        >>> round(sampled_sparsity(0.9, certain=False), 4)
        0.8946
    """
    _require_fraction(zeros, "the thresholded sparsity")
    floor = noise_floor(init_logit)
    return zeros * (1.0 if certain else 1.0 - floor) + (1.0 - zeros) * floor


def learnt_sparsity(sampled: float, *, init_logit: float = 5.0) -> float:
    """The thresholded sparsity behind a sampled one, if kept weights' logits never moved and zeros are certain.

    ℓ = (s - f) / (1 - f) with the floor f. An upper bound of what was learnt: logits that have moved towards zero and
    not crossed it raise s, too.

    Args:
        sampled: sparsity of draws, in [0, 1].

    Returns:
        ℓ; 0 below the floor.

    Example:
        >>> [round(100 * learnt_sparsity(percent / 100), 2) for percent in (1.0, 1.3)]  # RTE and MRPC in Table 5
        [0.33, 0.63]
    """
    _require_fraction(sampled, "the sampled sparsity")
    floor = noise_floor(init_logit)
    return max(0.0, (sampled - floor) / (1.0 - floor))


def noise_overlap(sparsity: float, *, init_logit: float = 5.0, smallest_moved: bool) -> float:
    """What fraction of a draw's zeros noise alone puts among the smallest weights, at equal sparsity.

    Magnitude pruning drops the s·n smallest weights, a draw about s·n weights anywhere, and the overlap is what they
    share, over s·n. If no small weight's logit has moved, each is dropped with the floor's probability, so the overlap
    is 1 - σ(ν) = 0.669 % *whatever the sparsity*. If the zeros lay at random over all weights it would be s.

    Args:
        sparsity: of the draw, in [0, 1].
        smallest_moved: whether logits moved without regard to magnitude, small weights' like all others'; else small
            weights' did not move at all.

    Example:
        >>> [round(100 * noise_overlap(0.029, smallest_moved=moved), 1) for moved in (False, True)]  # CoLA in Table 4
        [0.7, 2.9]
    """
    _require_fraction(sparsity, "sparsity")
    return sparsity if smallest_moved else noise_floor(init_logit)


def sampled_magnitude_overlap(
    weights: Mapping[str, Tensor], keep_masks: Mapping[str, Tensor], *, init_logit: float = 5.0
) -> float:
    """The overlap of a draw with global magnitude pruning at the draw's sparsity, if kept logits never moved.

    With floor f, a draw of a mask with z zeros among n weights has m = z + (n-z)·f zeros. Of the m smallest weights it
    drops the z' that the mask drops, and the floor's fraction of the others: (z' + (m-z')·f) / m. Without a learnt zero
    among the smallest weights this is f, 0.669 %.

    Args:
        weights: the base's masked tensors by name.
        keep_masks: thresholded, boolean, by the same names.

    Returns:
        The expected overlap, in [0, 1].

    Example:
        >>> import torch
        >>> weights = {"a": torch.arange(1.0, 10_001.0)}
        >>> untouched = {"a": torch.ones(10_000, dtype=torch.bool)}
        >>> round(100 * sampled_magnitude_overlap(weights, untouched), 3)
        0.669

    Source: the last row of the paper's Table 4, read as a statistic of draws.
    """
    if weights.keys() != keep_masks.keys() or not weights:
        raise ConfigurationError("weights and keep masks must have the same names, and at least one")
    floor = noise_floor(init_logit)
    total = sum(weight.numel() for weight in weights.values())
    zeros = sum(zero_count(keep_mask) for keep_mask in keep_masks.values())
    drawn = sampled_sparsity(zeros / total, init_logit=init_logit)
    smallest = global_magnitude_keep_masks(weights, sparsity=drawn)
    among = sum(zero_count(keep_mask | smallest[name]) for name, keep_mask in keep_masks.items())
    count = sum(zero_count(keep_mask) for keep_mask in smallest.values())
    return (among + (count - among) * floor) / count if count else 0.0


def sampled_overlap(count: OverlapCount, *, init_logit: float = 5.0) -> OverlapCount:
    """What draws of two thresholded masks would share, in expectation, if kept weights' logits never moved.

    Of the weights that both drop every draw shares all; of those that one drops, the floor's fraction f; of all others,
    f². Counts are rounded to whole weights.

    Returns:
        The expected counts of a draw each, beside what chance would give.

    Example:
        >>> nothing = OverlapCount.of_tensor(weights=10**6, first_zeros=0, second_zeros=0, shared=0)
        >>> sampled_overlap(nothing).first_zeros, sampled_overlap(nothing).shared
        (6693, 45)
    """
    floor = noise_floor(init_logit)
    n, a, b, both = count.weights, count.first_zeros, count.second_zeros, count.shared
    one = a + b - 2 * both
    shared = both + one * floor + (n - both - one) * floor * floor
    return OverlapCount.of_tensor(
        weights=n,
        first_zeros=round(a + (n - a) * floor),
        second_zeros=round(b + (n - b) * floor),
        shared=round(shared),
    )


def _require_fraction(value: float, what: str) -> None:
    if not 0.0 <= value <= 1.0:
        raise ConfigurationError(f"{what} is a fraction of weights in [0, 1], received {value}")
