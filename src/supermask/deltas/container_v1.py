"""The layout of format version 1: the document in the header's metadata, and each payload a tensor of its own.

Kept to read, and to write again, what was stored in it. docs/FORMAT.md, section "Version 1", specifies it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from supermask.deltas.container_header import (
    DAMAGED,
    METADATA,
    TRUNCATED,
    Header,
    header_bytes,
    is_entry,
    refusal,
    sample,
)
from supermask.deltas.document import FORMAT_NAME, DeltaDocument, PayloadRecord, parse_document
from supermask.deltas.tensor_bytes import STORED_DTYPES

__all__ = ["check_document", "nbytes", "read_payloads", "serialize"]


class _Entry(NamedTuple):
    """One tensor of the file, as its document has it."""

    name: str
    tag: str
    itemsize: int
    shape: list[int]
    record: PayloadRecord


def serialize(document: DeltaDocument, payloads: Mapping[str, bytes]) -> Iterator[bytes]:
    """The file's bytes, in pieces; equal deltas give equal bytes."""
    yield _header(document)
    for entry in _entries(document):
        yield payloads[entry.name]


def nbytes(document: DeltaDocument) -> int:
    """The size of the file, header and all."""
    return len(_header(document)) + sum(change.nbytes for change in document.changes)


def check_document(header: Header, path: Path) -> DeltaDocument:
    """The document in a header, held against the header's entries.

    Raises:
        DeltaFormatError: if they disagree, or the file ends elsewhere.
    """
    if header.metadata.keys() != {"format", "version", "document", "sha256"}:
        raise refusal(path, f"the metadata has the keys {sample(header.metadata)}", DAMAGED)
    text = header.metadata["document"]
    if not isinstance(text, str) or not _has_hash(text, header.metadata["sha256"]):
        raise refusal(path, "the document does not have the hash that is stated beside it", DAMAGED)
    document = parse_document(text, f"{path}: document")
    _check_entries(header, document, path)
    return document


def read_payloads(file: BinaryIO, header: Header, document: DeltaDocument, path: Path) -> dict[str, bytes]:
    """The payloads by name, each with its hash checked.

    Raises:
        DeltaFormatError: if one has another hash.
    """
    payloads = {}
    for entry in _entries(document):
        file.seek(header.start + header.entries[entry.name]["data_offsets"][0])
        data = file.read(entry.record.nbytes)
        if hashlib.sha256(data).hexdigest() != entry.record.sha256:
            raise refusal(path, f"the payload {entry.name} does not have the hash that the document states", DAMAGED)
        payloads[entry.name] = data
    return payloads


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
        "version": "1",
        "document": text,
        "sha256": hashlib.sha256(text.encode("utf-8")).hexdigest(),
    }
    header: dict[str, Any] = {METADATA: metadata}
    position = 0
    for entry in _entries(document):
        offsets = [position, position + entry.record.nbytes]
        header[entry.name] = {"dtype": entry.tag, "shape": entry.shape, "data_offsets": offsets}
        position = offsets[1]
    return header_bytes(header)


def _has_hash(text: str, expected: object) -> bool:
    try:
        return hashlib.sha256(text.encode("utf-8")).hexdigest() == expected
    except UnicodeEncodeError:
        return False


def _check_entries(header: Header, document: DeltaDocument, path: Path) -> None:
    """Hold the header's tensors against the document: the same ones, laid end to end over the rest of the file."""
    entries = {entry.name: entry for entry in _entries(document)}
    if header.entries.keys() != entries.keys():
        differing = header.entries.keys() ^ entries.keys()
        raise refusal(path, f"the header and the document disagree on tensors {sample(differing)}", DAMAGED)
    spans: list[tuple[int, int, str]] = []
    for name, entry in entries.items():
        found = header.entries[name]
        if not is_entry(found, entry.tag, entry.shape):
            raise refusal(path, f"the header and the document disagree on tensor {name}", DAMAGED)
        offsets = found["data_offsets"]
        if offsets[1] - offsets[0] != entry.record.nbytes:
            raise refusal(
                path, f"tensor {name} spans {offsets[1] - offsets[0]} bytes, not {entry.record.nbytes}", DAMAGED
            )
        spans.append((offsets[0], offsets[1], name))
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            raise refusal(path, f"tensor {name} starts at {begin} and not at {position}", DAMAGED)
        position = end
    if position > header.size:
        raise refusal(path, f"its tensors need {position} bytes and {header.size} are there", TRUNCATED)
    if position < header.size:
        raise refusal(path, f"{header.size - position} bytes follow the last tensor", DAMAGED)
