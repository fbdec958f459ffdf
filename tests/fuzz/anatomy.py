"""A delta's file taken apart, and put together again with every hash right: what mutators and attacks work on.

By the reference alone, not the library, so that what is put together may be as wrong as one likes.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import zstandard

from deltas.reference_format import behind, header_of, split
from deltas.reference_values import frame, run_block

PARTS = {"keep": "keep_nbytes", "values": "values_nbytes"}
SIZES = {
    **dict.fromkeys(("float64", "int64"), 8),
    **dict.fromkeys(("float32", "int32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16"), 2),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "int8", "uint8"), 1),
}


@dataclass
class Anatomy:
    """The document as plain JSON, and payloads as `NAME:keep` and `NAME:values`, in the order of the changes."""

    document: Any
    payloads: dict[str, bytes]


def take_apart(data: bytes) -> Anatomy:
    """The parts of an intact file."""
    file = split(data)
    document, payloads, rest = file.document, {}, file.payloads
    for change in document["changes"]:
        for part, field in PARTS.items():
            if field in change:
                payloads[f"{change['name']}:{part}"], rest = rest[: change[field]], rest[change[field] :]
    return Anatomy(document, payloads)


def put_together(
    anatomy: Anatomy, *, text: bytes | None = None, packed: bytes | None = None, named: str = "supermask-delta 1"
) -> bytes:
    """The file of some parts, sizes and hashes put right where there are places for them.

    The document's `text`, or what it is `packed` into, may be given in place of what the parts say.
    """
    seal(anatomy)
    if text is None:
        text = json.dumps(anatomy.document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
    packed, body = pack(text) if packed is None else packed, b"".join(anatomy.payloads.values())
    return behind(header_of(text, len(packed), len(body), named=named), packed + body)


def pack(text: bytes, *, level: int = 3, **options: bool) -> bytes:
    """A document's text under zstd."""
    return zstandard.ZstdCompressor(level=level, **options).compress(text)


def frame_of_zeros(nbytes: int, *, claimed: int | None = None) -> bytes:
    """A zstd frame in blocks of one repeated byte, written by hand: 4 bytes for each 128 KiB."""
    full = 1 << 17
    blocks = [run_block(b"\0", min(full, nbytes - at), last=at + full >= nbytes) for at in range(0, nbytes, full)]
    return frame(b"", stated=nbytes if claimed is None else claimed, blocks=blocks)


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
