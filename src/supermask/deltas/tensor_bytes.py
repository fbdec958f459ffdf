"""The bytes of a tensor: row-major, little-endian, every bit as it is in memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from supermask.errors import DeltaFormatError

__all__ = ["STORED_DTYPES", "as_bits", "as_bytes", "dtype_name", "from_bytes", "overlaps_itself", "sharing_memory"]

STORED_DTYPES: Mapping[str, tuple[torch.dtype, str]] = MappingProxyType(
    {
        "float64": (torch.float64, "F64"),
        "float32": (torch.float32, "F32"),
        "float16": (torch.float16, "F16"),
        "bfloat16": (torch.bfloat16, "BF16"),
        "float8_e4m3fn": (torch.float8_e4m3fn, "F8_E4M3"),
        "float8_e5m2": (torch.float8_e5m2, "F8_E5M2"),
        "int64": (torch.int64, "I64"),
        "int32": (torch.int32, "I32"),
        "int16": (torch.int16, "I16"),
        "int8": (torch.int8, "I8"),
        "uint8": (torch.uint8, "U8"),
    }
)
"""What values a delta can store: the dtype's name in torch, the dtype, and its tag in safetensors.

Booleans are left out on purpose: a file could hold bytes that are neither 0 nor 1.
"""

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype's name without the library's.

    Example:
        >>> dtype_name(torch.bfloat16)
        'bfloat16'
    """
    return str(dtype).removeprefix("torch.")


def as_bits(tensor: Tensor) -> Tensor:
    """The same memory as integers, so that copies and zeros are exact for every bit pattern, NaN payloads included.

    Args:
        tensor: any shape and strides, elements of 1, 2, 4 or 8 bytes.

    Returns:
        A view of the tensor that has no gradient, same shape.

    Example:
        >>> as_bits(torch.tensor([-0.0]))
        tensor([-2147483648], dtype=torch.int32)
    """
    return tensor.detach().view(_BITS[tensor.element_size()])


def as_bytes(tensor: Tensor) -> memoryview:
    """A tensor's bytes; no copy is made of a contiguous tensor on the CPU.

    Args:
        tensor: any shape, dtype, strides and device.

    Returns:
        `numel * element_size` bytes, which live as long as the view does.

    Raises:
        DeltaFormatError: on a big-endian machine, where the bytes in memory are not those of the format.

    Example:
        >>> bytes(as_bytes(torch.tensor([1, 258], dtype=torch.int16)))
        b'\\x01\\x00\\x02\\x01'
    """
    _require_little_endian()
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def from_bytes(data: bytes | memoryview, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """The tensor that has these bytes; a copy, so the bytes may go away.

    Args:
        data: exactly as many bytes as the shape needs.
        dtype: of the result.
        shape: of the result.

    Returns:
        A tensor on the CPU.

    Raises:
        DeltaFormatError: on a big-endian machine.

    Example:
        >>> from_bytes(b"\\x01\\x00\\x02\\x01", torch.int16, (2,))
        tensor([  1, 258], dtype=torch.int16)
    """
    _require_little_endian()
    if not len(data):
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(dtype).reshape(shape)


def overlaps_itself(tensor: Tensor) -> bool:
    """Whether elements of a tensor may share memory with each other, as those of an expanded one do.

    Example:
        >>> overlaps_itself(torch.zeros(2, 1).expand(2, 3)), overlaps_itself(torch.zeros(2, 3).t())
        (True, False)
    """
    reached = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride <= reached:
                return True
            reached += stride * (size - 1)
    return False


def sharing_memory(tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """The names of two tensors that have bytes in common, if there are two.

    Args:
        tensors: by name; none overlaps itself.

    Example:
        >>> whole = torch.zeros(4, 4)
        >>> sharing_memory({"left": whole[:, :2], "right": whole[:, 2:]})
        >>> sharing_memory({"left": whole[:, :2], "top": whole[:1]})
        ('left', 'top')
    """
    spans = sorted((str(tensor.device), *_span(tensor), name) for name, tensor in tensors.items() if tensor.numel())
    groups: list[list[str]] = []
    reached = ("", 0)
    for device, start, end, name in spans:
        if device == reached[0] and start < reached[1]:
            groups[-1].append(name)
            reached = (device, max(end, reached[1]))
        else:
            groups.append([name])
            reached = (device, end)
    pairs = (_sharing_bytes({name: tensors[name] for name in tensors if name in group}) for group in groups)
    return next(filter(None, pairs), None)


def _sharing_bytes(tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """The same for tensors whose stretches of memory meet: their columns may still lie side by side."""
    if len(tensors) < 2:
        return None
    names, spans = list(tensors), [_span(tensor) for tensor in tensors.values()]
    first = min(start for start, _ in spans)
    owners = torch.zeros(max(end for _, end in spans) - first, dtype=torch.int32)
    for number, (tensor, (start, _)) in enumerate(zip(tensors.values(), spans, strict=True), start=1):
        size = tensor.element_size()
        taken = owners.as_strided((*tensor.shape, size), (*(size * s for s in tensor.stride()), 1), start - first)
        if other := int(taken.max()):
            return names[other - 1], names[number - 1]
        taken.fill_(number)
    return None


def _span(tensor: Tensor) -> tuple[int, int]:
    start, itemsize = tensor.data_ptr(), tensor.element_size()
    last = sum(stride * (size - 1) for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
    return start, start + (last + 1) * itemsize


def _require_little_endian() -> None:
    if sys.byteorder != "little":
        raise DeltaFormatError("deltas are read and written on little-endian machines only; this one is big-endian")
