"""Documents that expand, nest, contradict themselves or claim too much, under the right hash."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import zstandard
from attacks.attack import Attack, anatomy, edited, on_file, on_model

from fuzz.anatomy import Anatomy, frame_of_zeros, pack, put_together

__all__ = ["DOCUMENT_ATTACKS"]

LOAD, DECODING, APPLYING = "refused at load", "refused at decoding", "refused at applying"
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"


def packed_as(make: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    """A delta whose document is compressed in a way of one's own."""

    def craft() -> bytes:
        parts = anatomy()
        text = json.dumps(parts.document).encode()
        return put_together(parts, text=text, packed=make(text))

    return craft


def with_inserted(inserted: bytes, name: str = "one mask") -> Callable[[], bytes]:
    """A delta whose document starts with some text, right behind the brace."""

    def craft() -> bytes:
        parts = anatomy(name)
        document = {key: value for key, value in parts.document.items() if not inserted.startswith(f'"{key}"'.encode())}
        return put_together(parts, text=b"{" + inserted + b"," + json.dumps(document).encode()[1:])

    return craft


def set_change(**fields: Any) -> Callable[[], bytes]:
    """A delta whose first change, a mask of 48 by 64, is told differently."""
    return edited(lambda parts: parts.document["changes"][0].update(fields))


def renamed(name: str) -> Callable[[], bytes]:
    """A delta whose first tensor has another name, in the base too."""

    def edit(parts: Anatomy) -> None:
        document = parts.document
        old = document["changes"][0]["name"]
        document["changes"][0]["name"] = name
        document["base"]["tensors"][name] = document["base"]["tensors"].pop(old)
        parts.payloads = {key.replace(f"{old}:", f"{name}:"): data for key, data in parts.payloads.items()}

    return edited(edit)


def same_crc() -> bytes:
    """A payload that was changed such that its CRC-32 is the same, by linear algebra over single bits."""
    parts = anatomy("values, raw")
    name = next(name for name in parts.payloads if name.startswith("cube"))
    old = parts.payloads[name]
    plain = zlib.crc32(bytes(len(old)))
    rows: dict[int, tuple[int, int]] = {}
    for bit in range(33):  # 33 differences of 32 bits are never independent
        flip = (1 << bit).to_bytes(len(old), "little")
        effect, chosen = zlib.crc32(flip) ^ plain, 1 << bit
        while effect and effect.bit_length() in rows:
            other, others = rows[effect.bit_length()]
            effect, chosen = effect ^ other, chosen ^ others
        if not effect:
            break
        rows[effect.bit_length()] = (effect, chosen)
    sealed = put_together(parts)
    new = bytes(one ^ other for one, other in zip(old, chosen.to_bytes(len(old), "little"), strict=True))
    assert zlib.crc32(new) == zlib.crc32(old) and new != old
    return sealed.replace(old, new)


def swap_sizes(parts: Anatomy) -> None:
    """Two payloads of which one takes a byte of the other; the hash of all of them stays."""
    names = list(parts.payloads)
    first, second = parts.payloads[names[0]], parts.payloads[names[1]]
    parts.payloads[names[0]], parts.payloads[names[1]] = first + second[:1], second[1:]


def recounted(parts: Anatomy) -> None:
    parts.document["changes"][0]["zeros"] -= 1


def twins(parts: Anatomy) -> None:
    """A change for each name of one tensor of the model."""
    document = parts.document
    change = next(change for change in document["changes"] if change["name"] == "embedding.weight")
    document["changes"].append({**change, "name": "decoder.weight", "keep": dict(change["keep"])})
    parts.payloads["decoder.weight:keep"] = parts.payloads["embedding.weight:keep"]


def steal_head(parts: Anatomy) -> None:
    """A tensor of the base declared a part of the head."""
    document = parts.document
    document["head"].append("row")
    document["base"]["tensors"].pop("row")


DOCUMENT_ATTACKS: tuple[Attack, ...] = (
    on_file("zstd bomb", "128 MiB of zeros in 4 kB", LOAD, "states", packed_as(lambda text: frame_of_zeros(1 << 27))),
    on_file(
        "zstd bomb that lies",
        "the same, said to be of 1 MiB",
        LOAD,
        "not zstd data",
        packed_as(lambda text: frame_of_zeros(1 << 27, claimed=1 << 20)),
    ),
    on_file(
        "frame of 2^63 bytes",
        "a size that no memory has",
        LOAD,
        "states",
        packed_as(lambda text: frame_of_zeros(1 << 17, claimed=1 << 63)),
    ),
    on_file(
        "frame without a size",
        "nothing to allocate by",
        LOAD,
        "states",
        packed_as(lambda text: pack(text, write_content_size=False)),
    ),
    on_file(
        "two frames",
        "half of the document in each",
        LOAD,
        "not zstd data",
        packed_as(lambda text: pack(text[:99]) + pack(text[99:])),
    ),
    on_file(
        "frame and more", "a byte behind the frame", LOAD, "not zstd data", packed_as(lambda text: pack(text) + b"\0")
    ),
    on_file(
        "skippable frame",
        "bytes that zstd's readers pass over",
        LOAD,
        "",
        packed_as(lambda text: SKIPPABLE + pack(text)),
    ),
    on_file("no frame", "the document as it is", LOAD, "not zstd data", packed_as(lambda text: text)),
    on_file(
        "dictionary",
        "a frame that asks for a dictionary",
        LOAD,
        "not zstd data",
        packed_as(lambda text: with_dictionary(text)),
    ),
    on_file(
        "nested 300 deep",
        "lists in lists",
        LOAD,
        "",
        with_inserted(b'"training":{"a":' + b"[" * 300 + b"]" * 300 + b"}"),
    ),
    on_file(
        "nested 100,000 deep",
        "lists in lists, to overrun the stack",
        LOAD,
        "not valid JSON",
        with_inserted(b'"training":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ),
    on_file(
        "key twice in the document",
        "a field of which readers may take either",
        LOAD,
        "stands twice",
        with_inserted(b'"x":0,"x":1'),
    ),
    on_file("NaN", "a number that JSON does not know", LOAD, "", with_inserted(b'"training":{"loss":NaN}')),
    on_file("1e999", "a number that overflows", LOAD, "", with_inserted(b'"training":{"loss":1e999}')),
    on_file(
        "number of 100,000 digits",
        "which takes a square of time to read",
        LOAD,
        "not valid JSON",
        with_inserted(b'"training":{"seed":' + b"7" * 100_000 + b"}"),
    ),
    on_file(
        "half a surrogate pair", "text that no encoding holds", LOAD, "", with_inserted(b'"task":{"name":"\\ud800"}')
    ),
    on_file("no UTF-8", "bytes that are no text", LOAD, "not valid JSON", with_inserted(b'"task":{"name":"\xff"}')),
    on_file(
        "same in version 1",
        "a key twice in the document within the header",
        LOAD,
        "stands twice",
        with_inserted(b'"x":0,"x":1', "masks, version 1"),
    ),
    on_file("unknown field", "what a later version may mean", LOAD, "Extra inputs", set_change(scale=2)),
    on_file("zeros as truth", "true in place of 1", LOAD, "valid integer", set_change(zeros=True)),
    on_file("zeros as a fraction", "1.0 in place of 1", LOAD, "valid integer", set_change(zeros=1.0)),
    on_file("negative zeros", "fewer than none", LOAD, "greater than or equal", set_change(zeros=-1)),
    on_file("more zeros than weights", "one too many", LOAD, "zeros among", set_change(zeros=48 * 64 + 1)),
    on_file("other number of zeros", "one less than the mask has", DECODING, "large", edited(recounted)),
    on_file("2^34 + 1 weights", "beyond the format's limit", LOAD, "limit", set_change(shape=[(1 << 34) + 1])),
    on_file(
        "2^106 weights", "sizes whose product overflows", LOAD, "limit", set_change(shape=[1 << 53 - 1, 1 << 53 - 1])
    ),
    on_file(
        "no weights, huge stride",
        "a size of 0 beside one of 2^40",
        LOAD,
        "limit",
        set_change(shape=[0, 1 << 40], zeros=0),
    ),
    on_file(
        "2^34 weights",
        "64 GiB in a file of 1 kB, were it believed",
        DECODING,
        "shape",
        set_change(shape=[1 << 17, 1 << 17], zeros=1 << 33),
    ),
    on_file(
        "as many weights, other shape",
        "a mask of 64 by 48 for a tensor of 48 by 64",
        DECODING,
        "shape",
        set_change(shape=[64, 48]),
    ),
    on_file("1000 dimensions", "more than any library has", DECODING, "shape", set_change(shape=[48, 64] + [1] * 1000)),
    on_file("name with ESC", "a name that steers the terminal", LOAD, "pattern|no name", renamed("\x1b[2J")),
    on_file("name with CSI", "the same in one character, U+009B", LOAD, "pattern|no name", renamed("\x9b2J")),
    on_file("name turned around", "a name with U+202E", LOAD, "pattern|no name", renamed("\u202egnp.exe")),
    on_file("name in two lines", "a name with U+2028", LOAD, "pattern|no name", renamed("large\u2028error: none")),
    on_file("name of 1001 characters", "one too many", LOAD, "1000|no name", renamed("a" * 1001)),
    on_file(
        "path for a name", "which is nothing but a name", DECODING + "|" + APPLYING, "", renamed("../../etc/passwd")
    ),
    on_file(
        "tensor changed twice",
        "two changes of one name",
        LOAD,
        "named twice",
        edited(lambda parts: parts.document["changes"].append(parts.document["changes"][0])),
    ),
    on_file(
        "tensor of nobody",
        "a change of what is neither base nor head",
        LOAD,
        "neither a tensor of the base",
        edited(lambda parts: parts.document["base"]["tensors"].pop("large")),
    ),
    on_file(
        "tied tensor twice",
        "a change for each name of one tensor",
        APPLYING,
        "one tensor here",
        edited(twins, "masks, alone"),
    ),
    on_file(
        "head that is a mask",
        "a head tensor without values",
        LOAD,
        "head",
        edited(lambda parts: parts.document["head"].append("large")),
    ),
    on_model(
        "base declared head",
        "a tensor taken out of the fingerprint",
        "not in that base|differs, but the digest does",
        edited(steal_head, "values, alone"),
    ),
    on_model(
        "other base",
        "the digest of another base",
        "the digest does",
        edited(lambda parts: parts.document["base"].update(digest="0" * 64)),
    ),
    on_file(
        "moved boundary",
        "a byte of one payload given to the next",
        LOAD,
        "do not fit|CRC|checksum",
        edited(swap_sizes, "values, raw"),
    ),
    on_file("forged CRC-32", "a payload changed such that its CRC-32 stays", LOAD, "hash", same_crc),
    on_file(
        "version 2 with marks of version 1",
        "16 hex digits a tensor",
        LOAD,
        "8 hex digits",
        edited(
            lambda parts: parts.document["base"].update(
                tensors={name: short * 2 for name, short in parts.document["base"]["tensors"].items()}
            )
        ),
    ),
)


def with_dictionary(text: bytes) -> bytes:
    dictionary = zstandard.ZstdCompressionDict(bytes(range(256)) * 8, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    frame = bytearray(zstandard.ZstdCompressor(dict_data=dictionary).compress(text))
    frame[4] |= 1  # a dictionary's number of one byte follows
    return bytes(frame[:5] + b"\x07" + frame[5:])
