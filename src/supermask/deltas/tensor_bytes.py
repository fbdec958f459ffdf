"""The bytes of a tensor: row-major, little-endian, every bit as it is in memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from supermask.errors import DeltaFormatError

__all__ = ["STORED_DTYPES", "as_bits", "as_bytes", "dtype_name", "from_bytes"]

_STORED = "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 int64 int32 int16 int8 uint8"
STORED_DTYPES: Mapping[str, torch.dtype] = MappingProxyType({name: getattr(torch, name) for name in _STORED.split()})
"""What values a delta can store, by name. No booleans: a file could hold bytes that are neither 0 nor 1."""

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype's name without the library's, such as `bfloat16`."""
    return str(dtype).removeprefix("torch.")


def as_bits(tensor: Tensor) -> Tensor:
    """A view of a tensor's memory as integers: copies and zeros are exact for every bit pattern, NaN payloads included.

    Example:
        >>> as_bits(torch.tensor([-0.0]))
        tensor([-2147483648], dtype=torch.int32)
    """
    return tensor.detach().view(_BITS[tensor.element_size()])


def as_bytes(tensor: Tensor) -> memoryview:
    """The bytes of any tensor; a contiguous one on the CPU is not copied. DeltaFormatError on a big-endian machine."""
    _require_little_endian()
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def from_bytes(data: bytes | memoryview, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """A new tensor on the CPU that has these bytes, as many as its shape needs; DeltaFormatError as for `as_bytes`."""
    _require_little_endian()
    if not len(data):
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(dtype).reshape(shape)


def _require_little_endian() -> None:
    if sys.byteorder != "little":
        raise DeltaFormatError("deltas are read and written on little-endian machines only; this one is big-endian")
