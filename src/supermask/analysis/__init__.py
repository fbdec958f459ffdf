"""What changed, and where: numbers of deltas and checkpoints, no pictures."""

from __future__ import annotations

from supermask.analysis.delta_overlap import (
    DeltaOverlap,
    OverlapCount,
    TensorOverlap,
    ValueDistance,
    count_overlap,
    delta_overlap,
)
from supermask.analysis.zeros import ZeroCount, ZerosTable, zeros_by_place

__all__ = [
    "DeltaOverlap",
    "OverlapCount",
    "TensorOverlap",
    "ValueDistance",
    "ZeroCount",
    "ZerosTable",
    "count_overlap",
    "delta_overlap",
    "zeros_by_place",
]
