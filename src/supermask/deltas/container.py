"""One safetensors file that holds a delta: the document in the header's metadata, the payloads as tensors.

Files are written and checked here and not by the safetensors library, for two reasons: its header lists metadata in
random order, so equal deltas would give unequal files, and a delta's header must hold exactly what its document says,
which the library cannot know. Any safetensors reader opens the files. docs/FORMAT.md, section "The file", specifies
them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from supermask.deltas.document import (
    FORMAT_NAME,
    FORMAT_VERSION,
    DeltaDocument,
    PayloadRecord,
    parse_document,
    parse_json,
)
from supermask.deltas.tensor_bytes import STORED_DTYPES
from supermask.errors import DeltaFormatError

__all__ = ["container_nbytes", "payload_record", "read_container", "read_container_document", "serialize_container"]

_MAX_HEADER = 100_000_000  # the safetensors library's own limit
_ALIGNMENT = 8
_METADATA = "__metadata__"
_TRUNCATED = "the file is truncated: get it again"
_DAMAGED = "the file is damaged or was edited: get it again"
_NOT_OURS = "pass a folder or file that TaskDelta.save wrote"
_OTHER_FILES = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes it; supermask never unpickles", _NOT_OURS),
    (b"\x80\x02", "a pickle file; supermask never unpickles", _NOT_OURS),
    (b"\x80\x03", "a pickle file; supermask never unpickles", _NOT_OURS),
    (b"\x80\x04", "a pickle file; supermask never unpickles", _NOT_OURS),
    (b"\x80\x05", "a pickle file; supermask never unpickles", _NOT_OURS),
    (b"version https://git-lfs", "a Git LFS pointer", "run `git lfs pull` in its folder to get the file itself"),
)


class _Entry(NamedTuple):
    """One tensor of the file, as its document has it."""

    name: str
    tag: str
    itemsize: int
    shape: list[int]
    record: PayloadRecord


def payload_record(data: bytes) -> PayloadRecord:
    """What the document says about a payload.

    Example:
        >>> payload_record(b"abc").nbytes
        3
    """
    return PayloadRecord(nbytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def serialize_container(document: DeltaDocument, payloads: Mapping[str, bytes]) -> Iterator[bytes]:
    """The file's bytes, in pieces: header, then payloads in their order in the file.

    Args:
        document: of the delta.
        payloads: `NAME:keep` and `NAME:values` to bytes, as the document records them.

    Yields:
        Pieces to write one after the other; equal deltas give equal bytes.
    """
    yield _header(document)
    for entry in _entries(document):
        yield payloads[entry.name]


def container_nbytes(document: DeltaDocument) -> int:
    """The size of a delta's file in bytes, header and all."""
    return len(_header(document)) + sum(change.nbytes for change in document.changes)


def read_container_document(path: Path) -> DeltaDocument:
    """Read a delta's document from the header of its file; payloads are not read.

    Raises:
        DeltaFormatError: if the file is missing, truncated, edited or not a delta.
    """
    with _opened(path) as file:
        return _read_header(file, path)[0]


def read_container(path: Path) -> tuple[DeltaDocument, dict[str, bytes]]:
    """Read a delta's file, checking the hash of everything.

    Returns:
        The document, and the payloads by name.

    Raises:
        DeltaFormatError: if the file is missing, truncated, edited or not a delta.
    """
    with _opened(path) as file:
        document, spans = _read_header(file, path)
        payloads = {}
        start = file.tell()
        for entry in _entries(document):
            file.seek(start + spans[entry.name])
            data = file.read(entry.record.nbytes)
            if hashlib.sha256(data).hexdigest() != entry.record.sha256:
                raise _refusal(
                    path, f"the payload {entry.name} does not have the hash that the document states", _DAMAGED
                )
            payloads[entry.name] = data
    return document, payloads


def _entries(document: DeltaDocument) -> list[_Entry]:
    """The tensors that the document implies, in the order of writing: wide elements first, so that all are aligned."""
    entries = []
    for change in document.changes:
        if change.keep is not None:
            entries.append(_Entry(f"{change.name}:keep", "U8", 1, [change.keep.nbytes], change.keep))
        if change.values is not None and change.dtype is not None:
            dtype, tag = STORED_DTYPES[change.dtype]
            shape = list(change.shape) if change.zeros is None else [change.weights - change.zeros]
            entries.append(_Entry(f"{change.name}:values", tag, dtype.itemsize, shape, change.values))
    return sorted(entries, key=lambda entry: (-entry.itemsize, entry.name))


def _header(document: DeltaDocument) -> bytes:
    text = document.to_json()
    metadata = {
        "format": FORMAT_NAME,
        "version": str(FORMAT_VERSION),
        "document": text,
        "sha256": hashlib.sha256(text.encode("utf-8")).hexdigest(),
    }
    header: dict[str, Any] = {_METADATA: metadata}
    position = 0
    for entry in _entries(document):
        offsets = [position, position + entry.record.nbytes]
        header[entry.name] = {"dtype": entry.tag, "shape": entry.shape, "data_offsets": offsets}
        position = offsets[1]
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    return len(encoded).to_bytes(8, "little") + encoded


def _read_header(file: BinaryIO, path: Path) -> tuple[DeltaDocument, dict[str, int]]:
    """Check the whole header; returns the document and each payload's start, and leaves the file behind the header."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(32)
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{" or length > _MAX_HEADER:
        raise _refusal(path, *_guess(start))
    if 8 + length > size:
        raise _refusal(path, f"the header should have {length} bytes and the file ends after {size - 8}", _TRUNCATED)
    file.seek(8)
    text = file.read(length)
    header = parse_json(text.rstrip(b" "), f"{path}: header")
    document = _read_metadata(header.pop(_METADATA, None), path)
    return document, _check_entries(header, document, size - 8 - length, path)


def _guess(start: bytes) -> tuple[str, str]:
    """What a file that is no safetensors file may be, and the remedy."""
    for magic, what, remedy in _OTHER_FILES:
        if start.startswith(magic):
            return f"not a delta but {what}", remedy
    if len(start) < 9:
        return f"the file has {len(start)} bytes and so no header", _TRUNCATED
    return "not a delta: it is no safetensors file", _NOT_OURS


def _read_metadata(metadata: object, path: Path) -> DeltaDocument:
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT_NAME:
        raise _refusal(path, "a safetensors file, but not a delta", _NOT_OURS)
    version = metadata.get("version")
    if version != str(FORMAT_VERSION):
        raise _refusal(
            path,
            f"format version {version!r} is unknown here, this supermask reads version {FORMAT_VERSION}",
            "upgrade supermask, or get a delta saved by this version",
        )
    if metadata.keys() != {"format", "version", "document", "sha256"}:
        raise _refusal(path, f"the metadata has the keys {_sample(metadata)}", _DAMAGED)
    text = metadata["document"]
    if not isinstance(text, str) or not _has_hash(text, metadata["sha256"]):
        raise _refusal(path, "the document does not have the hash that is stated beside it", _DAMAGED)
    return parse_document(text, f"{path}: document")


def _has_hash(text: str, expected: object) -> bool:
    try:
        return hashlib.sha256(text.encode("utf-8")).hexdigest() == expected
    except UnicodeEncodeError:
        return False


def _check_entries(header: Mapping[str, Any], document: DeltaDocument, size: int, path: Path) -> dict[str, int]:
    """Hold the header's tensors against the document: the same ones, laid end to end over the rest of the file."""
    entries = {entry.name: entry for entry in _entries(document)}
    if header.keys() != entries.keys():
        raise _refusal(
            path, f"the header and the document disagree on tensors {_sample(header.keys() ^ entries.keys())}", _DAMAGED
        )
    spans: list[tuple[int, int, str]] = []
    for name, entry in entries.items():
        found = header[name]
        offsets: Any = found.get("data_offsets") if isinstance(found, dict) else None
        if not _is_span(offsets) or found != {"dtype": entry.tag, "shape": entry.shape, "data_offsets": offsets}:
            raise _refusal(path, f"the header and the document disagree on tensor {name}", _DAMAGED)
        if offsets[1] - offsets[0] != entry.record.nbytes:
            raise _refusal(
                path, f"tensor {name} spans {offsets[1] - offsets[0]} bytes, not {entry.record.nbytes}", _DAMAGED
            )
        spans.append((offsets[0], offsets[1], name))
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            raise _refusal(path, f"tensor {name} starts at {begin} and not at {position}", _DAMAGED)
        position = end
    if position > size:
        raise _refusal(path, f"its tensors need {position} bytes and {size} are there", _TRUNCATED)
    if position < size:
        raise _refusal(path, f"{size - position} bytes follow the last tensor", _DAMAGED)
    return {name: begin for begin, _, name in spans}


def _is_span(offsets: object) -> bool:
    return (
        isinstance(offsets, list)
        and len(offsets) == 2
        and all(type(offset) is int and offset >= 0 for offset in offsets)
    )


def _sample(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(repr(name)[:100] for name in ordered[:3]) + (", ..." if len(ordered) > 3 else "")


def _opened(path: Path) -> BinaryIO:
    try:
        if not path.is_file():
            raise _refusal(path, "no such file", _NOT_OURS)
        return path.open("rb")
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror}", "check the path and its permissions") from None


def _refusal(path: Path, what: str, remedy: str) -> DeltaFormatError:
    return DeltaFormatError(f"{path}: {what}; {remedy}")
