"""The lossy form of values: rounded to what 16 bits can hold, only for those who ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from supermask.deltas.tensor_bytes import dtype_name
from supermask.errors import ConfigurationError

__all__ = ["SixteenBits", "round_to_16_bits"]

SixteenBits: TypeAlias = Literal["bfloat16", "float16"]
"""Which 16 bits: bfloat16 has float32's range, float16 has 3 bits more precision."""

# Significant bits, the exponent of the smallest step, and the largest value.
_FORMS: Mapping[str, tuple[int, int, float]] = MappingProxyType(
    {
        "bfloat16": (8, -133, torch.finfo(torch.bfloat16).max),
        "float16": (11, -24, torch.finfo(torch.float16).max),
    }
)

_BLOCK = 1 << 18  # values at a time: the working set stays small beside the tensor


def round_to_16_bits(values: Tensor, kind: SixteenBits = "bfloat16") -> Tensor:
    """Round values to what 16 bits can hold, and keep the dtype that they had.

    Rounded to nearest, ties to even, and once. With p = 8 significant bits for bfloat16 and 11 for float16, a value x
    becomes x (1 + ε), |ε| ≤ 2^-p (0.4 % and 0.05 %), from the smallest normal value on (2^-126 and 2^-14); below it,
    it is off by at most 2^-134 and 2^-25. Infinities and signed zeros stay; every NaN becomes the positive quiet one.

    The result's low bits are zero, so it codes small, and applying it is unambiguous. Nothing is lost by coding it as
    `rounded.to(torch.bfloat16)`, and that against the base, rounded and converted likewise, is smaller still.

    Args:
        values: float32 or float64, any shape.
        kind: which 16 bits.

    Returns:
        A new tensor of the same shape, dtype and device.

    Raises:
        ConfigurationError: for other dtypes and kinds, and if a finite value would become infinite.

    Example:
        >>> round_to_16_bits(torch.tensor([3.14159, 1e-3])).tolist()
        [3.140625, 0.00099945068359375]
        >>> round_to_16_bits(torch.tensor([3.14159, 1e-3]), kind="float16").tolist()
        [3.140625, 0.0010004043579101562]
    """
    if kind not in _FORMS:
        raise ConfigurationError(f"{kind!r} is no 16-bit form; choose one of {', '.join(_FORMS)}")
    if values.dtype not in (torch.float32, torch.float64):
        raise ConfigurationError(f"rounding to 16 bits is for float32 and float64 values, received {values.dtype}")
    precision, smallest, largest = _FORMS[kind]
    flat = values.detach().reshape(-1)
    result = torch.empty(flat.shape, dtype=values.dtype)
    for start in range(0, flat.numel(), _BLOCK):
        # In float64 each line is exact, but for the rounding itself and values that are refused.
        exact = flat[start : start + _BLOCK].cpu().double().numpy()
        with np.errstate(all="ignore"):
            step = np.maximum(np.frexp(exact)[1] - precision, smallest)
            rounded = np.ldexp(np.rint(np.ldexp(exact, -step)), step)
        beyond = np.isfinite(exact) & (np.abs(rounded) > largest)
        if beyond.any():
            remedy = "round to bfloat16 or keep" if kind == "float16" else "keep"
            raise ConfigurationError(
                f"{exact[beyond][0]} is beyond {kind}'s largest value {largest}: {remedy} {dtype_name(values.dtype)}"
            )
        rounded[np.isnan(exact)] = np.nan
        result[start : start + _BLOCK] = torch.from_numpy(rounded)
    return result.reshape(values.shape).to(values.device)
