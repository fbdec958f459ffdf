"""The file: one safetensors file of two tensors, the compressed document and all payloads end to end.

A delta's is one kind of it, a sparse checkpoint's another. Its header is always the same but for a hash and two sizes,
so it is written and compared here; everything is bounded before it is parsed. The safetensors library writes the same
bytes. docs/FORMAT.md, section "The file", specifies it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Generic, NamedTuple, TypeVar, final

import zstandard

from supermask.atomic import sweep, write_atomically
from supermask.deltas.document import (
    FORMAT_NAME,
    FORMAT_VERSION,
    MAX_TEXT,
    DeltaDocument,
    StoredDocument,
    oversize,
    parse_json,
)
from supermask.errors import ConfigurationError, DeltaFormatError, OutputError

__all__ = [
    "CONFIG_FILE",
    "DELTA",
    "DELTA_FILE",
    "FileKind",
    "OpenFile",
    "Payloads",
    "file_nbytes",
    "file_pieces",
    "opened",
    "payloads_digest",
    "read_delta",
    "read_document",
    "require_storable",
    "write_delta",
]

DELTA_FILE = "delta.safetensors"
CONFIG_FILE = "delta_config.json"

_MAX_HEADER = 1 << 16
_LEVEL = 19
_TRUNCATED = "the file is truncated: get it again"
_DAMAGED = "the file is damaged or was edited: get it again"
_OTHER_FILES = {
    b"PK\x03\x04": ("a zip archive, as torch.save writes it; supermask never unpickles", None),
    b"\x80": ("a pickle file; supermask never unpickles", None),
    b"version https://git-lfs": ("a Git LFS pointer", "run `git lfs pull` in its folder to get the file itself"),
}

_DocumentT = TypeVar("_DocumentT", bound=StoredDocument)


@final
@dataclass(frozen=True, kw_only=True)
class FileKind(Generic[_DocumentT]):
    """One kind of file: what its header says, what its document is, and what it is called.

    Args:
        document: the class of its document.
        format: its name in the header.
        version: that is written, and the only one that is read.
        file: what it is called in a folder.
        noun: what it is called in messages.
        writer: what writes it, for messages.
    """

    document: type[_DocumentT]
    format: str
    version: int
    file: str
    noun: str
    writer: str

    @property
    def remedy(self) -> str:
        """What to do about a file of no such kind."""
        return f"pass a folder or file that {self.writer} wrote"


DELTA = FileKind(
    document=DeltaDocument,
    format=FORMAT_NAME,
    version=FORMAT_VERSION,
    file=DELTA_FILE,
    noun="delta",
    writer="TaskDelta.save",
)


@final
class Payloads(NamedTuple):
    """What a file holds of one change: its coded mask and its coded values, empty if it has none."""

    keep: bytes = b""
    values: bytes = b""


@final
@dataclass(frozen=True)
class OpenFile(Generic[_DocumentT]):
    """A file whose document has been read and checked, open at its payloads."""

    place: Path
    document: _DocumentT
    _file: BinaryIO

    def payloads(self) -> Iterator[tuple[str, Payloads]]:
        """Name and payloads of each change, in order; a wrong hash is told after the last, so read them all."""
        start, found = self._file.tell(), hashlib.sha256()
        for change in self.document.changes:
            parts = Payloads(self._file.read(change.keep_nbytes or 0), self._file.read(change.values_nbytes or 0))
            for part in parts:
                found.update(part)
            yield change.name, parts
        if found.hexdigest() != self.document.payloads_sha256:
            raise _refusal(self.place, "the payloads do not have the hash that the document states", _DAMAGED)
        self._file.seek(start)


def read_document(path: str | os.PathLike[str]) -> DeltaDocument:
    """Read what a delta says about itself, from its folder or file; masks and values are neither read nor checked.

    Raises:
        DeltaFormatError: if there is no delta, or it is truncated, edited or of another version.
    """
    with opened(DELTA, path) as file:
        return file.document


def read_delta(path: str | os.PathLike[str]) -> tuple[DeltaDocument, dict[str, Payloads]]:
    """Read a stored delta as `read_document` does, and its payloads by tensor name, checking their hash too."""
    with opened(DELTA, path) as file:
        return file.document, dict(file.payloads())


def write_delta(
    path: str | os.PathLike[str],
    document: DeltaDocument,
    payloads: Mapping[str, Payloads],
    *,
    overwrite: bool = False,
) -> Path:
    """Write a delta so that at any moment the old one or the new one is there, whole; see `TaskDelta.save`."""
    target = Path(path)
    single = target.suffix == ".safetensors"
    file = target if single else target / DELTA_FILE
    if not overwrite and os.path.lexists(file):
        raise OutputError(f"{file} exists already; pass overwrite=True to replace it, or choose another path")
    write_atomically(file, *file_pieces(DELTA, document, payloads))
    sweep(file)
    if not single:  # nothing reads it back, so it may be the other one's when two write at a time
        write_atomically(target / CONFIG_FILE, _summary(document))
        sweep(target / CONFIG_FILE)
    return file


def payloads_digest(payloads: Iterable[Payloads]) -> str:
    """SHA-256 in hex of all payloads, end to end."""
    found = hashlib.sha256()
    for part in chain.from_iterable(payloads):
        found.update(part)
    return found.hexdigest()


def file_pieces(kind: FileKind[_DocumentT], document: _DocumentT, payloads: Mapping[str, Payloads]) -> list[bytes]:
    """The bytes of a file in pieces; equal documents and payloads give equal bytes."""
    return [*_front(kind, document), *(part for change in document.changes for part in payloads[change.name])]


def file_nbytes(kind: FileKind[_DocumentT], document: _DocumentT) -> int:
    """The size of a file in bytes, header and all."""
    return sum(map(len, _front(kind, document))) + document.payloads_nbytes


def require_storable(kind: FileKind[_DocumentT], document: _DocumentT) -> None:
    """Refuse a document that no reader would take, since it is too large, with a ConfigurationError."""
    if fault := oversize(document.to_json().encode("utf-8")):
        raise ConfigurationError(
            f"this {kind.noun} cannot be stored: its document is {fault}; put less into method, task and training"
        )


def _front(kind: FileKind[_DocumentT], document: _DocumentT) -> tuple[bytes, bytes]:
    """What stands before the payloads: the header with its length, and the compressed document."""
    text = document.to_json().encode("utf-8")
    packed: bytes = zstandard.ZstdCompressor(level=_LEVEL).compress(text)
    header = _header(kind, hashlib.sha256(text).hexdigest(), len(packed), document.payloads_nbytes)
    encoded = json.dumps(header, separators=(",", ":")).encode("ascii")
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded, packed


def _header(kind: FileKind[Any], sha256: str, document: int, payloads: int) -> dict[str, Any]:
    """The header of a file whose tensors have so many bytes."""
    return {
        "__metadata__": {"format": f"{kind.format} {kind.version} {sha256}"},
        "document": {"dtype": "U8", "shape": [document], "data_offsets": [0, document]},
        "payloads": {"dtype": "U8", "shape": [payloads], "data_offsets": [document, document + payloads]},
    }


@contextmanager
def opened(kind: FileKind[_DocumentT], path: str | os.PathLike[str]) -> Iterator[OpenFile[_DocumentT]]:
    """Open a file, or the one in a folder, and check all but its payloads.

    Raises:
        DeltaFormatError: if there is none, or it is truncated, edited or of another kind or version.
    """
    path = Path(path)
    # Not to wait for the other end of a pipe, or for a device.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        place = path / kind.file if path.is_dir() else path
        if "\0" in str(place):
            raise _refusal(path, "no such file", kind.remedy)
        with open(place, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _refusal(place, "not a regular file", kind.remedy)
            yield OpenFile(place, _read_document(kind, file, place), file)
    except FileNotFoundError:
        what = f"no {kind.noun} in this folder, it has no {kind.file}" if path.is_dir() else "no such file"
        raise _refusal(path, what, kind.remedy) from None
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "it does not fit into memory"
        raise _refusal(path, f"cannot be read: {reason}", "check the path and its permissions") from None


def _read_document(kind: FileKind[_DocumentT], file: BinaryIO, path: Path) -> _DocumentT:
    """The document, checked and held against the header and the size of the file; leaves the file at the payloads."""
    sha256, packed_nbytes, payloads_nbytes = _read_header(kind, file, path)
    if packed_nbytes > MAX_TEXT:
        raise _refusal(path, f"the document has {packed_nbytes} compressed bytes, more than {MAX_TEXT}", _DAMAGED)
    text = _expand(file.read(packed_nbytes), path)
    if hashlib.sha256(text).hexdigest() != sha256:
        raise _refusal(path, "the document does not have the hash that is stated in the header", _DAMAGED)
    document = kind.document.from_json(text, f"{path}: document")
    if payloads_nbytes != (stated := document.payloads_nbytes):
        raise _refusal(path, f"the payloads have {payloads_nbytes} bytes, and {stated} in the document", _DAMAGED)
    return document


def _read_header(kind: FileKind[Any], file: BinaryIO, path: Path) -> tuple[str, int, int]:
    """The document's hash, and the sizes of the compressed document and of the payloads, which end the file."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(32)
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{":
        raise _refusal(path, *_guess(kind, start))
    if length > _MAX_HEADER:
        raise _refusal(path, f"not a {kind.noun}: its header has {length} bytes, more than {_MAX_HEADER}", kind.remedy)
    if 8 + length > size:
        raise _refusal(path, f"the header should have {length} bytes and the file ends after {size - 8}", _TRUNCATED)
    file.seek(8)
    header = parse_json(file.read(length).rstrip(b" "), f"{path}: header")
    named = _field(header, "__metadata__", "format")
    if not isinstance(named, str) or not named.startswith(kind.format):
        raise _refusal(path, f"a safetensors file, but not a {kind.noun}", kind.remedy)
    match = re.fullmatch(rf"{kind.format} (\d{{1,9}}) ([0-9a-f]{{64}})", named)
    version, sha256 = match.groups() if match else (None, "")
    if version != str(kind.version):
        raise _refusal(
            path,
            f"format version {version or 'unknown'} is not the one that this supermask reads, {kind.version}",
            f"upgrade supermask, or get a {kind.noun} saved by this version",
        )
    ends = [_field(header, key, "data_offsets", 1) for key in ("document", "payloads")]
    first, second = (end if type(end) is int else -1 for end in ends)
    # As text, since to Python 1.0 and true equal 1.
    whole = json.dumps(_header(kind, sha256, first, second - first), sort_keys=True)
    if json.dumps(header, sort_keys=True) != whole:
        raise _refusal(path, f"the header is not that of a {kind.noun}", _DAMAGED)
    needed, found = second, size - 8 - length
    if not 0 <= first <= second <= found:
        raise _refusal(path, f"its tensors need {needed} bytes and {found} are there", _TRUNCATED)
    if needed < found:
        raise _refusal(path, f"{found - needed} bytes follow the last tensor", _DAMAGED)
    return sha256, first, second - first


def _field(value: Any, *keys: str | int) -> Any:
    """What stands at a place of a JSON value; None if there is no such place."""
    for key in keys:
        try:
            value = value[key]
        except (TypeError, LookupError):
            return None
    return value


def _expand(packed: bytes, path: Path) -> bytes:
    """The document's text; what it may expand to is known before a byte is expanded."""
    try:
        size = zstandard.get_frame_parameters(packed).content_size  # far above the limit if it states none
        if size > MAX_TEXT:
            raise _refusal(path, f"the document states more than {MAX_TEXT} bytes, or no size", _DAMAGED)
        text: bytes = zstandard.ZstdDecompressor(max_window_size=MAX_TEXT).decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise _refusal(path, f"the document is not zstd data ({error})", _DAMAGED) from None
    return text


def _summary(document: DeltaDocument) -> bytes:
    """A few facts in JSON, for people and for tools that list folders; about half a kilobyte."""

    def shown(text: str | None) -> str | None:
        return text if text is None else text[:60]

    base, task = document.base, document.task
    content = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "digest": document.digest,
        "base": {"name": shown(base.name), "digest": base.digest},
        "task": {"name": shown(task.name), "kind": shown(task.kind), "labels": len(task.label_names)},
        "method": shown(document.method.kind),
        "zeros": document.zeros,
        "weights": document.weights,
        "sparsity": round(document.sparsity, 6),
        "bytes": file_nbytes(DELTA, document),
    }
    return json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8") + b"\n"


def _guess(kind: FileKind[Any], start: bytes) -> tuple[str, str]:
    """What a file that is no safetensors file may be, and the remedy."""
    for magic, (what, remedy) in _OTHER_FILES.items():
        if start.startswith(magic):
            return f"not a {kind.noun} but {what}", remedy or kind.remedy
    if len(start) < 9:
        return f"the file has {len(start)} bytes and so no header", _TRUNCATED
    return f"not a {kind.noun}: it is no safetensors file", kind.remedy


def _refusal(path: Path, what: str, remedy: str) -> DeltaFormatError:
    return DeltaFormatError(f"{path}: {what}; {remedy}")
