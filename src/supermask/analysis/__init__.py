"""What changed, and where: numbers of deltas and checkpoints, no pictures."""

from __future__ import annotations

from supermask.analysis.delta_overlap import DeltaOverlap, TensorOverlap, ValueDistance, delta_overlap
from supermask.analysis.distances import (
    DistanceRange,
    TensorDistance,
    change_distance,
    delta_distances,
    distances,
    iterate_distances,
    summarise_distances,
    tensor_distance,
)
from supermask.analysis.drift import SparsityDrift, SparsityPoint, sparsity_drift
from supermask.analysis.magnitudes import (
    MAGNITUDE_BINS,
    MagnitudePruning,
    Magnitudes,
    compare_with_magnitude_pruning,
    magnitudes,
)
from supermask.analysis.noise import (
    learnt_sparsity,
    noise_floor,
    noise_overlap,
    sampled_magnitude_overlap,
    sampled_overlap,
    sampled_sparsity,
)
from supermask.analysis.overlap import OverlapCount, count_overlap
from supermask.analysis.random_initialisation import (
    PAPER_NORMAL,
    PAPER_UNIFORM,
    ExpectedDistances,
    RandomLaw,
    SampledDistances,
    expected_distances,
    normal_law,
    sampled_distances,
    truncated_normal_law,
    uniform_law,
)
from supermask.analysis.significance import Significance, overlap_significance
from supermask.analysis.zeros import ZeroCount, ZerosTable, zeros_by_place

__all__ = [
    "MAGNITUDE_BINS",
    "PAPER_NORMAL",
    "PAPER_UNIFORM",
    "DeltaOverlap",
    "DistanceRange",
    "ExpectedDistances",
    "MagnitudePruning",
    "Magnitudes",
    "OverlapCount",
    "RandomLaw",
    "SampledDistances",
    "Significance",
    "SparsityDrift",
    "SparsityPoint",
    "TensorDistance",
    "TensorOverlap",
    "ValueDistance",
    "ZeroCount",
    "ZerosTable",
    "change_distance",
    "compare_with_magnitude_pruning",
    "count_overlap",
    "delta_distances",
    "delta_overlap",
    "distances",
    "expected_distances",
    "iterate_distances",
    "learnt_sparsity",
    "magnitudes",
    "noise_floor",
    "noise_overlap",
    "normal_law",
    "overlap_significance",
    "sampled_distances",
    "sampled_magnitude_overlap",
    "sampled_overlap",
    "sampled_sparsity",
    "sparsity_drift",
    "summarise_distances",
    "tensor_distance",
    "truncated_normal_law",
    "uniform_law",
    "zeros_by_place",
]
