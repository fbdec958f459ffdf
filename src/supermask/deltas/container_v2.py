"""The layout of format version 2: two tensors of bytes, the compressed document and all payloads end to end.

A hundred small tensors with their names and hashes would take more room than a sparse mask does. docs/FORMAT.md,
section "The file", specifies it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from supermask.deltas.container_header import (
    DAMAGED,
    METADATA,
    TRUNCATED,
    Header,
    header_bytes,
    is_entry,
    is_span,
    refusal,
    sample,
)
from supermask.deltas.document import FORMAT_NAME, DeltaDocument, PayloadRecord, parse_document
from supermask.errors import ConfigurationError

__all__ = ["check_document", "nbytes", "payload_names", "read_payloads", "require_storable", "serialize"]

_MAX_DOCUMENT = 1 << 24
_MAX_RATIO = 1000  # a document is names, hashes and numbers; hostile ones expand further
_ANY_RATIO = 1 << 20  # bytes that a document may expand to from whatever little, since they do no harm
_LEVELS = (19, 3)  # of documents that may expand as they like, and of larger ones, which would take half a minute
_KEYS = ("document", "payloads")


def payload_names(document: DeltaDocument) -> Iterator[tuple[str, PayloadRecord]]:
    """All payloads in their order in the file: of each change in turn, its mask and then its values."""
    for change in document.changes:
        for part, record in (("keep", change.keep), ("values", change.values)):
            if record is not None:
                yield f"{change.name}:{part}", record


def serialize(document: DeltaDocument, payloads: Mapping[str, bytes]) -> Iterator[bytes]:
    """The file's bytes, in pieces; equal deltas give equal bytes under one version of the library zstandard."""
    yield from _front(document)
    for name, _ in payload_names(document):
        yield payloads[name]


def nbytes(document: DeltaDocument) -> int:
    """The size of the file, header and all."""
    return sum(map(len, _front(document))) + sum(change.nbytes for change in document.changes)


def require_storable(document: DeltaDocument) -> None:
    """Refuse a document that no reader would take.

    Raises:
        ConfigurationError: if it is too large, or is nothing but repetition.
    """
    text = document.to_json().encode("utf-8")
    if len(text) <= _ANY_RATIO:
        return
    packed = b"" if len(text) > _MAX_DOCUMENT else _compress(text)
    if fault := _oversize(len(text), len(packed)):
        raise ConfigurationError(
            f"this delta cannot be stored: its document has {fault}; put less into method, task and training"
        )


def check_document(file: BinaryIO, header: Header, path: Path) -> DeltaDocument:
    """Read the document behind a header, and hold it against the header.

    Raises:
        DeltaFormatError: if they disagree, or the file ends elsewhere.
    """
    if header.metadata.keys() != {"format", "version", "sha256"} or header.entries.keys() != set(_KEYS):
        found = {*header.metadata, *header.entries}
        raise refusal(path, f"the header has the keys {sample(found)}", DAMAGED)
    sizes, position = [], 0
    for key in _KEYS:
        entry = header.entries[key]
        offsets: Any = entry.get("data_offsets") if isinstance(entry, dict) else None
        if not is_span(offsets) or offsets[0] != position or offsets[1] < position:
            raise refusal(path, f"tensor {key} does not start at {position}", DAMAGED)
        size = offsets[1] - position
        if not is_entry(entry, "U8", [size]):
            raise refusal(path, f"tensor {key} is not a row of {size} bytes", DAMAGED)
        sizes.append(size)
        position = offsets[1]
    _require_size(position, header.size, path)
    if sizes[0] > _MAX_DOCUMENT:
        raise refusal(path, f"the compressed document has {sizes[0]} bytes, more than {_MAX_DOCUMENT}", DAMAGED)
    text = _expand(file.read(sizes[0]), path)
    if hashlib.sha256(text).hexdigest() != header.metadata["sha256"]:
        raise refusal(path, "the document does not have the hash that is stated in the header", DAMAGED)
    document = parse_document(text, f"{path}: document")
    stated = sum(change.nbytes for change in document.changes)
    if stated != sizes[1]:
        raise refusal(path, f"the payloads have {sizes[1]} bytes and not {stated}, as the document has it", DAMAGED)
    return document


def read_payloads(file: BinaryIO, header: Header, document: DeltaDocument, path: Path) -> dict[str, bytes]:
    """The payloads by name, each with its checksum checked, and the hash of all of them.

    Raises:
        DeltaFormatError: if one has another checksum.
    """
    file.seek(header.start + header.entries["payloads"]["data_offsets"][0])
    payloads, everything = {}, hashlib.sha256()
    for name, record in payload_names(document):
        data = file.read(record.nbytes)
        if checksum(data) != record.crc32:
            raise refusal(path, f"the payload {name} does not have the checksum that the document states", DAMAGED)
        everything.update(data)
        payloads[name] = data
    if everything.hexdigest() != document.payloads_sha256:
        raise refusal(path, "the payloads do not have the hash that the document states", DAMAGED)
    return payloads


def checksum(data: bytes) -> str:
    """CRC-32 in hex.

    Example:
        >>> checksum(b"123456789")
        'cbf43926'
    """
    return f"{zlib.crc32(data):08x}"


def _front(document: DeltaDocument) -> tuple[bytes, bytes]:
    """What stands before the payloads: header and compressed document."""
    text = document.to_json().encode("utf-8")
    packed = _compress(text)
    first, second = len(packed), len(packed) + sum(change.nbytes for change in document.changes)
    header = {
        METADATA: {"format": FORMAT_NAME, "version": "2", "sha256": hashlib.sha256(text).hexdigest()},
        "document": {"dtype": "U8", "shape": [first], "data_offsets": [0, first]},
        "payloads": {"dtype": "U8", "shape": [second - first], "data_offsets": [first, second]},
    }
    return header_bytes(header), packed


def _compress(text: bytes) -> bytes:
    packed: bytes = zstandard.ZstdCompressor(level=_LEVELS[len(text) > _ANY_RATIO]).compress(text)
    return packed


def _oversize(size: int, packed: int) -> str | None:
    """What is wrong with a document of this size that was compressed to so many bytes."""
    if size > _MAX_DOCUMENT:
        return f"a size of more than {_MAX_DOCUMENT} bytes"
    if size > _ANY_RATIO and size > _MAX_RATIO * packed:
        return f"{size} bytes in {packed} compressed ones, more than {_MAX_RATIO} times as many"
    return None


def _expand(packed: bytes, path: Path) -> bytes:
    """The document's text; what it may expand to is known before a byte is expanded."""
    try:
        frame = zstandard.get_frame_parameters(packed)
        size = frame.content_size  # of an unknown size it says that it is far above the limit
        if fault := _oversize(size, len(packed)):
            raise refusal(path, f"the document states {fault}", DAMAGED)
        # In one go, into the stated size and not a byte more.
        expander = zstandard.ZstdDecompressor(max_window_size=_MAX_DOCUMENT)
        text: bytes = expander.decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise refusal(path, f"the document is not zstd data ({error})", DAMAGED) from None
    return text


def _require_size(needed: int, found: int, path: Path) -> None:
    if needed > found:
        raise refusal(path, f"its tensors need {needed} bytes and {found} are there", TRUNCATED)
    if needed < found:
        raise refusal(path, f"{found - needed} bytes follow the last tensor", DAMAGED)
