"""What a sparse checkpoint's file says about itself, and the file: JSON in a safetensors header, payloads behind it.

docs/export.md, section "The sparse file", specifies both.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal, final

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from supermask.deltas.coding import is_storable_shape
from supermask.deltas.document import describe_invalid, parse_json
from supermask.deltas.tensor_bytes import STORED_DTYPES
from supermask.errors import DeltaFormatError

__all__ = [
    "MAX_EXPANSION",
    "SPARSE_FILE",
    "SPARSE_FORMAT",
    "KeepPayload",
    "SparseDocument",
    "SparseFile",
    "StoredTensor",
    "ValuesPayload",
    "open_sparse",
    "read_sparse_document",
    "sha256_hex",
    "sparse_file_pieces",
]

SPARSE_FILE: Final = "sparse_model.safetensors"
SPARSE_FORMAT: Final = "supermask-sparse-checkpoint"

MAX_EXPANSION: Final = 4096
"""How many times larger than its file a model may be: a file of 1 MB never makes a reader allocate more than 4 GB."""

_Count = Annotated[int, Field(ge=0, lt=1 << 53)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]  # messages can show it as it is
_ALIGNMENT: Final = 8


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@final
class KeepPayload(_Record):
    """A coded keep mask in the file."""

    nbytes: _Count
    sha256: _Sha256


@final
class ValuesPayload(_Record):
    """Coded values in the file, and how they are coded."""

    nbytes: _Count
    sha256: _Sha256
    coding: Literal["raw", "shuffle"]


@final
class StoredTensor(_Record):
    """One tensor of the model, under each of its names if it is shared."""

    names: tuple[_Name, ...] = Field(min_length=1)
    shape: tuple[_Count, ...]
    dtype: str
    zeros: _Count | None = None
    keep: KeepPayload | None = None
    values: ValuesPayload

    @property
    def weights(self) -> int:
        """The size of the tensor."""
        return math.prod(self.shape)

    @property
    def kept(self) -> int:
        """How many values are stored."""
        return self.weights - (self.zeros or 0)

    @property
    def dense_nbytes(self) -> int:
        """The size of the tensor in memory."""
        return self.weights * STORED_DTYPES[self.dtype].itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of its payloads in the file."""
        return self.values.nbytes + (self.keep.nbytes if self.keep else 0)

    @property
    def payloads(self) -> dict[str, KeepPayload | ValuesPayload]:
        """What the file holds of it, by name in the file."""
        keep = {f"{self.names[0]}:keep": self.keep} if self.keep else {}
        return {**keep, f"{self.names[0]}:values": self.values}

    @model_validator(mode="after")
    def _consistent(self) -> StoredTensor:
        name = self.names[0]
        if self.dtype not in STORED_DTYPES:
            raise ValueError(f"{name}: dtype {self.dtype!r} is none of {', '.join(STORED_DTYPES)}")
        if not is_storable_shape(self.shape):
            raise ValueError(f"{name}: shape {self.shape} is beyond the format's limit")
        if (self.zeros is None) != (self.keep is None) or (self.zeros or 0) > self.weights:
            raise ValueError(f"{name}: {self.zeros} zeros among {self.weights} weights")
        nbytes = self.kept * STORED_DTYPES[self.dtype].itemsize
        if self.values.nbytes > nbytes or (self.values.coding == "raw" and self.values.nbytes < nbytes):
            raise ValueError(f"{name}: {self.values.nbytes} bytes of values do not fit its shape and zeros")
        return self


@final
class SparseDocument(_Record):
    """All that a sparse checkpoint's file says about itself."""

    format: Literal["supermask-sparse-checkpoint"]
    version: Literal[1]
    architecture: _Name
    base: _Name | None = None
    base_fingerprint: _Sha256
    delta: _Sha256
    method: dict[str, JsonValue]
    task: dict[str, JsonValue]
    tensors: tuple[StoredTensor, ...] = Field(min_length=1)

    @property
    def weights(self) -> int:
        """The size of the tensors that have a keep mask."""
        return sum(tensor.weights for tensor in self.tensors if tensor.keep)

    @property
    def zeros(self) -> int:
        """How many of those weights are zero."""
        return sum(tensor.zeros or 0 for tensor in self.tensors)

    @property
    def dense_nbytes(self) -> int:
        """The size of the whole model in memory, a shared tensor counted once."""
        return sum(tensor.dense_nbytes for tensor in self.tensors)

    @property
    def nbytes(self) -> int:
        """The size of the file, header and all."""
        return len(_header(self)) + sum(tensor.nbytes for tensor in self.tensors)

    def to_json(self) -> str:
        """The document as JSON: sorted keys, absent fields left out, no white space; equal ones give equal text."""
        content = self.model_dump(mode="json", exclude={"tensors", "base"})
        if self.base is not None:
            content["base"] = self.base
        content["tensors"] = [tensor.model_dump(mode="json", exclude_none=True) for tensor in self.tensors]
        return json.dumps(content, separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False)

    @model_validator(mode="after")
    def _consistent(self) -> SparseDocument:
        names = [name for tensor in self.tensors for name in tensor.names]
        payloads = [name for tensor in self.tensors for name in tensor.payloads]
        if len(set(names)) < len(names) or len(set(payloads)) < len(payloads):
            raise ValueError("a tensor is named twice")
        if self.dense_nbytes > MAX_EXPANSION * sum(tensor.nbytes for tensor in self.tensors):
            raise ValueError(f"the model is more than {MAX_EXPANSION} times as large as what is stored of it")
        return self


@final
class SparseFile:
    """An open sparse checkpoint: its document, checked, and its payloads, read and checked one by one."""

    def __init__(self, path: Path, document: SparseDocument, file: Any) -> None:
        self.document = document
        self._path = path
        self._file = file

    def payload(self, name: str, record: KeepPayload | ValuesPayload) -> memoryview:
        """The bytes of one payload.

        Raises:
            DeltaFormatError: if they do not have the hash that the document states.
        """
        data = memoryview(self._file.get_tensor(name))
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise _refusal(self._path, f"the payload {name} does not have the hash that the document states")
        return data


def sha256_hex(data: bytes) -> str:
    """SHA-256 in hex.

    Example:
        >>> sha256_hex(b"")[:8]
        'e3b0c442'
    """
    return hashlib.sha256(data).hexdigest()


def sparse_file_pieces(document: SparseDocument, payloads: Mapping[str, bytes]) -> Iterator[bytes]:
    """The file's bytes, in pieces; equal documents and payloads give equal bytes."""
    yield _header(document)
    for tensor in document.tensors:
        for name in tensor.payloads:
            yield payloads[name]


def read_sparse_document(folder: str | os.PathLike[str]) -> SparseDocument:
    """Read what a sparse checkpoint says about itself; masks and values are not read.

    Args:
        folder: as `save_sparse_checkpoint` wrote it.

    Raises:
        DeltaFormatError: if there is no sparse checkpoint, or it is truncated or edited.
    """
    with open_sparse(folder) as file:
        return file.document


@contextmanager
def open_sparse(folder: str | os.PathLike[str]) -> Iterator[SparseFile]:
    """Open a sparse checkpoint and check all but its payloads.

    Raises:
        DeltaFormatError: if there is none, or it is truncated, edited or of another version.
    """
    path = Path(folder) / SPARSE_FILE
    if not path.is_file():
        raise DeltaFormatError(
            f"{folder}: no sparse checkpoint in this folder, it has no {SPARSE_FILE}; pass a folder that "
            "save_sparse_checkpoint wrote"
        )
    try:
        opened = safe_open(path, framework="np")
    except (SafetensorError, OSError) as error:
        raise _refusal(path, f"not a whole safetensors file ({str(error)[:200]})") from None
    with opened as file:
        document = _read_document(path, file.metadata() or {})
        expected = {name: [record.nbytes] for tensor in document.tensors for name, record in tensor.payloads.items()}
        found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        if expected != {name: part.get_shape() for name, part in found.items()}:
            raise _refusal(path, "the header and the document disagree on what is stored")
        if strange := [name for name, part in found.items() if part.get_dtype() != "U8"]:
            raise _refusal(path, f"{strange[0]} is not stored as bytes")
        yield SparseFile(path, document, file)


def _read_document(path: Path, metadata: Mapping[str, str]) -> SparseDocument:
    if metadata.get("format") != SPARSE_FORMAT:
        raise _refusal(path, "a safetensors file, but no sparse checkpoint")
    if metadata.get("version") != "1":
        raise DeltaFormatError(
            f"{path}: format version {str(metadata.get('version'))[:20]!r} is unknown here, this supermask reads "
            "version 1; upgrade supermask"
        )
    text, keys = metadata.get("document", ""), {"format", "version", "document", "sha256"}
    if metadata.keys() != keys or sha256_hex(text.encode()) != metadata["sha256"]:
        raise _refusal(path, "the document does not have the hash that is stated beside it")
    parse_json(text.encode(), f"{path}: document")  # refuses what pydantic would let pass: keys that stand twice
    try:
        return SparseDocument.model_validate_json(text)
    except ValidationError as error:
        raise DeltaFormatError(f"{path}: document: {describe_invalid(error)}") from None


def _header(document: SparseDocument) -> bytes:
    text = document.to_json()
    metadata = {"format": SPARSE_FORMAT, "version": "1", "document": text, "sha256": sha256_hex(text.encode())}
    header: dict[str, Any] = {"__metadata__": metadata}
    position = 0
    for tensor in document.tensors:
        for name, record in tensor.payloads.items():
            end = position + record.nbytes
            header[name] = {"dtype": "U8", "shape": [record.nbytes], "data_offsets": [position, end]}
            position = end
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    return len(encoded).to_bytes(8, "little") + encoded


def _refusal(path: Path, what: str) -> DeltaFormatError:
    return DeltaFormatError(f"{path}: {what}; the file is damaged or was edited: get it again, or export it again")
