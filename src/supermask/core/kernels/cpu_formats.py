"""Compiled loops between float32 and the other formats that weights and gradients have, a block at a time.

Widening is exact; narrowing rounds to nearest, ties to even, as `Tensor.to` does. In whole numbers, because not every
processor has instructions for these formats, and LLVM makes vector instructions of this.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numba.np.numpy_support import carray

from supermask.core.kernels.compiled import compiled
from supermask.core.kernels.instructions import bits_of, choose, float_of, pointer_at

__all__ = ["FLOAT32", "FORMATS", "as_float32", "width_of", "write_kept"]

FLOAT32, BFLOAT16, FLOAT16, FLOAT64 = 0, 1, 2, 3

FORMATS: Final = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.float16: FLOAT16, torch.float64: FLOAT64}
"""What tasks call the dtypes."""

_SIXTEEN, _THIRTEEN, _ONE = np.uint32(16), np.uint32(13), np.uint32(1)
_MAGNITUDE, _INFINITE = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)
_NONE = np.uint32(0)

# bfloat16 is the upper half of float32.
_BELOW_HALF, _BFLOAT16_NAN = np.uint32(0x7FFF), np.uint32(0x7FC0)

# float16 has 5 bits of exponent and 10 of mantissa: 1 sits at 15 << 10, where float32 has it at 127 << 23.
_SIGN16, _REST16 = np.uint32(0x8000), np.uint32(0x7FFF)
_HIGHEST16 = np.uint32(0x7C00 << 13)  # its exponent of infinity, where float32 has the mantissa
_REBIAS, _REBIAS_HIGHEST = np.uint32((127 - 15) << 23), np.uint32((128 - 16) << 23)
_SMALLEST16 = np.uint32((127 - 14) << 23)  # the smallest normal float16, as float32
_TOO_LARGE16 = np.uint32((127 + 16) << 23)
_INFINITE16, _NAN16 = np.uint32(0x7C00), np.uint32(0x7E00)
_LAST_SUBNORMAL = np.uint32((127 - 15 + 23 - 10 + 1) << 23)  # adding it leaves the bits that a subnormal float16 has
_TO_FLOAT16 = np.uint32(((15 - 127) << 23 & 0xFFFFFFFF) + 0xFFF)


@compiled
def width_of(kind: Any) -> Any:
    """Bytes of one number of a format."""
    return 4 if kind == FLOAT32 else 8 if kind == FLOAT64 else 2


@compiled
def _from_bfloat16(source: Any, wide: Any) -> None:
    for j in range(wide.size):
        wide[j] = np.uint32(np.uint32(source[j]) << _SIXTEEN)


@compiled
def _from_float16(source: Any, wide: Any) -> None:
    for j in range(wide.size):
        half = np.uint32(source[j])
        shifted = np.uint32(np.uint32(half & _REST16) << _THIRTEEN)
        exponent = np.uint32(shifted & _HIGHEST16)
        normal = np.uint32(shifted + _REBIAS)
        highest = np.uint32(normal + _REBIAS_HIGHEST)
        # A subnormal is a whole number of steps: put 1 bit in front of it, and take that away again.
        subnormal = bits_of(float_of(np.uint32(shifted + _SMALLEST16)) - float_of(_SMALLEST16))
        value = choose(exponent == _HIGHEST16, highest, choose(exponent == _NONE, subnormal, normal))
        wide[j] = np.uint32(value | np.uint32(np.uint32(half & _SIGN16) << _SIXTEEN))


@compiled
def _from_float64(source: Any, wide: Any) -> None:
    for j in range(wide.size):
        wide[j] = bits_of(np.float32(source[j]))


@compiled
def as_float32(kind: Any, address: Any, begin: Any, size: Any, room_at: Any) -> Any:
    """Where the block that begins there lies as float32: in its place if that is what it is, else in the room."""
    if kind == FLOAT32:
        return address + 4 * begin
    wide = carray(pointer_at(room_at), size, np.uint32)
    if kind == FLOAT64:
        _from_float64(carray(pointer_at(address + 8 * begin), size, np.float64), wide)
    elif kind == BFLOAT16:
        _from_bfloat16(carray(pointer_at(address + 2 * begin), size, np.uint16), wide)
    else:
        _from_float16(carray(pointer_at(address + 2 * begin), size, np.uint16), wide)
    return room_at


@compiled
def _select_bits(source: Any, keep: Any, out: Any) -> None:
    zero = source.dtype.type(0)
    for j in range(out.size):
        out[j] = choose(keep[j] != _NONE, source[j], zero)


@compiled
def _to_bfloat16(wide: Any, keep: Any, out: Any) -> None:
    for j in range(out.size):
        bits = np.uint32(wide[j] & keep[j])
        odd = np.uint32(np.uint32(bits >> _SIXTEEN) & _ONE)
        rounded = np.uint32(np.uint32(np.uint32(bits + _BELOW_HALF) + odd) >> _SIXTEEN)
        out[j] = np.uint16(choose(np.uint32(bits & _MAGNITUDE) > _INFINITE, _BFLOAT16_NAN, rounded))


@compiled
def _to_float16(wide: Any, keep: Any, out: Any) -> None:
    for j in range(out.size):
        bits = np.uint32(wide[j] & keep[j])
        magnitude = np.uint32(bits & _MAGNITUDE)
        odd = np.uint32(np.uint32(magnitude >> _THIRTEEN) & _ONE)
        normal = np.uint32(np.uint32(np.uint32(magnitude + _TO_FLOAT16) + odd) >> _THIRTEEN)
        subnormal = np.uint32(bits_of(float_of(magnitude) + float_of(_LAST_SUBNORMAL)) - _LAST_SUBNORMAL)
        value = choose(magnitude < _SMALLEST16, subnormal, normal)
        too_large = choose(magnitude > _INFINITE, _NAN16, _INFINITE16)
        value = choose(magnitude >= _TOO_LARGE16, too_large, value)
        out[j] = np.uint16(value | np.uint32(np.uint32(bits >> _SIXTEEN) & _SIGN16))


@compiled
def _to_float64(wide: Any, keep: Any, out: Any) -> None:
    for j in range(out.size):
        out[j] = np.float64(float_of(np.uint32(wide[j] & keep[j])))


@compiled
def write_kept(
    kind: Any, address: Any, to_kind: Any, to_address: Any, begin: Any, size: Any, keep: Any, room_at: Any
) -> None:
    """Write a block of the first tensor to the second, in its format; +0 where `keep` is 0."""
    if kind == to_kind:
        width = width_of(kind)
        source_at, out_at = address + width * begin, to_address + width * begin
        if width == 4:
            _select_bits(
                carray(pointer_at(source_at), size, np.uint32), keep, carray(pointer_at(out_at), size, np.uint32)
            )
        elif width == 2:
            _select_bits(
                carray(pointer_at(source_at), size, np.uint16), keep, carray(pointer_at(out_at), size, np.uint16)
            )
        else:
            _select_bits(
                carray(pointer_at(source_at), size, np.uint64), keep, carray(pointer_at(out_at), size, np.uint64)
            )
        return
    wide = carray(pointer_at(as_float32(kind, address, begin, size, room_at)), size, np.uint32)
    if to_kind == BFLOAT16:
        _to_bfloat16(wide, keep, carray(pointer_at(to_address + 2 * begin), size, np.uint16))
    elif to_kind == FLOAT16:
        _to_float16(wide, keep, carray(pointer_at(to_address + 2 * begin), size, np.uint16))
    elif to_kind == FLOAT64:
        _to_float64(wide, keep, carray(pointer_at(to_address + 8 * begin), size, np.float64))
    else:
        _select_bits(wide, keep, carray(pointer_at(to_address + 4 * begin), size, np.uint32))
