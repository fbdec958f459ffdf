"""One safetensors file that holds a delta, in whichever version of the format it was written.

Files are written and checked here and not by the safetensors library, for two reasons: its header lists metadata in
random order, so equal deltas would give unequal files, and a delta's header must hold exactly what its document says,
which the library cannot know. Any safetensors reader opens the files. docs/FORMAT.md specifies them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from supermask.deltas import container_v1, container_v2
from supermask.deltas.container_header import Header, read_header, refusal
from supermask.deltas.document import FORMAT_VERSION, DeltaDocument
from supermask.errors import DeltaFormatError

__all__ = ["container_nbytes", "read_container", "read_container_document", "serialize_container"]


def serialize_container(document: DeltaDocument, payloads: Mapping[str, bytes]) -> Iterator[bytes]:
    """The file's bytes, in pieces: header, document, payloads.

    Args:
        document: of the delta; its version is the file's.
        payloads: `NAME:keep` and `NAME:values` to bytes, as the document records them.

    Yields:
        Pieces to write one after the other; equal deltas give equal bytes.
    """
    serialize = container_v1.serialize if document.version == 1 else container_v2.serialize
    return serialize(document, payloads)


def container_nbytes(document: DeltaDocument) -> int:
    """The size of a delta's file in bytes, header and all."""
    return container_v1.nbytes(document) if document.version == 1 else container_v2.nbytes(document)


def read_container_document(path: Path) -> DeltaDocument:
    """Read a delta's document; payloads are not read.

    Raises:
        DeltaFormatError: if the file is missing, truncated, edited or not a delta.
    """
    with _opened(path) as file:
        return _read_document(file, path)[1]


def read_container(path: Path) -> tuple[DeltaDocument, dict[str, bytes]]:
    """Read a delta's file, checking the hash of everything.

    Returns:
        The document, and the payloads by name.

    Raises:
        DeltaFormatError: if the file is missing, truncated, edited or not a delta.
    """
    with _opened(path) as file:
        header, document = _read_document(file, path)
        read = container_v1.read_payloads if document.version == 1 else container_v2.read_payloads
        return document, read(file, header, document, path)


def _read_document(file: BinaryIO, path: Path) -> tuple[Header, DeltaDocument]:
    header = read_header(file, path)
    version = header.metadata.get("version")
    if version == "1":
        document = container_v1.check_document(header, path)
    elif version == "2":
        document = container_v2.check_document(file, header, path)
    else:
        raise refusal(
            path,
            f"format version {version!r} is unknown here, this supermask reads versions 1 to {FORMAT_VERSION}",
            "upgrade supermask, or get a delta saved by this version",
        )
    if str(document.version) != version:
        raise refusal(
            path, f"the header says version {version} and the document {document.version}", "get the file again"
        )
    return header, document


def _opened(path: Path) -> BinaryIO:
    try:
        if not path.is_file():
            raise refusal(path, "no such file", "pass a folder or file that TaskDelta.save wrote")
        return path.open("rb")
    except OSError as error:
        raise DeltaFormatError(
            f"{path}: cannot be read: {error.strerror}; check the path and its permissions"
        ) from None
