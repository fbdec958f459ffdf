"""What changed, and where: numbers of deltas and checkpoints, no pictures."""

from __future__ import annotations

from supermask.analysis.zeros import ZeroCount, ZerosTable, zeros_by_place

__all__ = ["ZeroCount", "ZerosTable", "zeros_by_place"]
