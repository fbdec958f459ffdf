"""Files of format version 2 written and read by docs/FORMAT.md alone: no code shared with the library."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import zstandard
from torch import Tensor

from deltas import reference_values, reference_version_1
from deltas.coding import reference_masks
from deltas.reference_version_1 import as_json, dtype_of, raw
from supermask.deltas import Change, DenseValues, KeepMask


class File(NamedTuple):
    header: dict[str, Any]
    packed: bytes
    payloads: bytes

    @property
    def text(self) -> str:
        return zstandard.ZstdDecompressor().decompressobj().decompress(self.packed).decode()

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.text)
        return document


def split(data: bytes) -> File:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    tensors = {key: header[key]["data_offsets"] for key in ("document", "payloads")}
    body = data[8 + length :]
    return File(header, *(body[begin:end] for begin, end in tensors.values()))


def header_of(text: str | bytes, packed: int, payloads: int) -> dict[str, Any]:
    content = text if isinstance(text, bytes) else text.encode()
    return {
        "__metadata__": {
            "format": "supermask-delta",
            "version": "2",
            "sha256": hashlib.sha256(content).hexdigest(),
        },
        "document": {"dtype": "U8", "shape": [packed], "data_offsets": [0, packed]},
        "payloads": {"dtype": "U8", "shape": [payloads], "data_offsets": [packed, packed + payloads]},
    }


def joined(text: str | bytes, payloads: bytes, *, packed: bytes | None = None) -> bytes:
    """A file; the document's frame is written by hand, in uncompressed blocks, unless it is given."""
    content = text if isinstance(text, bytes) else text.encode()
    packed = reference_values.frame(content) if packed is None else packed
    body = packed + payloads
    return reference_version_1.joined(header_of(text, len(packed), len(payloads)), body)


def document_and_payloads(
    changes: Mapping[str, Change], *, base: Mapping[str, Tensor], **described: Any
) -> tuple[dict[str, Any], bytes]:
    """Masks in form 0 and values raw."""
    document, payloads = reference_version_1.document_and_payloads(changes, base=base, **described)
    document["version"] = 2
    document["base"]["tensors"] = {name: short[:8] for name, short in document["base"]["tensors"].items()}
    everything = b""
    for record in document["changes"]:
        for part in ("keep", "values"):
            if part in record:
                data = (b"\0" if part == "keep" else b"") + payloads[f"{record['name']}:{part}"]
                record[part] = {"nbytes": len(data), "crc32": f"{zlib.crc32(data):08x}"}
                everything += data
        if "values" in record:
            record["values"]["coding"] = "raw"
    return document | {"payloads_sha256": hashlib.sha256(everything).hexdigest()}, everything


def file_bytes(changes: Mapping[str, Change], **described: Any) -> bytes:
    """The whole file."""
    document, payloads = document_and_payloads(changes, **described)
    return joined(as_json(document), payloads)


class Found(NamedTuple):
    """A change as it was read: which weights survive, and the values' bytes."""

    keep: list[bool] | None
    values: bytes | None


def expected(change: Change) -> Found:
    keep = None if isinstance(change, DenseValues) else change.keep.reshape(-1).tolist()
    values = None if isinstance(change, KeepMask) else (raw(change.values) if change.values.numel() else b"")
    return Found(keep, values)


def read(data: bytes, base: Mapping[str, Tensor]) -> dict[str, Found]:
    """What a file does to each tensor."""
    file = split(data)
    document = file.document
    assert hashlib.sha256(file.text.encode()).hexdigest() == file.header["__metadata__"]["sha256"]
    assert hashlib.sha256(file.payloads).hexdigest() == document["payloads_sha256"]
    position, found = 0, {}
    for record in document["changes"]:
        parts: dict[str, bytes] = {}
        for part in ("keep", "values"):
            if part in record:
                parts[part] = file.payloads[position : position + record[part]["nbytes"]]
                assert f"{zlib.crc32(parts[part]):08x}" == record[part]["crc32"]
                position += len(parts[part])
        keep = values = None
        if "keep" in parts:
            old = base[record["name"]]
            keep = reference_masks.decode(parts["keep"], record["shape"], record["zeros"], bits_of(old))
        if "values" in parts:
            values = read_values(record, parts["values"], keep, base.get(record["name"]))
        found[record["name"]] = Found(keep, values)
    assert position == len(file.payloads)
    return found


def read_values(record: Mapping[str, Any], data: bytes, keep: Sequence[bool] | None, base: Tensor | None) -> bytes:
    count = torch.Size(record["shape"]).numel() if keep is None else sum(keep)
    dtype, olds = record["dtype"], []
    if "rounded" in record:
        dtype = record["rounded"]
        # To nearest, ties to even; the bases of these tests have neither NaN nor values beyond the range.
        base = None if base is None else base.to(getattr(torch, dtype))
    if "difference" in record["values"]["coding"]:
        assert base is not None
        olds = bits_of(base).bits
        olds = olds if keep is None else [old for old, kept in zip(olds, keep, strict=True) if kept]
    elements = reference_values.decode(data, dtype, count, record["values"]["coding"], olds)
    size = reference_values.SIZE[dtype]
    values = b"".join(element.to_bytes(size, "little") for element in elements)
    return values if dtype == record["dtype"] else widened(values, dtype, record["dtype"])


def widened(values: bytes, kind: str, dtype: str) -> bytes:
    """16-bit floating-point numbers as those of 32 or 64 bits."""
    pairs = [values[place : place + 2] for place in range(0, len(values), 2)]
    singles = [
        struct.unpack("<f", b"\0\0" + pair)[0] if kind == "bfloat16" else struct.unpack("<e", pair)[0] for pair in pairs
    ]
    return b"".join(struct.pack("<f" if dtype == "float32" else "<d", single) for single in singles)


def bits_of(tensor: Tensor) -> reference_masks.Base:
    size, data = tensor.element_size(), raw(tensor) if tensor.numel() else b""
    bits = [int.from_bytes(data[place : place + size], "little") for place in range(0, len(data), size)]
    return reference_masks.Base(bits, dtype_of(tensor))
