"""Where a mask's zeros are likely: a sum of few whole numbers for each weight, from vectors that the payload holds.

For weight w in row i and column j the logarithm of the odds that it is dropped is, in half octaves,

    x_ij = offset + row_i + column_j + magnitude[ leading bits of |w| ]

Rows and columns differ in density, and small weights, or large ones, are dropped more often.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt

from supermask.deltas.coding.laws import COINS, RATES, rate_of
from supermask.deltas.coding.symbols import Run, SymbolReader, SymbolWriter
from supermask.errors import DeltaFormatError

__all__ = [
    "CLASSES",
    "MAGNITUDES",
    "MAX_STEP",
    "MIDDLE",
    "OFFSETS",
    "MaskModel",
    "mask_needs_base",
    "read_model",
    "write_model",
]

Steps: TypeAlias = npt.NDArray[np.int16]

CLASSES = 64
MIDDLE = 40
"""Weights of class c are dropped with odds of about 2^((c - MIDDLE)/2); from MIDDLE on, those that stay are coded."""
MAX_STEP = 31
"""The largest number in a vector: 16 octaves."""
MAGNITUDES = 64
"""How many ranges of |w| are told apart: 8 octaves in steps of an eighth octave or so, the three leading bits."""
OFFSETS = range(-64, 64)

_ROWS, _COLUMNS, _MAGNITUDES = 1, 2, 4
_VARINT_BYTES = 5  # 2^34, the most weights that a tensor has, takes as many


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class MaskModel:
    """The vectors of one mask's model; None where a part is left out.

    Args:
        offset: in half octaves, one of `OFFSETS`.
        rows: one step for each row.
        columns: one step for each column.
        magnitudes: one step for each of `MAGNITUDES` ranges of |w|, the ends included in the outer ones; with them the
            model goes by the base.
        first_magnitude: the leading bits of |w| in the first range.
    """

    offset: int = 0
    rows: Steps | None = None
    columns: Steps | None = None
    magnitudes: Steps | None = None
    first_magnitude: int = 0


def mask_needs_base(payload: bytes | memoryview) -> bool:
    """Whether a mask's payload can only be read with the base's tensor.

    Raises:
        DeltaFormatError: if it is empty, or begins as none does.

    Example:
        >>> mask_needs_base(b"\\x03"), mask_needs_base(b"\\x04")
        (False, True)
    """
    if not len(payload) or payload[0] > _ROWS | _COLUMNS | _MAGNITUDES:
        raise DeltaFormatError("the payload of a keep mask has no form that is known here")
    return bool(payload[0] & _MAGNITUDES)


def write_model(model: MaskModel, writer: SymbolWriter) -> bytes:
    """Put a model's vectors into a writer, and give the bytes that stand before the coded words."""
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
    """Take a model of a matrix out of a payload, and give the reader behind it; DeltaFormatError if there is none."""
    based, data = mask_needs_base(payload), io.BytesIO(payload)
    flags, offset = _take(data), _take(data) + OFFSETS[0]
    if offset not in OFFSETS:
        raise DeltaFormatError(f"the payload of a keep mask has the offset {offset}, which no writer writes")
    first = _take(data) | _take(data) << 8 if based else 0
    parts = [("rows", rows, MAX_STEP)] if flags & _ROWS else []
    if flags & _COLUMNS:
        parts.append(("columns", columns, MAX_STEP))
    if based:
        parts.append(("magnitudes", MAGNITUDES, 2 * MAX_STEP))  # a difference of two steps
    heads = [(name, length, largest, *_read_head(data, length)) for name, length, largest in parts]
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
    head = bytearray()
    rest = count
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
