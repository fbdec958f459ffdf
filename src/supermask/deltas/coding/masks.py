"""A keep mask as bytes, by a model of where its zeros fall: by row, by column, and by the base's magnitudes.

    fit (find a model)  →  model (which weights are alike)  →  symbols (entropy-code each class)

Inside a class all weights are alike, so its zeros cost what zeros strewn at random among so many weights must cost.
docs/FORMAT.md, section "Keep masks", specifies the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from supermask.deltas.coding.fit import fit_mask_model
from supermask.deltas.coding.model import (
    CLASSES,
    MIDDLE,
    BaseBits,
    MaskModel,
    as_matrix,
    base_bits,
    mask_needs_base,
    read_model,
    sort_weights,
    write_model,
)
from supermask.deltas.coding.symbols import ODDS_BITS, RATES, Run, SymbolReader, SymbolWriter, odds, rate_of
from supermask.deltas.keep_mask import MaskPositions, position_dtype
from supermask.errors import ConfigurationError, DeltaFormatError, DeltaStateError

__all__ = ["MAX_WEIGHTS", "decode_mask", "encode_mask", "is_storable_shape"]

MAX_WEIGHTS = 1 << 34  # of a tensor

_ONE_KIND = b"\0"
_CODES_DROPPED = np.arange(CLASSES) < MIDDLE

_Counts: TypeAlias = npt.NDArray[np.int64]


def is_storable_shape(shape: Sequence[int]) -> bool:
    """Whether the format can hold a tensor of this shape: no negative size, and at most `MAX_WEIGHTS` strides."""
    return all(size >= 0 for size in shape) and math.prod(max(size, 1) for size in shape) <= MAX_WEIGHTS


def encode_mask(mask: MaskPositions, base: Tensor | None = None) -> bytes:
    """Code a keep mask in little more than its entropy, or in less where its zeros follow rows, columns or the base.

    Args:
        mask: which weights are dropped; how many is not in the payload and must be stored beside it.
        base: the base's tensor, of the mask's shape. Where its magnitudes make the payload smaller, it can only be read
            with them.
    """
    if not is_storable_shape(mask.shape):
        raise ConfigurationError(f"a mask of shape {mask.shape} is beyond the format's limit of {MAX_WEIGHTS} weights")
    if base is not None and tuple(base.shape) != mask.shape:
        raise ConfigurationError(f"a mask of shape {mask.shape} has no base of shape {tuple(base.shape)}")
    if not mask.positions.size:
        return _ONE_KIND
    bits = None if base is None else base_bits(base)
    return _encode(mask, fit_mask_model(mask, as_matrix(mask.shape), bits), bits)


def decode_mask(
    payload: bytes | memoryview, shape: Sequence[int], zeros: int, base: Tensor | None = None
) -> MaskPositions:
    """The mask that `encode_mask` coded.

    Memory stays below 16 bytes a weight and 250 a row or column, and time below a fixed amount a weight, whatever the
    payload says; real masks take one byte a weight and 12 a dropped one.

    Args:
        payload: as it was encoded.
        shape, zeros: of the mask: its size, and how many weights it drops.
        base: the base's tensor, of that shape, if `mask_needs_base`; otherwise not looked at.

    Raises:
        DeltaFormatError: if the payload codes no mask of this shape and number of zeros against a base of this dtype.
        DeltaStateError: if the base is needed and is not there.
    """
    from supermask.deltas.coding import loops

    weights, shape = math.prod(shape), tuple(shape)
    if not is_storable_shape(shape) or not 0 <= zeros <= weights:
        raise DeltaFormatError(f"there is no keep mask of shape {shape} with {zeros} zeros")
    based, dropped = mask_needs_base(payload), 2 * zeros <= weights
    positions = np.empty(zeros if dropped else weights - zeros, dtype=position_dtype(weights))
    if not positions.size:
        if payload != _ONE_KIND:
            raise DeltaFormatError("the payload of a keep mask has a model, though all of its weights are of one kind")
        return MaskPositions(positions, dropped, shape)
    bits, matrix = _checked_base(base, shape) if based else None, as_matrix(shape)
    model, reader = read_model(payload, *matrix)
    classes, counts = sort_weights(model, matrix, bits)
    coded = _read_coded(reader, counts)
    if int(np.where(_CODES_DROPPED, coded, counts - coded).sum()) != zeros:
        raise DeltaFormatError(f"the payload of a keep mask does not code {zeros} zeros, as the document states")
    sizes = zip(coded.tolist(), (counts - coded).tolist(), strict=True)
    gaps = reader.take([Run(rate_of(ones, others), ones, others) for ones, others in sizes if ones])
    reader.finish()
    ends, others = np.cumsum(coded), _others(dropped)
    if _in_one_class(counts, others):
        positions[:] = np.cumsum(gaps + 1) - 1
    else:
        loops.point_at(np.ascontiguousarray(classes), gaps, ends - coded, ends, others, positions)
    return MaskPositions(positions, dropped, shape)


def _encode(mask: MaskPositions, model: MaskModel, base: BaseBits | None) -> bytes:
    from supermask.deltas.coding import loops

    classes, counts = sort_weights(model, as_matrix(mask.shape), base)
    named, others = np.bincount(classes[mask.positions], minlength=CLASSES), _others(mask.dropped)
    coded = np.where(others, counts - named, named)
    ends = np.cumsum(coded)
    if _in_one_class(counts, others):
        gaps = np.diff(mask.positions, prepend=-1) - 1
    else:
        gaps = np.empty(int(ends[-1]), dtype=np.int64)
        loops.gaps_within(np.ascontiguousarray(classes), mask.positions, ends - coded, others, gaps)
    writer = SymbolWriter()
    head = write_model(model, writer)
    for c in np.flatnonzero(counts).tolist():
        expected, rate = _expected(int(counts[c]), c)
        difference = int(coded[c]) - expected
        writer.run([2 * difference if difference >= 0 else -2 * difference - 1], rate=rate)
    for c in np.flatnonzero(coded).tolist():
        rate = rate_of(int(coded[c]), int(counts[c] - coded[c]))
        writer.run(gaps[ends[c] - coded[c] : ends[c]], rate=rate)
    return head + writer.finish()


def _read_coded(reader: SymbolReader, counts: _Counts) -> _Counts:
    coded, present = np.zeros(CLASSES, dtype=np.int64), np.flatnonzero(counts)
    guesses = [_expected(int(counts[c]), int(c)) for c in present]
    folded = reader.take([Run(rate, 1, 2 * int(counts[c])) for c, (_, rate) in zip(present, guesses, strict=True)])
    difference = np.where(folded & 1, -(folded + 1 >> 1), folded >> 1)
    coded[present] = difference + [expected for expected, _ in guesses]
    if (coded < 0).any() or (coded > counts).any():
        raise DeltaFormatError("the payload of a keep mask codes more weights than there are, or less than none")
    return coded


def _others(dropped: bool) -> npt.NDArray[np.bool_]:
    """In which classes the coded weights are not those that the positions name."""
    return np.not_equal(dropped, _CODES_DROPPED)


def _in_one_class(counts: _Counts, others: npt.NDArray[np.bool_]) -> bool:
    """Whether all weights are of one class, and its coded ones are those that the positions name."""
    return np.count_nonzero(counts) == 1 and not others[counts.argmax()]


def _expected(weights: int, number: int) -> tuple[int, int]:
    """How many of a class's weights its number says are coded, and the rate that differences from it follow."""
    value = odds(min(4 * abs(number - MIDDLE), RATES[-1]))
    expected = weights * value // (value + (1 << ODDS_BITS))
    return expected, rate_of(1, 2 * math.isqrt(expected) + 1)


def _checked_base(base: Tensor | None, shape: tuple[int, ...]) -> BaseBits:
    if base is None:
        raise DeltaStateError("this keep mask is coded against the base's weights; pass the base that it was learnt on")
    bits = base_bits(base)
    if tuple(base.shape) != shape or bits is None:
        raise DeltaFormatError(
            f"the keep mask is coded against floating-point weights of shape {shape}, received {tuple(base.shape)} of "
            f"{base.dtype}"
        )
    return bits
