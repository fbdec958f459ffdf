"""A delta's file taken apart, and put together again with every hash right: what mutators and attacks work on.

No code is shared with the library, so that what is put together may be as wrong as one likes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import zstandard

__all__ = ["SIZES", "Anatomy", "frame_of_zeros", "in_file", "pack", "put_together", "take_apart"]

PARTS = {"keep": "keep_nbytes", "values": "values_nbytes"}
SIZES = {
    **dict.fromkeys(("float64", "int64"), 8),
    **dict.fromkeys(("float32", "int32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16"), 2),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "int8", "uint8"), 1),
}


@dataclass
class Anatomy:
    """The parts of a delta's file.

    Args:
        document: as plain JSON.
        payloads: `NAME:keep` and `NAME:values` to bytes, in the order of the changes.
    """

    document: Any
    payloads: dict[str, bytes]


def take_apart(data: bytes) -> Anatomy:
    """The parts of an intact file."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    begin, end = header["document"]["data_offsets"]
    document = json.loads(zstandard.ZstdDecompressor().decompress(body[begin:end]))
    payloads, rest = {}, body[end:]
    for change in document["changes"]:
        for part, field in PARTS.items():
            if field in change:
                payloads[f"{change['name']}:{part}"], rest = rest[: change[field]], rest[change[field] :]
    return Anatomy(document, payloads)


def put_together(
    anatomy: Anatomy, *, text: bytes | None = None, packed: bytes | None = None, named: str = "supermask-delta 1"
) -> bytes:
    """The file of some parts, sizes and hashes put right as far as the document still has places for them.

    Args:
        anatomy: the parts; the document gets the payloads' sizes and hash.
        text: what stands for the document in place of its JSON.
        packed: the compressed document, in place of one that is made of the text.
        named: its kind and version.
    """
    seal(anatomy)
    if text is None:
        text = json.dumps(anatomy.document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
    packed, body = pack(text) if packed is None else packed, b"".join(anatomy.payloads.values())
    ends = (len(packed), len(packed) + len(body))
    header = {
        "__metadata__": {"format": f"{named} {hashlib.sha256(text).hexdigest()}"},
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


def seal(anatomy: Anatomy) -> None:
    """Write the payloads' sizes and their hash into the document, wherever it has a place for them."""
    document = anatomy.document
    if not isinstance(document, dict) or not isinstance(document.get("changes"), list):
        return
    for change in document["changes"]:
        for part, field in PARTS.items():
            if isinstance(change, dict) and field in change and f"{change.get('name')}:{part}" in anatomy.payloads:
                change[field] = len(anatomy.payloads[f"{change['name']}:{part}"])
    if "payloads_sha256" in document:
        document["payloads_sha256"] = hashlib.sha256(b"".join(anatomy.payloads.values())).hexdigest()
