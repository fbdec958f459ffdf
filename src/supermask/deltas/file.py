"""The file of a delta: one safetensors file of two tensors, the compressed document and all payloads end to end.

The header is always the same but for three numbers and a hash, so it is written and compared here: a file is opened
once, bounded before anything in it is parsed, and written piece by piece. The safetensors library writes the same bytes
and opens every such file. docs/FORMAT.md, section "The file", specifies it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, final

import zstandard

from supermask.atomic import sweep, write_atomically
from supermask.deltas.document import (
    FORMAT_NAME,
    FORMAT_VERSION,
    MAX_TEXT,
    DeltaDocument,
    oversize,
    parse_document,
    parse_json,
)
from supermask.errors import ConfigurationError, DeltaFormatError, OutputError

__all__ = [
    "CONFIG_FILE",
    "DELTA_FILE",
    "Payloads",
    "file_nbytes",
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
_NOT_OURS = "pass a folder or file that TaskDelta.save wrote"
_NAMED = re.compile(rf"{FORMAT_NAME} (\d{{1,9}}) ([0-9a-f]{{64}})")
_OTHER_FILES = {
    b"PK\x03\x04": ("a zip archive, as torch.save writes it; supermask never unpickles", _NOT_OURS),
    b"\x80": ("a pickle file; supermask never unpickles", _NOT_OURS),
    b"version https://git-lfs": ("a Git LFS pointer", "run `git lfs pull` in its folder to get the file itself"),
}


@final
class Payloads(NamedTuple):
    """What a file holds of one change: its coded mask and its coded values, empty if it has none."""

    keep: bytes = b""
    values: bytes = b""


def read_document(path: str | os.PathLike[str]) -> DeltaDocument:
    """Read what a stored delta says about itself; masks and values are not read.

    Args:
        path: the folder that `TaskDelta.save` wrote, or the safetensors file alone.

    Returns:
        The document. The hash of the payloads is in it but has not been checked.

    Raises:
        DeltaFormatError: if there is no delta, or it is truncated, edited or of another version.
    """
    with _opened(Path(path)) as (file, place):
        return _read_document(file, place)


def read_delta(path: str | os.PathLike[str]) -> tuple[DeltaDocument, dict[str, Payloads]]:
    """Read a stored delta as `read_document` does, and its payloads by tensor name, checking their hash too."""
    with _opened(Path(path)) as (file, place):
        document = _read_document(file, place)
        payloads = {
            change.name: Payloads(file.read(change.keep_nbytes or 0), file.read(change.values_nbytes or 0))
            for change in document.changes
        }
        if payloads_digest(payloads.values()) != document.payloads_sha256:
            raise _refusal(place, "the payloads do not have the hash that the document states", _DAMAGED)
        return document, payloads


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
    data = [part for change in document.changes for part in payloads[change.name]]
    write_atomically(file, *_front(document), *data)
    sweep(file)
    if not single:  # nothing reads it back, so it may be the other one's when two write at a time
        write_atomically(target / CONFIG_FILE, _summary(document))
        sweep(target / CONFIG_FILE)
    return file


def payloads_digest(payloads: Iterable[Payloads]) -> str:
    """SHA-256 in hex of all payloads, end to end."""
    found = hashlib.sha256()
    for parts in payloads:
        found.update(parts.keep)
        found.update(parts.values)
    return found.hexdigest()


def file_nbytes(document: DeltaDocument) -> int:
    """The size of a delta's file in bytes, header and all."""
    return sum(map(len, _front(document))) + sum(change.nbytes for change in document.changes)


def require_storable(document: DeltaDocument) -> None:
    """Refuse a document that no reader would take, since it is too large, with a ConfigurationError."""
    if fault := oversize(document.to_json().encode("utf-8")):
        raise ConfigurationError(
            f"this delta cannot be stored: its document is {fault}; put less into method, task and training"
        )


def _front(document: DeltaDocument) -> tuple[bytes, bytes]:
    """What stands before the payloads: the header with its length, and the compressed document."""
    text = document.to_json().encode("utf-8")
    packed: bytes = zstandard.ZstdCompressor(level=_LEVEL).compress(text)
    header = _header(hashlib.sha256(text).hexdigest(), len(packed), sum(change.nbytes for change in document.changes))
    encoded = json.dumps(header, separators=(",", ":")).encode("ascii")
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded, packed


def _header(sha256: str, document: int, payloads: int) -> dict[str, Any]:
    """The header of a file whose tensors have so many bytes."""
    return {
        "__metadata__": {"format": f"{FORMAT_NAME} {FORMAT_VERSION} {sha256}"},
        "document": {"dtype": "U8", "shape": [document], "data_offsets": [0, document]},
        "payloads": {"dtype": "U8", "shape": [payloads], "data_offsets": [document, document + payloads]},
    }


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """The delta's file, open, and where it is."""
    # Not to wait for the other end of a pipe, or for a device.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        place = path / DELTA_FILE if path.is_dir() else path
        if "\0" in str(place):
            raise _refusal(path, "no such file", _NOT_OURS)
        with open(place, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _refusal(place, "not a regular file", _NOT_OURS)
            yield file, place
    except FileNotFoundError:
        what = f"no delta in this folder, it has no {DELTA_FILE}" if path.is_dir() else "no such file"
        raise _refusal(path, what, _NOT_OURS) from None
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "it does not fit into memory"
        raise _refusal(path, f"cannot be read: {reason}", "check the path and its permissions") from None


def _read_document(file: BinaryIO, path: Path) -> DeltaDocument:
    """The document, checked and held against the header and the size of the file; leaves the file at the payloads."""
    sha256, packed_nbytes, payloads_nbytes = _read_header(file, path)
    if packed_nbytes > MAX_TEXT:
        raise _refusal(path, f"the document has {packed_nbytes} compressed bytes, more than {MAX_TEXT}", _DAMAGED)
    text = _expand(file.read(packed_nbytes), path)
    if hashlib.sha256(text).hexdigest() != sha256:
        raise _refusal(path, "the document does not have the hash that is stated in the header", _DAMAGED)
    document = parse_document(text, f"{path}: document")
    stated = sum(change.nbytes for change in document.changes)
    if stated != payloads_nbytes:
        raise _refusal(path, f"the payloads have {payloads_nbytes} bytes, and {stated} in the document", _DAMAGED)
    return document


def _read_header(file: BinaryIO, path: Path) -> tuple[str, int, int]:
    """The document's hash, and the sizes of the compressed document and of the payloads, which end the file."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(32)
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{":
        raise _refusal(path, *_guess(start))
    if length > _MAX_HEADER:
        raise _refusal(path, f"not a delta: its header has {length} bytes, more than {_MAX_HEADER}", _NOT_OURS)
    if 8 + length > size:
        raise _refusal(path, f"the header should have {length} bytes and the file ends after {size - 8}", _TRUNCATED)
    file.seek(8)
    header = parse_json(file.read(length).rstrip(b" "), f"{path}: header")
    named = _field(header, "__metadata__", "format")
    if not isinstance(named, str) or not named.startswith(FORMAT_NAME):
        raise _refusal(path, "a safetensors file, but not a delta", _NOT_OURS)
    version, sha256 = match.groups() if (match := _NAMED.fullmatch(named)) else (None, "")
    if version != str(FORMAT_VERSION):
        raise _refusal(
            path,
            f"format version {version or 'unknown'} is not the one that this supermask reads, {FORMAT_VERSION}",
            "upgrade supermask, or get a delta saved by this version",
        )
    ends = [_field(header, key, "data_offsets", 1) for key in ("document", "payloads")]
    first, second = (end if type(end) is int else -1 for end in ends)
    # As text, since to Python 1.0 and true equal 1.
    if json.dumps(header, sort_keys=True) != json.dumps(_header(sha256, first, second - first), sort_keys=True):
        raise _refusal(path, "the header is not that of a delta", _DAMAGED)
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
        "bytes": file_nbytes(document),
    }
    return json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8") + b"\n"


def _guess(start: bytes) -> tuple[str, str]:
    """What a file that is no safetensors file may be, and the remedy."""
    for magic, (what, remedy) in _OTHER_FILES.items():
        if start.startswith(magic):
            return f"not a delta but {what}", remedy
    if len(start) < 9:
        return f"the file has {len(start)} bytes and so no header", _TRUNCATED
    return "not a delta: it is no safetensors file", _NOT_OURS


def _refusal(path: Path, what: str, remedy: str) -> DeltaFormatError:
    return DeltaFormatError(f"{path}: {what}; {remedy}")
