"""Values as bytes: exact, by the bits that they have or by the bits that they changed from the base's, under zstd.

Fine-tuning moves a weight by a small part of its size, so the high bits of new and old value agree. Taken as whole
numbers of w bits, u and r, their difference u - r mod 2^w is small, and so is what is stored: its sign folded into the
lowest bit, and all first bytes before all second ones, which lays the near-constant high bytes together.

Two codings use the base for more. `sorted_difference` stores the weights of a block by the base's magnitude, which says
how large the differences are. `difference` keeps the order, for matrices of which some rows alone took part, and takes
off what weight decay did to the others.

zstd gets 2^18 elements at a time, each block a frame of its own, so working sets are small and decoding is bounded.
docs/FORMAT.md, section "Values", specifies all of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supermask.deltas.codec import MAX_WEIGHTS
from supermask.deltas.tensor_bytes import STORED_DTYPES, as_bits, as_bytes, dtype_name, from_bytes
from supermask.deltas.value_differences import (
    Words,
    common_differences,
    context_bits,
    contexts,
    fold,
    magnitude_order,
    shuffle,
    unfold,
    unshuffle_,
)
from supermask.deltas.value_frames import frame_compressor, pack_frame, unpack_frames
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError, DeltaStateError

__all__ = [
    "VALUE_CODINGS",
    "EncodedValues",
    "decode_values",
    "encode_values",
    "needs_reference",
]

_RAW, _SHUFFLE, _DIFFERENCE, _SORTED = "raw", "shuffle", "difference", "sorted_difference"

VALUE_CODINGS = (_RAW, _SHUFFLE, _DIFFERENCE, _SORTED)
"""How values may be coded: their bytes, their bytes shuffled, or what they differ from the base's, in two orders."""

_BLOCK = 1 << 18  # elements at a time; part of the format
_SAMPLE = 4  # blocks by which the coding of a larger tensor is chosen
_TABLE_SAMPLE = 1 << 17  # elements by which the expected differences are found


@final
@dataclass(frozen=True)
class EncodedValues:
    """Values as `encode_values` gives them.

    Args:
        data: the payload.
        coding: one of `VALUE_CODINGS`; not in the payload, so it must be stored beside it.

    Example:
        >>> EncodedValues(data=b"", coding="raw").coding
        'raw'
    """

    data: bytes
    coding: str


def needs_reference(coding: str) -> bool:
    """Whether values of this coding can only be decoded with the base's values at hand.

    Raises:
        DeltaFormatError: if there is no such coding.

    Example:
        >>> [needs_reference(coding) for coding in VALUE_CODINGS]
        [False, False, True, True]
    """
    if coding not in VALUE_CODINGS:
        raise DeltaFormatError(f"values have the coding {coding!r}, which is none of {', '.join(VALUE_CODINGS)}")
    return coding in (_DIFFERENCE, _SORTED)


def encode_values(values: Tensor, reference: Tensor | None = None) -> EncodedValues:
    """Code values, every bit of them, in the smallest of the codings that suit them.

    Up to 2^20 values the smallest is known; beyond that it is judged by four blocks of 2^18, evenly spread. What would
    not shrink is stored raw. Equal arguments give equal payloads under one version of the library zstandard; another
    version may give another payload of the same values, and a zstd frame can be written in many ways, so a payload's
    hash identifies the payload and not the values.

    Args:
        values: any shape and strides, of a dtype in `STORED_DTYPES`; taken in row-major order.
        reference: the base's values at the same places, same dtype and number; None if they are not at hand.

    Returns:
        Payload and coding; never more bytes than the values have.

    Raises:
        ConfigurationError: if the dtype cannot be stored, there are more than `MAX_WEIGHTS` values, or the reference
            has another dtype or number of values.

    Example:
        >>> base = torch.randn(1000, generator=torch.Generator().manual_seed(0))
        >>> tuned = base + 1e-5
        >>> encoded = encode_values(tuned, base)
        >>> encoded.coding, len(encoded.data) < 600, len(encode_values(tuned).data) > 3000
        ('sorted_difference', True, True)
        >>> found = decode_values(encoded.data, coding=encoded.coding, dtype=torch.float32, count=1000, reference=base)
        >>> torch.equal(found, tuned)
        True
    """
    if dtype_name(values.dtype) not in STORED_DTYPES:
        raise ConfigurationError(
            f"{values.dtype} values cannot be stored; convert to one of {', '.join(STORED_DTYPES)}"
        )
    if values.numel() > MAX_WEIGHTS:
        raise ConfigurationError(f"a tensor has at most {MAX_WEIGHTS} values, received {values.numel()}")
    fault = None if reference is None else _mismatch(reference, values.dtype, values.numel())
    if fault is not None:
        raise ConfigurationError(fault)
    bits = as_bits(values).reshape(-1)
    base_bits = None if reference is None else as_bits(reference).reshape(-1)
    codings = (_SHUFFLE,) if base_bits is None else (_SORTED, _DIFFERENCE, _SHUFFLE)
    encoder = _Encoder(bits, base_bits, values.dtype)
    starts = range(0, bits.numel(), _BLOCK)
    sample = [starts[len(starts) * part // _SAMPLE] for part in range(_SAMPLE)] if len(starts) > _SAMPLE else starts
    heads = {coding: encoder.head(coding) for coding in codings}
    tried = {coding: encoder.frames(coding, sample) for coding in codings}
    coding = min(codings, key=lambda coding: len(heads[coding]) + sum(map(len, tried[coding].values())))
    frames = tried[coding] | encoder.frames(coding, (start for start in starts if start not in tried[coding]))
    data = heads[coding] + b"".join(frames[start] for start in starts)
    if len(data) < bits.numel() * bits.element_size():
        return EncodedValues(data=data, coding=coding)
    return EncodedValues(data=bytes(as_bytes(values)), coding=_RAW)


def decode_values(
    data: bytes | memoryview, *, coding: str, dtype: torch.dtype, count: int, reference: Tensor | None = None
) -> Tensor:
    """The values that `encode_values` coded, bit for bit.

    Memory stays below the values' own bytes plus some 20 MB, and time below a fixed amount a value and a byte of the
    payload, whatever the payload says: each zstd frame must state the size that is known beforehand and is refused if
    it gives any other.

    Args:
        data: the payload.
        coding: one of `VALUE_CODINGS`.
        dtype: of the values.
        count: how many they are.
        reference: the base's values at the same places, any shape, contiguous; looked at only if the coding
            needs them.

    Returns:
        A new tensor on the CPU, shape (count,).

    Raises:
        DeltaFormatError: if the coding is unknown, or the payload does not code so many values of this dtype.
        DeltaStateError: if the coding needs a reference and there is none.
        BaseMismatchError: if the reference has another dtype or number of values.

    Example:
        >>> decode_values(b"\\x00\\x00\\x80\\x3f", coding="raw", dtype=torch.float32, count=1)
        tensor([1.])
    """
    relative = needs_reference(coding)
    if dtype_name(dtype) not in STORED_DTYPES or not 0 <= count <= MAX_WEIGHTS:
        raise DeltaFormatError(f"there is no payload of {count} values of {dtype}")
    if relative and reference is None:
        raise DeltaStateError(
            f"values of coding {coding!r} are stored as differences from the base's and need them: pass the base"
        )
    fault = _mismatch(reference, dtype, count) if relative and reference is not None else None
    if fault is not None:
        raise BaseMismatchError(fault)
    size = dtype.itemsize
    if coding == _RAW:
        if len(data) != count * size:
            raise DeltaFormatError(f"{count} values of {dtype} have {count * size} bytes, and {len(data)} are stored")
        return from_bytes(data, dtype, (count,))
    sizes = [min(_BLOCK, count - start) * size for start in range(0, count, _BLOCK)]
    if coding == _DIFFERENCE and count:
        sizes.insert(0, size << context_bits(dtype))
    contents = unpack_frames(data, sizes)
    table: Words | None = None
    if coding == _DIFFERENCE and count:
        table = np.empty(1 << context_bits(dtype), dtype=f"<u{size}")
        unshuffle_(next(contents), table)
    base_bits = as_bits(reference).reshape(-1) if relative and reference is not None else None
    values = torch.empty(count, dtype=dtype)
    words = _words(as_bits(values))
    for start, content in zip(range(0, count, _BLOCK), contents, strict=True):
        block = words[start : start + _BLOCK]
        unshuffle_(content, block)
        if base_bits is not None:
            _add_reference(block, _words(base_bits[start : start + _BLOCK]), table, dtype)
    return values


@final
class _Encoder:
    """Blocks of values to zstd frames, whichever coding is tried."""

    def __init__(self, bits: Tensor, base_bits: Tensor | None, dtype: torch.dtype) -> None:
        self._bits = bits
        self._base_bits = base_bits
        self._dtype = dtype
        self._compressor = frame_compressor()
        self._table: Words = np.zeros(0, dtype=np.uint8)

    def head(self, coding: str) -> bytes:
        """What a payload starts with: the frame of the expected differences, if the coding has them."""
        if coding != _DIFFERENCE or self._base_bits is None:
            return b""
        every = max(1, -(-self._bits.numel() // _TABLE_SAMPLE))
        reference = _words(self._base_bits[::every])
        differences = _words(self._bits[::every]) - reference
        self._table = common_differences(differences, contexts(reference, self._dtype), context_bits(self._dtype))
        return pack_frame(self._compressor, shuffle(self._table))

    def frames(self, coding: str, starts: Iterable[int]) -> dict[int, bytes]:
        """The frames of some blocks, by each block's first element."""
        return {start: pack_frame(self._compressor, self._block(coding, start)) for start in starts}

    def _block(self, coding: str, start: int) -> npt.NDArray[np.uint8]:
        words = _words(self._bits[start : start + _BLOCK])
        if coding == _SHUFFLE or self._base_bits is None:
            return shuffle(words)
        reference = _words(self._base_bits[start : start + _BLOCK])
        words = words - reference
        if coding == _SORTED:
            return shuffle(fold(words)[magnitude_order(reference)])
        return shuffle(fold(words - self._table[contexts(reference, self._dtype)]))


def _add_reference(block: Words, reference: Words, table: Words | None, dtype: torch.dtype) -> None:
    """Turn a block of stored differences into values, in place."""
    differences = unfold(block)
    if table is None:
        block[magnitude_order(reference)] = differences
        block += reference
    else:
        np.add(differences, reference, out=block)
        block += table[contexts(reference, dtype)]


def _words(bits: Tensor) -> Words:
    """A tensor's bits as unsigned whole numbers; shares the memory of a contiguous tensor on the CPU."""
    return np.frombuffer(as_bytes(bits), dtype=f"<u{bits.element_size()}")


def _mismatch(reference: Tensor, dtype: torch.dtype, count: int) -> str | None:
    if reference.dtype is dtype and reference.numel() == count:
        return None
    return (
        f"values are coded against as many of the same dtype: {count} of {dtype}; "
        f"received {reference.numel()} of {reference.dtype}"
    )
