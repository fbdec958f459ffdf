"""The entropy models of the library `constriction`, with frequencies that are ours to the last one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import constriction
import numpy as np

__all__ = ["PRECISION", "exact_model"]

PRECISION = 24
"""Frequencies sum to 2^24; fixed by the library's default coder."""


def exact_model(frequencies: Sequence[int]) -> Any:
    """The library's entropy model with just these frequencies.

    Args:
        frequencies: whole numbers of at least 1 that sum to 2^24.

    Returns:
        A model for `constriction.stream.stack.AnsCoder`.
    """
    # The library gives every symbol a frequency of 1 and shares out the rest in proportion, rounding down. Handed
    # frequencies less 1, which sum to just that rest, it scales by exactly 1.0 and rounds nothing (float32 holds every
    # whole number up to 2^24).
    shares = np.array(frequencies, dtype=np.int64) - 1
    return constriction.stream.model.Categorical(shares.astype(np.float32), perfect=False)
