"""A keep mask to bytes and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from supermask.deltas.codec import encode_keep_mask, escape_limit, gap_frequencies, is_storable_shape
from supermask.deltas.coding.classes import BaseBits, as_matrix, base_bits, sort_weights
from supermask.deltas.coding.model import CLASSES, MIDDLE, MaskModel, read_model, write_model
from supermask.deltas.coding.rates import ODDS_BITS, RATES, odds, rate_of
from supermask.deltas.coding.symbols import Laws, Run, SymbolReader, SymbolWriter
from supermask.deltas.keep_mask import MaskPositions, position_dtype
from supermask.errors import ConfigurationError, DeltaFormatError, DeltaStateError

__all__ = ["decode_mask", "encode_mask", "payload_needs_base"]

_PLAIN, _MODELLED, _BASED = 0, 1, 2
_CODES_DROPPED = np.arange(CLASSES) < MIDDLE


def encode_mask(mask: MaskPositions, base: Tensor | None = None) -> bytes:
    """Code a keep mask, as small as the models here can make it.

    Args:
        mask: which weights are dropped.
        base: the base's tensor, of the mask's shape. With it the mask is coded against its magnitudes and signs if
            that is smaller, and can then only be read with it.

    Returns:
        The payload. Its size is at most that of `encode_keep_mask` and a byte. How many zeros there are is not in it
        and must be stored beside it.

    Raises:
        ConfigurationError: if the base is of another shape than the mask.

    Example:
        >>> import torch
        >>> base = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
        >>> mask = MaskPositions.of(base.abs() > 0.2)
        >>> len(encode_mask(mask)) > 5 * len(encode_mask(mask, base))
        True
    """
    from supermask.deltas.coding.fit import fit_mask_models

    if base is not None and tuple(base.shape) != mask.shape:
        raise ConfigurationError(f"a mask of shape {mask.shape} has no base of shape {tuple(base.shape)}")
    keep = mask.keep
    payload = bytes([_PLAIN]) + encode_keep_mask(keep)
    if mask.count:
        dropped, bits = keep.logical_not_().numpy().reshape(-1), None if base is None else base_bits(base)
        for model in fit_mask_models(dropped, as_matrix(mask.shape), bits):
            payload = min(payload, _encode_modelled(dropped, as_matrix(mask.shape), model, bits), key=len)
    return payload


def payload_needs_base(payload: bytes | memoryview) -> bool:
    """Whether a payload can only be read with the base's tensor.

    Args:
        payload: of a mask.

    Raises:
        DeltaFormatError: if it is empty, or begins as none does.

    Example:
        >>> payload_needs_base(b"\\x00")
        False
    """
    return _form(payload) == _BASED


def decode_mask(
    payload: bytes | memoryview, shape: Sequence[int], zeros: int, base: Tensor | None = None
) -> MaskPositions:
    """The mask that `encode_mask` coded.

    Memory stays below 16 bytes a weight and 250 a row or column, and time below a fixed amount a weight, whatever the
    payload says; real masks take one byte a weight and 12 a dropped one.

    Args:
        payload: the bytes.
        shape: of the mask.
        zeros: how many weights it drops.
        base: the base's tensor, of that shape, if `payload_needs_base`; otherwise not looked at.

    Returns:
        The positions of the dropped weights, or of the survivors if they are fewer.

    Raises:
        DeltaFormatError: if the payload does not code a mask of this shape and number of zeros against a base of this
            dtype.
        DeltaStateError: if the base is needed and is not there.

    Example:
        >>> decode_mask(b"\\x00", (2, 3), zeros=0).positions.size
        0
    """
    weights, shape = math.prod(shape), tuple(shape)
    if not is_storable_shape(shape) or not 0 <= zeros <= weights:
        raise DeltaFormatError(f"there is no keep mask of shape {shape} with {zeros} zeros")
    form, dropped = _form(payload), 2 * zeros <= weights
    count = zeros if dropped else weights - zeros
    if form == _PLAIN:
        positions = _decode_plain(memoryview(payload)[1:], weights, count)
    else:
        bits = _checked_base(base, shape) if form == _BASED else None
        positions = np.empty(count, dtype=position_dtype(weights))
        _decode_modelled(memoryview(payload)[1:], as_matrix(shape), zeros, bits, dropped, positions)
    return MaskPositions(positions, dropped, shape)


def _encode_modelled(
    dropped: npt.NDArray[np.bool_], shape: tuple[int, int], model: MaskModel, base: BaseBits | None
) -> bytes:
    classes, counts = sort_weights(model, *shape, base if model.needs_base else None)
    writer = SymbolWriter()
    head = bytes([_BASED if model.needs_base else _MODELLED]) + write_model(model, writer)
    present = np.flatnonzero(counts).tolist()
    coded = {c: np.flatnonzero(dropped[np.flatnonzero(classes == c)] == _CODES_DROPPED[c]) for c in present}
    for c in present:
        expected, rate = _expected(int(counts[c]), c)
        difference = coded[c].size - expected
        writer.run([2 * difference if difference >= 0 else -2 * difference - 1], rate=rate)
    for c in present:
        if coded[c].size:
            rate = rate_of(coded[c].size, int(counts[c]) - coded[c].size)
            writer.run(np.diff(coded[c], prepend=-1) - 1, rate=rate)
    return head + writer.finish()


def _decode_plain(data: memoryview, weights: int, count: int) -> npt.NDArray[Any]:
    """The form that `encode_keep_mask` writes: all weights alike, and its own law of gaps."""
    if not count:
        if len(data):
            raise DeltaFormatError(f"{len(data)} bytes code a keep mask that takes none")
        return np.empty(0, dtype=position_dtype(weights))
    if len(data) < 4:
        raise DeltaFormatError(f"{len(data)} bytes cannot code a keep mask")
    limit, reader, law = escape_limit(weights, count), SymbolReader(data[4:]), Laws(1)
    law.put(0, gap_frequencies(weights, count), limit)
    gaps = reader.take([Run(RATES[0], count, weights - count)], law=law)
    reader.finish()
    if int((gaps // limit).sum()) != int.from_bytes(data[:4], "little"):
        raise DeltaFormatError("the payload of a keep mask has another number of escapes than it states")
    gaps += 1
    ends = np.cumsum(gaps, out=gaps)
    ends -= 1
    return ends.astype(position_dtype(weights))


def _decode_modelled(
    data: memoryview,
    shape: tuple[int, int],
    zeros: int,
    base: BaseBits | None,
    dropped: bool,
    positions: npt.NDArray[Any],
) -> None:
    from supermask.deltas.coding import kernels

    if not positions.size:
        raise DeltaFormatError("the payload of a keep mask has a model, though all of its weights are of one kind")
    model, reader = read_model(data, *shape)
    if model.needs_base != (base is not None):
        raise DeltaFormatError("the payload of a keep mask contradicts itself on whether it looks at the base")
    classes, counts = sort_weights(model, *shape, base)
    coded = _read_coded(reader, counts)
    if int(np.where(_CODES_DROPPED, coded, counts - coded).sum()) != zeros:
        raise DeltaFormatError(f"the payload of a keep mask does not code {zeros} zeros, as the document states")
    runs = [
        Run(rate_of(ones, others), ones, others)
        for ones, others in zip(coded.tolist(), (counts - coded).tolist(), strict=True)
        if ones
    ]
    gaps = reader.take(runs)
    reader.finish()
    ends = np.cumsum(coded)
    kernels.point_at(classes, gaps, ends - coded, ends, np.not_equal(dropped, _CODES_DROPPED), positions)


def _read_coded(reader: SymbolReader, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many weights of each class are coded."""
    coded, present = np.zeros(CLASSES, dtype=np.int64), np.flatnonzero(counts)
    guesses = [_expected(int(counts[c]), int(c)) for c in present]
    folded = reader.take([Run(rate, 1, 2 * int(counts[c])) for c, (_, rate) in zip(present, guesses, strict=True)])
    difference = np.where(folded & 1, -(folded + 1 >> 1), folded >> 1)
    coded[present] = difference + [expected for expected, _ in guesses]
    if (coded < 0).any() or (coded > counts).any():
        raise DeltaFormatError("the payload of a keep mask codes more weights than there are, or less than none")
    return coded


def _expected(weights: int, number: int) -> tuple[int, int]:
    """How many of a class's weights its number says are coded, and the rate that differences from it follow."""
    value = odds(min(4 * abs(number - MIDDLE), RATES[-1]))
    expected = weights * value // (value + (1 << ODDS_BITS))
    return expected, rate_of(1, 2 * math.isqrt(expected) + 1)


def _form(payload: bytes | memoryview) -> int:
    if not len(payload) or payload[0] > _BASED:
        raise DeltaFormatError("the payload of a keep mask has no form that is known here")
    return payload[0]


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
