"""Where a mask's zeros are likely: a class for each weight, from few numbers that the payload holds.

For weight w in row i and column j the logarithm of the odds that it is dropped is, in half octaves,

    x_ij = offset + row_i + column_j + magnitude[ leading bits of |w| ]

Rows and columns differ in density, and small weights, or large ones, are dropped more often.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np
import numpy.typing as npt
from torch import Tensor

from supermask.deltas.coding.symbols import COINS, RATES, Run, SymbolReader, SymbolWriter, rate_of
from supermask.deltas.tensor_bytes import as_bits, dtype_name
from supermask.errors import DeltaFormatError

__all__ = [
    "CLASSES",
    "MAGNITUDES",
    "MAX_STEP",
    "MIDDLE",
    "OFFSETS",
    "BaseBits",
    "MaskModel",
    "as_matrix",
    "base_bits",
    "mask_needs_base",
    "read_model",
    "sort_weights",
    "write_model",
]

Steps: TypeAlias = npt.NDArray[np.int16]

CLASSES = 64
MIDDLE = 40
"""Weights of class c are dropped with odds of about 2^((c - MIDDLE)/2); from MIDDLE on, those that stay are coded."""
MAX_STEP = 31  # the largest number in a vector: 16 octaves
MAGNITUDES = 64  # ranges of |w| that are told apart: 8 octaves, in eight steps each
OFFSETS = range(-64, 64)

_SHIFTS = {"float64": 49, "float32": 20, "float16": 7, "bfloat16": 4}  # leaves sign, exponent and 3 bits more
_ROWS, _COLUMNS, _MAGNITUDES = 1, 2, 4
_VARINT_BYTES = 5  # 2^34, the most weights that a tensor has, takes as many


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class MaskModel:
    """The vectors of one mask's model; None where a part is left out.

    Args:
        offset: in half octaves, one of `OFFSETS`.
        rows, columns: one step for each.
        magnitudes: one step for each range of |w|, of which the outer ones are open; they take the base.
        first_magnitude: the leading bits of |w| in the first range.
    """

    offset: int = 0
    rows: Steps | None = None
    columns: Steps | None = None
    magnitudes: Steps | None = None
    first_magnitude: int = 0


@final
class BaseBits(NamedTuple):
    """The base's values as unsigned bits, flat; `shift` leaves sign, exponent and three bits of the fraction."""

    bits: npt.NDArray[Any]
    shift: int

    @property
    def sign(self) -> int:
        """The sign's bit, once shifted."""
        return 1 << 8 * self.bits.itemsize - 1 - self.shift

    def leading(self) -> npt.NDArray[Any]:
        """Exponent and the three leading bits of the fraction of each |w|: eight steps to an octave."""
        leading: npt.NDArray[Any] = self.bits >> self.bits.dtype.type(self.shift) & self.bits.dtype.type(self.sign - 1)
        return leading


def base_bits(base: Tensor) -> BaseBits | None:
    """What masks are coded against; None if the tensor's dtype has no magnitudes that a model can go by."""
    shift = _SHIFTS.get(dtype_name(base.dtype))
    if shift is None:
        return None
    bits = as_bits(base).cpu().contiguous().reshape(-1).numpy()
    return BaseBits(bits.view(f"u{bits.itemsize}"), shift)


def as_matrix(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a tensor: its first dimension, and all others in one; one row if there are no two."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def sort_weights(
    model: MaskModel, shape: tuple[int, int], base: BaseBits | None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Each weight's class, flat and read-only, and how many weights each of the `CLASSES` has."""
    from supermask.deltas.coding import loops

    rows, columns = shape
    counts = np.zeros(CLASSES, dtype=np.int64)
    if model.rows is None and model.columns is None and model.magnitudes is None:
        only = min(max(model.offset + MIDDLE, 0), CLASSES - 1)
        counts[only] = rows * columns
        return np.broadcast_to(np.uint8(only), rows * columns), counts
    classes = np.empty(rows * columns, dtype=np.uint8)
    row = np.full(rows, model.offset + MIDDLE, dtype=np.int16)
    if model.rows is not None:
        row += model.rows
    column = np.zeros(columns, dtype=np.int16) if model.columns is None else model.columns
    bits, shift, steps = np.empty(0, dtype=np.uint32), 0, np.empty(0, dtype=np.int16)
    if base is not None and model.magnitudes is not None:
        bits, shift = base
        ranges = np.clip(np.arange(base.sign) - model.first_magnitude, 0, MAGNITUDES - 1)
        steps = np.tile(model.magnitudes[ranges], 2)  # whatever the sign
    loops.sort_weights(row, column, bits, shift, steps, classes, counts)
    return classes, counts


def mask_needs_base(payload: bytes | memoryview) -> bool:
    """Whether a payload can only be read with the base's tensor; a DeltaFormatError if it begins as no mask does."""
    if not len(payload) or payload[0] > _ROWS | _COLUMNS | _MAGNITUDES:
        raise DeltaFormatError("the payload of a keep mask has no form that is known here")
    return bool(payload[0] & _MAGNITUDES)


def write_model(model: MaskModel, writer: SymbolWriter) -> bytes:
    """Put a model's vectors into a writer; the bytes that stand before the coded words come back."""
    parts = ((_ROWS, model.rows), (_COLUMNS, model.columns), (_MAGNITUDES, model.magnitudes))
    head = bytearray([sum(flag for flag, part in parts if part is not None), model.offset - OFFSETS[0]])
    vectors = [vector for vector in (model.rows, model.columns) if vector is not None]
    if model.magnitudes is not None:
        head += model.first_magnitude.to_bytes(2, "little")
        # Neighbouring ranges are much alike, so their differences are coded.
        vectors.append(np.diff(model.magnitudes, prepend=np.int16(0)))
    for vector in vectors:
        head += _write_vector(vector, writer)
    return bytes(head)


def read_model(payload: bytes | memoryview, rows: int, columns: int) -> tuple[MaskModel, SymbolReader]:
    """The model of a matrix in a payload, and the reader behind it."""
    based, data = mask_needs_base(payload), io.BytesIO(payload)
    flags, offset = _take(data), _take(data) + OFFSETS[0]
    if offset not in OFFSETS:
        raise DeltaFormatError(f"the payload of a keep mask has the offset {offset}, which no writer writes")
    first = _take(data) | _take(data) << 8 if based else 0
    parts = (
        (_ROWS, "rows", rows, MAX_STEP),
        (_COLUMNS, "columns", columns, MAX_STEP),
        (_MAGNITUDES, "magnitudes", MAGNITUDES, 2 * MAX_STEP),  # a difference of two steps
    )
    heads = [
        (name, length, largest, *_read_head(data, length)) for flag, name, length, largest in parts if flags & flag
    ]
    reader = SymbolReader(data.read())
    runs = []
    for _, length, largest, filled, rate in heads:
        runs.append(Run(rate_of(filled, length - filled) if filled else 0, filled, length - filled))
        runs += [Run(rate, filled, filled * (largest - 1)), Run(COINS, filled, filled)]
    numbers, vectors = reader.take(runs), {}
    for name, length, largest, filled, _ in heads:
        gaps, sizes, negative = numbers[: 3 * filled].reshape(3, filled)
        numbers, vectors[name] = numbers[3 * filled :], np.zeros(length, dtype=np.int16)
        if (sizes >= largest).any():
            raise DeltaFormatError(f"the payload of a keep mask has a step above {largest}")
        vectors[name][np.cumsum(gaps + 1) - 1] = np.where(negative, -1 - sizes, sizes + 1)
    if based:
        vectors["magnitudes"] = np.cumsum(vectors["magnitudes"], dtype=np.int16)
        if (np.abs(vectors["magnitudes"]) > MAX_STEP).any():
            raise DeltaFormatError(f"the payload of a keep mask has a step above {MAX_STEP} for a range of magnitudes")
    return MaskModel(offset=offset, first_magnitude=first, **vectors), reader


def _write_vector(vector: Steps, writer: SymbolWriter) -> bytes:
    """Code a vector, which is mostly zero."""
    places = np.flatnonzero(vector)
    count, sizes = places.size, np.abs(vector[places]) - 1
    head, rest = bytearray(), count
    while rest >= 128:
        head.append(rest & 127 | 128)
        rest >>= 7
    head.append(rest)
    if count:
        rate = rate_of(count, int(sizes.sum()))
        head.append(rate - RATES[0])
        writer.run(np.diff(places, prepend=-1) - 1, rate=rate_of(count, vector.size - count))
        writer.run(sizes, rate=rate)
        writer.run(vector[places] < 0, rate=COINS)
    return bytes(head)


def _read_head(data: io.BytesIO, length: int) -> tuple[int, int]:
    """How many entries of a vector are not 0, and the rate of their sizes."""
    filled = 0
    for index in range(_VARINT_BYTES):
        byte = _take(data)
        filled |= (byte & 127) << 7 * index
        if byte < 128:
            break
    if byte >= 128 or (index and not byte) or filled > length:
        raise DeltaFormatError(f"the payload of a keep mask has no count of the steps for {length} rows or columns")
    rate = _take(data) + RATES[0] if filled else 0
    if rate not in RATES:
        raise DeltaFormatError(f"the payload of a keep mask has the rate {rate}, which does not exist")
    return filled, rate


def _take(data: io.BytesIO) -> int:
    byte = data.read(1)
    if not byte:
        raise DeltaFormatError(f"the payload of a keep mask ends within its head, after {data.tell()} bytes")
    return byte[0]
