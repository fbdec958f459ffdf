"""What a mask is: pure functions on tensors. No files, no network, no transformers."""

from __future__ import annotations

from supermask.core.bernoulli import DrawKey, sample_keep_mask, threshold_keep_mask
from supermask.core.distance import angular_distance, l0_distance, l1_distance
from supermask.core.magnitude import global_magnitude_keep_masks, magnitude_keep_mask
from supermask.core.schedule import cubic_sparsity
from supermask.core.sparsity import count_zeros, entropy_bits, sparsity, zero_count
from supermask.core.straight_through import masked_weight

__all__ = [
    "DrawKey",
    "angular_distance",
    "count_zeros",
    "cubic_sparsity",
    "entropy_bits",
    "global_magnitude_keep_masks",
    "l0_distance",
    "l1_distance",
    "magnitude_keep_mask",
    "masked_weight",
    "sample_keep_mask",
    "sparsity",
    "threshold_keep_mask",
    "zero_count",
]
