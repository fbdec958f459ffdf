"""zstd frames one after the other, read in bounded memory: each must hold what is known beforehand that it holds.

docs/FORMAT.md, section "Values", says what a frame must look like.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy.typing as npt
import zstandard

from supermask.errors import DeltaFormatError

__all__ = ["frame_compressor", "pack_frame", "unpack_frames"]

_MAX_WINDOW = 1 << 21  # bytes: the largest block of values
_FRAME_START = zstandard.FRAME_HEADER
_LENGTH = 4  # bytes of the number before each frame

# The fastest strategy, and short matches left alone: shuffled bytes have skewed frequencies and few repetitions, so
# matches of less than 7 bytes cost more than the entropy coder that they bypass. On real deltas level 3 is larger,
# level 9 within 2 % either way at three times the time, and level 19 saves 1 % at thirty times the time.
_PARAMETERS = zstandard.ZstdCompressionParameters(
    compression_level=1, strategy=zstandard.STRATEGY_FAST, min_match=7, hash_log=14, window_log=21
)


def frame_compressor() -> zstandard.ZstdCompressor:
    """A compressor with the settings for shuffled bytes; not to be shared by threads."""
    return zstandard.ZstdCompressor(compression_params=_PARAMETERS)


def pack_frame(compressor: zstandard.ZstdCompressor, content: npt.NDArray[Any]) -> bytes:
    """One frame, its length before it.

    Args:
        compressor: from `frame_compressor`.
        content: contiguous, at most 2^21 bytes.

    Example:
        >>> import numpy as np
        >>> data = pack_frame(frame_compressor(), np.arange(4, dtype=np.uint8))
        >>> int.from_bytes(data[:4], "little") == len(data) - 4
        True
        >>> [list(content) for content in unpack_frames(data, [4])]
        [[0, 1, 2, 3]]
    """
    frame = compressor.compress(content.data)
    return len(frame).to_bytes(_LENGTH, "little") + frame


def unpack_frames(data: bytes | memoryview, sizes: Sequence[int]) -> Iterator[bytes]:
    """What the frames of a payload hold.

    The headers of all frames are checked at once, before anything is allocated for their contents.

    Args:
        data: frames with their lengths, and nothing behind them.
        sizes: how many bytes each frame holds, at most 2^21.

    Returns:
        The contents, one decompressed after the other.

    Raises:
        DeltaFormatError: if there are more frames or fewer, or one does not state its size, states another, needs a
            dictionary, a larger window or a checksum; while going through them, if one is damaged.

    Example:
        >>> unpack_frames(b"", [3])
        Traceback (most recent call last):
        supermask.errors.DeltaFormatError: values are cut off in frame 0 of 1
    """
    frames = _split(memoryview(data), sizes)
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    return (_decompress(decompressor, frame, size) for frame, size in zip(frames, sizes, strict=True))


def _split(data: memoryview, sizes: Sequence[int]) -> list[memoryview]:
    """The frames of a payload, which state that they hold so many bytes each."""
    frames, position = [], 0
    for number, size in enumerate(sizes):
        end = position + _LENGTH + int.from_bytes(data[position : position + _LENGTH], "little")
        if position + _LENGTH > len(data) or end > len(data):
            raise DeltaFormatError(f"values are cut off in frame {number} of {len(sizes)}")
        frame = data[position + _LENGTH : end]
        _check_frame(frame, size, number)
        frames.append(frame)
        position = end
    if position != len(data):
        raise DeltaFormatError(f"{len(data) - position} bytes follow the last of {len(sizes)} frames of values")
    return frames


def _check_frame(frame: memoryview, nbytes: int, number: int) -> None:
    try:
        stated: Any = zstandard.get_frame_parameters(frame) if frame[:4] == _FRAME_START else None
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
