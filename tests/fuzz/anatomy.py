"""A delta's file taken apart, and put together again with every hash right: what mutators and attacks work on.

No code is shared with the library, so that what is put together may be as wrong as one likes.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass
from typing import Any

import zstandard

__all__ = ["Anatomy", "frame_of_zeros", "in_file", "pack", "put_together", "take_apart"]

SHORT_HASH = {1: 16, 2: 8}
TAGS = {
    "float64": ("F64", 8),
    "float32": ("F32", 4),
    "float16": ("F16", 2),
    "bfloat16": ("BF16", 2),
    "float8_e4m3fn": ("F8_E4M3", 1),
    "float8_e5m2": ("F8_E5M2", 1),
    "int64": ("I64", 8),
    "int32": ("I32", 4),
    "int16": ("I16", 2),
    "int8": ("I8", 1),
    "uint8": ("U8", 1),
}


@dataclass
class Anatomy:
    """The parts of a delta's file.

    Args:
        version: of the layout.
        document: as plain JSON.
        payloads: `NAME:keep` and `NAME:values` to bytes, in the order of the changes.
    """

    version: int
    document: Any
    payloads: dict[str, bytes]


def take_apart(data: bytes) -> Anatomy:
    """The parts of an intact file of either version."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    version = int(header["__metadata__"]["version"])
    if version == 1:
        document = json.loads(header["__metadata__"]["document"])
        payloads = {}
        for name in names_of(document):
            begin, end = header[name]["data_offsets"]
            payloads[name] = body[begin:end]
        return Anatomy(1, document, payloads)
    begin, end = header["document"]["data_offsets"]
    document = json.loads(zstandard.ZstdDecompressor().decompress(body[begin:end]))
    payloads, place = {}, end
    for change in document["changes"]:
        for part in ("keep", "values"):
            if part in change:
                following = place + change[part]["nbytes"]
                payloads[f"{change['name']}:{part}"] = body[place:following]
                place = following
    return Anatomy(2, document, payloads)


def put_together(anatomy: Anatomy, *, text: bytes | None = None, packed: bytes | None = None) -> bytes:
    """The file of some parts, sizes and hashes put right as far as the document still has places for them.

    Args:
        anatomy: the parts; the document gets the payloads' sizes and hashes.
        text: what stands for the document in place of its JSON.
        packed: the compressed document of version 2, in place of one that is made of the text.
    """
    seal(anatomy)
    if text is None:
        text = json.dumps(anatomy.document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
    sha256 = hashlib.sha256(text).hexdigest()
    if anatomy.version == 1:
        header, body = entries_1(anatomy)
        metadata = {"format": "supermask-delta", "version": "1"}
        metadata |= {"document": text.decode("utf-8", "replace"), "sha256": sha256}
        return in_file({"__metadata__": metadata, **header}, body)
    packed = pack(text) if packed is None else packed
    body = b"".join(anatomy.payloads.values())
    metadata = {"format": "supermask-delta", "version": "2", "sha256": sha256}
    ends = (len(packed), len(packed) + len(body))
    header = {
        "__metadata__": metadata,
        "document": {"dtype": "U8", "shape": [ends[0]], "data_offsets": [0, ends[0]]},
        "payloads": {"dtype": "U8", "shape": [len(body)], "data_offsets": [*ends]},
    }
    return in_file(header, packed + body)


def in_file(header: Any, body: bytes) -> bytes:
    """A safetensors file of a header and what follows it."""
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded + body


def pack(text: bytes, *, level: int = 3, write_content_size: bool = True, write_checksum: bool = False) -> bytes:
    """A document's text under zstd."""
    compressor = zstandard.ZstdCompressor(
        level=level, write_content_size=write_content_size, write_checksum=write_checksum
    )
    return compressor.compress(text)


def frame_of_zeros(nbytes: int, *, claimed: int | None = None) -> bytes:
    """A zstd frame in blocks of one repeated byte, written by hand: 4 bytes for each 128 KiB.

    Args:
        nbytes: that it expands to.
        claimed: what it states; by default the truth.
    """
    single_segment, size_of_8_bytes = 1 << 5, 3 << 6
    blocks, left = [b"\x28\xb5\x2f\xfd", bytes([single_segment | size_of_8_bytes])], nbytes
    blocks.append((nbytes if claimed is None else claimed).to_bytes(8, "little"))
    while left:
        size = min(left, 1 << 17)
        left -= size
        blocks.append((size << 3 | 0b010 | (left == 0)).to_bytes(3, "little") + b"\0")
    return b"".join(blocks)


def names_of(document: Any) -> list[str]:
    """The payloads that a document has, in its order."""
    return [
        f"{change['name']}:{part}" for change in document["changes"] for part in ("keep", "values") if part in change
    ]


def seal(anatomy: Anatomy) -> None:
    """Write the payloads' sizes and hashes into the document, wherever it has a record for them."""
    document = anatomy.document
    if not isinstance(document, dict) or not isinstance(document.get("changes"), list):
        return
    for change in document["changes"]:
        for part in ("keep", "values"):
            record = change.get(part) if isinstance(change, dict) else None
            data = anatomy.payloads.get(f"{change.get('name')}:{part}") if isinstance(record, dict) else None
            if data is None or not isinstance(record, dict):
                continue
            record["nbytes"] = len(data)
            if "sha256" in record:
                record["sha256"] = hashlib.sha256(data).hexdigest()
            if "crc32" in record:
                record["crc32"] = f"{zlib.crc32(data):08x}"
    if "payloads_sha256" in document:
        document["payloads_sha256"] = hashlib.sha256(b"".join(anatomy.payloads.values())).hexdigest()


def entries_1(anatomy: Anatomy) -> tuple[dict[str, Any], bytes]:
    """The header's tensors of version 1, and the bytes they stand for."""
    shapes: dict[str, tuple[str, list[int], int]] = {}
    changes = anatomy.document.get("changes") if isinstance(anatomy.document, dict) else None
    for change in changes if isinstance(changes, list) else []:
        if not isinstance(change, dict):
            continue
        tag, size = TAGS.get(str(change.get("dtype")), ("U8", 1))
        data = anatomy.payloads.get(f"{change.get('name')}:values", b"")
        dense = change.get("kind") == "dense_values"
        shapes[f"{change.get('name')}:values"] = (
            tag,
            change.get("shape", []) if dense else [len(data) // size],
            size,
        )
    header, body = {}, b""
    ordered = sorted(anatomy.payloads, key=lambda name: (-shapes.get(name, ("U8", [], 1))[2], name))
    for name in ordered:
        data = anatomy.payloads[name]
        tag, shape, _ = shapes.get(name, ("U8", [len(data)], 1))
        header[name] = {"dtype": tag, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    return header, body
