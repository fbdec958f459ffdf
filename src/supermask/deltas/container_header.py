"""The header of a safetensors file, read as strictly as a delta needs it: one JSON object, bounded by the file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from supermask.deltas.document import FORMAT_NAME, parse_json
from supermask.errors import DeltaFormatError

__all__ = [
    "DAMAGED",
    "METADATA",
    "TRUNCATED",
    "Header",
    "header_bytes",
    "is_entry",
    "is_span",
    "read_header",
    "refusal",
    "sample",
]

METADATA = "__metadata__"
TRUNCATED = "the file is truncated: get it again"
DAMAGED = "the file is damaged or was edited: get it again"

_MAX_HEADER = 100_000_000  # the safetensors library's own limit
_ALIGNMENT = 8
_NOT_OURS = "pass a folder or file that TaskDelta.save wrote"
_OTHER_FILES = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes it; supermask never unpickles", _NOT_OURS),
    (b"\x80\x02", "a pickle file; supermask never unpickles", _NOT_OURS),
    (b"\x80\x03", "a pickle file; supermask never unpickles", _NOT_OURS),
    (b"\x80\x04", "a pickle file; supermask never unpickles", _NOT_OURS),
    (b"\x80\x05", "a pickle file; supermask never unpickles", _NOT_OURS),
    (b"version https://git-lfs", "a Git LFS pointer", "run `git lfs pull` in its folder to get the file itself"),
)


class Header(NamedTuple):
    """A header that belongs to a delta.

    Args:
        metadata: format and version are checked to be there; nothing else is.
        entries: the tensors' entries as they stand, unchecked.
        start: where the tensors begin in the file.
        size: how many bytes follow from there.
    """

    metadata: Mapping[str, Any]
    entries: Mapping[str, Any]
    start: int
    size: int


def header_bytes(header: Mapping[str, Any]) -> bytes:
    """A header as it stands in the file, its length in front."""
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    return len(encoded).to_bytes(8, "little") + encoded


def read_header(file: BinaryIO, path: Path) -> Header:
    """Read a delta's header, leaving the file behind it.

    Raises:
        DeltaFormatError: if the file is no safetensors file or no delta.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.read(32)
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{" or length > _MAX_HEADER:
        raise refusal(path, *_guess(start))
    if 8 + length > size:
        raise refusal(path, f"the header should have {length} bytes and the file ends after {size - 8}", TRUNCATED)
    file.seek(8)
    header = parse_json(file.read(length).rstrip(b" "), f"{path}: header")
    metadata = header.pop(METADATA, None)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT_NAME:
        raise refusal(path, "a safetensors file, but not a delta", _NOT_OURS)
    return Header(metadata, header, 8 + length, size - 8 - length)


def is_span(offsets: object) -> bool:
    """Whether this is a pair of whole numbers that are not negative, as `data_offsets` must be."""
    return (
        isinstance(offsets, list)
        and len(offsets) == 2
        and all(type(offset) is int and offset >= 0 for offset in offsets)
    )


def is_entry(entry: object, dtype: str, shape: Sequence[int]) -> bool:
    """Whether a tensor's entry states this dtype and shape, in whole numbers, and a span, and nothing else.

    Example:
        >>> is_entry({"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}, "U8", [2])
        True
        >>> is_entry({"dtype": "U8", "shape": [2.0], "data_offsets": [0, 2]}, "U8", [2])
        False
    """
    return (
        isinstance(entry, dict)
        and entry.keys() == {"dtype", "shape", "data_offsets"}
        and entry["dtype"] == dtype
        and entry["shape"] == list(shape)
        and all(type(size) is int for size in entry["shape"])
        and is_span(entry["data_offsets"])
    )


def sample(names: Iterable[str]) -> str:
    """The first few of some names, for a message."""
    ordered = sorted(names)
    return ", ".join(repr(name)[:100] for name in ordered[:3]) + (", ..." if len(ordered) > 3 else "")


def refusal(path: Path, what: str, remedy: str) -> DeltaFormatError:
    """The error for a file that is no delta as it should be."""
    return DeltaFormatError(f"{path}: {what}; {remedy}")


def _guess(start: bytes) -> tuple[str, str]:
    """What a file that is no safetensors file may be, and the remedy."""
    for magic, what, remedy in _OTHER_FILES:
        if start.startswith(magic):
            return f"not a delta but {what}", remedy
    if len(start) < 9:
        return f"the file has {len(start)} bytes and so no header", TRUNCATED
    return "not a delta: it is no safetensors file", _NOT_OURS
