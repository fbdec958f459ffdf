"""Values as bytes: exact, by the bits that they have or by the bits that they changed from the base's, under zstd.

Fine-tuning moves a weight by a small part of its size, so the high bits of new and old value agree. Taken as whole
numbers of w bits, u and r, their difference u - r mod 2^w is small, and so is what is stored: its sign folded into the
lowest bit, the weights of a block ordered by the base's magnitude, which says how large the differences are, and all
first bytes before all second ones, so that near-constant ones, and zeros that rounding left, cost next to nothing.

zstd gets blocks of 2^18 elements, each a frame of its own, so decoding is bounded. docs/FORMAT.md, section "Values".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np
import numpy.typing as npt
import torch
import zstandard
from torch import Tensor

from supermask.deltas.coding.masks import MAX_WEIGHTS
from supermask.deltas.tensor_bytes import STORED_DTYPES, as_bits, as_bytes, dtype_name, from_bytes
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError, DeltaStateError

__all__ = ["VALUE_CODINGS", "EncodedValues", "decode_values", "encode_values", "needs_reference"]

_RAW, _SHUFFLE, _SORTED = "raw", "shuffle", "sorted_difference"
VALUE_CODINGS = (_RAW, _SHUFFLE, _SORTED)  # their bytes, these shuffled, or differences from the base's

_BLOCK = 1 << 18  # elements at a time; part of the format
_SAMPLE = 4  # blocks by which the coding of a larger tensor is chosen
_MAX_WINDOW = 1 << 21  # bytes: the largest block
_LENGTH = 4  # bytes of the number before each frame
_ORDER_BITS = 16  # numpy sorts such keys by radix

_Words: TypeAlias = npt.NDArray[Any]  # unsigned, little-endian, one dimension

# Shuffled bytes have skewed frequencies and few repetitions: matches of less than 7 bytes cost more than the entropy
# coder that they bypass. On real deltas level 3 is larger, and level 19 saves 1 % at thirty times the time.
_PARAMETERS = zstandard.ZstdCompressionParameters(
    compression_level=1, strategy=zstandard.STRATEGY_FAST, min_match=7, hash_log=14, window_log=21
)


@final
class EncodedValues(NamedTuple):
    """A payload, and its coding, which must be stored beside it."""

    data: bytes
    coding: str


def needs_reference(coding: str) -> bool:
    """Whether values of this coding can only be decoded with the base's; a DeltaFormatError if there is none such."""
    if coding not in VALUE_CODINGS:
        raise DeltaFormatError(f"values have the coding {coding!r}, which is none of {', '.join(VALUE_CODINGS)}")
    return coding == _SORTED


def encode_values(values: Tensor, reference: Tensor | None = None) -> EncodedValues:
    """Code values, every bit of them, in the smallest of the codings that suit them.

    Beyond 2^20 values it is judged by four blocks. What would not shrink is stored raw. Equal arguments give equal
    payloads under one version of the library zstandard.

    Args:
        values: any shape and strides, of a dtype in `STORED_DTYPES`; taken in row-major order.
        reference: the base's values at the same places, of the same dtype.
    """
    if dtype_name(values.dtype) not in STORED_DTYPES:
        raise ConfigurationError(
            f"{values.dtype} values cannot be stored; convert to one of {', '.join(STORED_DTYPES)}"
        )
    if values.numel() > MAX_WEIGHTS:
        raise ConfigurationError(f"a tensor has at most {MAX_WEIGHTS} values, received {values.numel()}")
    if reference is not None and (fault := _mismatch(reference, values.dtype, values.numel())):
        raise ConfigurationError(fault)
    words = _words(as_bits(values))
    base = None if reference is None else _words(as_bits(reference))
    starts = range(0, words.size, _BLOCK)
    sample = [starts[len(starts) * part // _SAMPLE] for part in range(_SAMPLE)] if len(starts) > _SAMPLE else starts
    codings: dict[str, _Words | None] = {_SHUFFLE: None} if base is None else {_SORTED: base, _SHUFFLE: None}
    tried = {coding: {start: _frame(words, old, start) for start in sample} for coding, old in codings.items()}
    coding = min(tried, key=lambda coding: sum(map(len, tried[coding].values())))
    data = b"".join(tried[coding].get(start) or _frame(words, codings[coding], start) for start in starts)
    if len(data) < words.nbytes:
        return EncodedValues(data=data, coding=coding)
    return EncodedValues(data=bytes(as_bytes(values)), coding=_RAW)


def decode_values(
    data: bytes | memoryview, *, coding: str, dtype: torch.dtype, count: int, reference: Tensor | None = None
) -> Tensor:
    """The values that `encode_values` coded, bit for bit: a new tensor on the CPU, shape (count,).

    Memory stays below the values' own bytes plus some 20 MB, and time below a fixed amount a value and a byte, whatever
    the payload says: each zstd frame must have the size that is known beforehand.

    Args:
        data, coding: as they were encoded.
        dtype, count: of the values.
        reference: the base's values at the same places, any shape; looked at only if the coding needs them.

    Raises:
        DeltaFormatError: if the coding is unknown, or the payload does not code so many values of this dtype.
        DeltaStateError: if the coding needs a reference and there is none.
        BaseMismatchError: if the reference has another dtype or number of values.
    """
    if not needs_reference(coding):
        reference = None
    elif reference is None:
        raise DeltaStateError(
            f"values of coding {coding!r} are stored as differences from the base's and need them: pass the base"
        )
    if dtype_name(dtype) not in STORED_DTYPES or not 0 <= count <= MAX_WEIGHTS:
        raise DeltaFormatError(f"there is no payload of {count} values of {dtype}")
    if reference is not None and (fault := _mismatch(reference, dtype, count)):
        raise BaseMismatchError(fault)
    size = dtype.itemsize
    if coding == _RAW:
        if len(data) != count * size:
            raise DeltaFormatError(f"{count} values of {dtype} have {count * size} bytes, and {len(data)} are stored")
        return from_bytes(data, dtype, (count,))
    starts = range(0, count, _BLOCK)
    contents = _unpack(memoryview(data), [min(_BLOCK, count - start) * size for start in starts])
    values = torch.empty(count, dtype=dtype)
    words, base = _words(as_bits(values)), None if reference is None else _words(as_bits(reference))
    for start, content in zip(starts, contents, strict=True):
        block = words[start : start + _BLOCK]
        _unshuffle_(content, block)
        if base is not None:
            old, differences = base[start : start + _BLOCK], _unfold(block)
            block[_magnitude_order(old)] = differences
            block += old
    return values


def _words(bits: Tensor) -> _Words:
    """A tensor's bits as unsigned whole numbers; shares the memory of a contiguous tensor on the CPU."""
    return np.frombuffer(as_bytes(bits), dtype=f"<u{bits.element_size()}")


def _mismatch(reference: Tensor, dtype: torch.dtype, count: int) -> str | None:
    if reference.dtype is dtype and reference.numel() == count:
        return None
    return (
        f"values are coded against as many of the same dtype: {count} of {dtype}; "
        f"received {reference.numel()} of {reference.dtype}"
    )


def _frame(words: _Words, base: _Words | None, start: int) -> bytes:
    """The frame of a block, its length before it."""
    block = words[start : start + _BLOCK]
    if base is not None:
        old = base[start : start + _BLOCK]
        block = _fold(block - old)[_magnitude_order(old)]
    frame = zstandard.ZstdCompressor(compression_params=_PARAMETERS).compress(_shuffle(block).data)
    return len(frame).to_bytes(_LENGTH, "little") + frame


def _unpack(data: memoryview, sizes: Sequence[int]) -> Iterator[bytes]:
    """What the frames of a payload hold, one after the other; the headers of all are checked before."""
    frames, position = [], 0
    for number, size in enumerate(sizes):
        end = position + _LENGTH + int.from_bytes(data[position : position + _LENGTH], "little")
        if position + _LENGTH > len(data) or end > len(data):
            raise DeltaFormatError(f"values are cut off in frame {number} of {len(sizes)}")
        frames.append(data[position + _LENGTH : end])
        _check_frame(frames[-1], size, number)
        position = end
    if position != len(data):
        raise DeltaFormatError(f"{len(data) - position} bytes follow the last of {len(sizes)} frames of values")
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    return (_decompress(decompressor, frame, size) for frame, size in zip(frames, sizes, strict=True))


def _check_frame(frame: memoryview, nbytes: int, number: int) -> None:
    try:
        stated: Any = zstandard.get_frame_parameters(frame) if frame[:4] == zstandard.FRAME_HEADER else None
    except zstandard.ZstdError:
        stated = None
    if stated is None:
        raise DeltaFormatError(f"frame {number} of values is no zstd frame")
    if stated.content_size != nbytes or stated.window_size > _MAX_WINDOW or stated.dict_id or stated.has_checksum:
        raise DeltaFormatError(
            f"frame {number} of values must state a size of {nbytes} bytes, a window of at most "
            f"{_MAX_WINDOW}, no dictionary and no checksum; it states a size of {stated.content_size}, a window of "
            f"{stated.window_size}, dictionary {stated.dict_id} and checksum {stated.has_checksum}"
        )


def _decompress(decompressor: zstandard.ZstdDecompressor, frame: memoryview, nbytes: int) -> bytes:
    try:
        content = decompressor.decompress(frame, max_output_size=nbytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DeltaFormatError(f"a zstd frame of values is damaged: {error}") from None
    if len(content) != nbytes:
        raise DeltaFormatError(f"a zstd frame of values has {len(content)} bytes instead of {nbytes}")
    return content


def _fold(words: _Words) -> _Words:
    """Small numbers of either sign to small numbers: 0, -1, 1, -2, ... to 0, 1, 2, 3, ..."""
    folded: _Words = (words << 1) ^ np.negative(words >> (8 * words.itemsize - 1))
    return folded


def _unfold(words: _Words) -> _Words:
    unfolded: _Words = (words >> 1) ^ np.negative(words & 1)
    return unfolded


def _shuffle(words: _Words) -> npt.NDArray[np.uint8]:
    """All lowest bytes, then all second ones, and so on: bytes of shape (bytes of a word, words)."""
    return np.ascontiguousarray(words.view(np.uint8).reshape(-1, words.itemsize).T)


def _unshuffle_(data: bytes, words: _Words) -> None:
    spread = words.view(np.uint8).reshape(-1, words.itemsize)
    # Plane by plane, which numpy copies several times faster than the transposed whole.
    for place, plane in enumerate(np.frombuffer(data, dtype=np.uint8).reshape(words.itemsize, -1)):
        spread[:, place] = plane


def _magnitude_order(reference: _Words) -> npt.NDArray[np.intp]:
    """The places of a block by the highest bits of the base's magnitude there: in this order differences are alike."""
    width = 8 * reference.itemsize
    keys = (reference << 1) >> (width - min(_ORDER_BITS, width // 2))
    order: npt.NDArray[np.intp] = np.argsort(keys.astype(np.uint16), kind="stable")
    return order
