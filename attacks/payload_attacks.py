"""Payloads that say more than they may, under the right checksums."""

from __future__ import annotations

from collections.abc import Callable

import zstandard
from attacks.attack import Attack, edited, on_file

from fuzz.anatomy import Anatomy, frame_of_zeros

__all__ = ["PAYLOAD_ATTACKS"]

LOAD, DECODING = "refused at load", "refused at decoding"
ALONE = "masks, alone"
CUBE = "cube:values"  # 144 values of 4 bytes
ROWS = 48  # of the mask `large`, which has 64 columns
NO_STEPS = b"\0"


def mask(
    payload: bytes | Callable[[bytes], bytes], *, name: str = "large", seed: str = "one mask"
) -> Callable[[], bytes]:
    """A delta with another payload for one mask."""

    def edit(parts: Anatomy) -> None:
        old = parts.payloads[f"{name}:keep"]
        parts.payloads[f"{name}:keep"] = payload(old) if callable(payload) else payload

    return edited(edit, seed)


def values(change: Callable[[bytes], bytes], seed: str = "values, shuffle") -> Callable[[], bytes]:
    """A delta with another frame for the values of `cube`."""

    def edit(parts: Anatomy) -> None:
        frame = change(parts.payloads[CUBE][4:])
        parts.payloads[CUBE] = len(frame).to_bytes(4, "little") + frame

    return edited(edit, seed)


def all_values(change: Callable[[bytes], bytes], seed: str = "values, shuffle") -> Callable[[], bytes]:
    return edited(lambda parts: parts.payloads.update({CUBE: change(parts.payloads[CUBE])}), seed)


def content_of(frame: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(frame)


def with_window(content: bytes, bits: int) -> bytes:
    """A frame that asks for a window of 2^bits bytes, its content in one block as it is."""
    size_of_4_bytes = 2 << 6
    head = b"\x28\xb5\x2f\xfd" + bytes([size_of_4_bytes, (bits - 10) << 3]) + len(content).to_bytes(4, "little")
    return head + (len(content) << 3 | 1).to_bytes(3, "little") + content


def coded_as(coding: str, seed: str = "values, raw") -> Callable[[], bytes]:
    """The payload of one coding called another."""

    def edit(parts: Anatomy) -> None:
        for change in parts.document["changes"]:
            if change["name"] == "cube":
                change["values"]["coding"] = coding

    return edited(edit, seed)


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def model(*, parts: int = 1, offset: int = 0x40, heads: bytes = NO_STEPS, code: bytes = b"") -> bytes:
    """A mask coded by a model, put together by hand."""
    return bytes([parts, offset]) + heads + code


MASKS: tuple[Attack, ...] = (
    on_file("no form", "a mask of no bytes", LOAD, "at least 1", mask(b"")),
    on_file("unknown part", "a part that no writer knows", DECODING, "no form", mask(model(parts=9))),
    on_file("form 255", "the same, far off", DECODING, "no form", mask(b"\xff\0\0")),
    on_file("head cut off", "a model that ends within its head", DECODING, "ends within its head", mask(b"\4\x40")),
    on_file("offset out of range", "a density beyond all bounds", DECODING, "the offset", mask(model(offset=0xFF))),
    on_file(
        "integers for a base",
        "a mask that goes by magnitudes, for a tensor without any",
        DECODING,
        "floating-point",
        mask(b"\4\x40\0\0" + NO_STEPS, name="int16", seed=ALONE),
    ),
    on_file(
        "2^35 steps",
        "a count of five bytes for a vector of 48",
        DECODING,
        "no count",
        mask(model(heads=b"\xff\xff\xff\xff\x7f\x20")),
    ),
    on_file(
        "count without an end", "bytes that all say more follows", DECODING, "no count", mask(model(heads=b"\x80" * 9))
    ),
    on_file(
        "count with zeros",
        "a number that can be written shorter",
        DECODING,
        "no count",
        mask(model(heads=b"\x81\x00\x20")),
    ),
    on_file("one step too many", "49 for 48 rows", DECODING, "no count", mask(model(heads=bytes([ROWS + 1, 0x20])))),
    on_file("unknown rate", "a law that does not exist", DECODING, "rate", mask(model(heads=b"\x01\xff"))),
    on_file(
        "steps out of nothing",
        "48 steps and no code to read them from",
        DECODING,
        "does not code|goes on|weights",
        mask(model(heads=bytes([ROWS, 0x20]))),
    ),
    on_file(
        "escapes without end",
        "a code that says 'more' as long as it is asked",
        DECODING,
        "points behind",
        mask(model(heads=bytes([ROWS, 0xA0]), code=words(*[0xFFFFFFFF] * 64))),
    ),
    on_file("half a word", "bytes that are no whole words", DECODING, "whole words", mask(lambda old: old + b"\1")),
    on_file("zero word", "which the coder never writes last", DECODING, "zero word", mask(lambda old: old + words(0))),
    on_file(
        "words left over",
        "something hidden behind the last weight",
        DECODING,
        "goes on|points behind|does not code|codes more",
        mask(lambda old: old + words(0x12345678, 0x9ABCDEF0)),
    ),
    on_file("word missing", "a mask that is cut off", DECODING, "large", mask(lambda old: old[:-4])),
    on_file(
        "payload for nothing",
        "code for a mask that keeps all",
        DECODING,
        "one kind",
        mask(lambda old: old + words(0, 1), name="row", seed=ALONE),
    ),
    on_file(
        "model for nothing",
        "a model for a mask that keeps all",
        DECODING,
        "one kind",
        mask(model(), name="row", seed=ALONE),
    ),
)

VALUES: tuple[Attack, ...] = (
    on_file("raw, a byte short", "values cut off", LOAD, "do not fit", all_values(lambda old: old[:-1], "values, raw")),
    on_file("raw called shuffled", "values that are no frames", DECODING + "|" + LOAD, "", coded_as("shuffle")),
    on_file("coding zip", "a coding that does not exist", LOAD, "coding", coded_as("zip")),
    on_file(
        "values bomb",
        "256 MiB in a frame that says 576 bytes",
        DECODING,
        "damaged|Data corruption|too small",
        values(lambda frame: frame_of_zeros(1 << 28, claimed=576)[:500]),
    ),
    on_file(
        "values bomb that says so",
        "a frame that says 2^63 bytes",
        DECODING,
        "must state a size of 576",
        values(lambda frame: frame_of_zeros(1 << 17, claimed=1 << 63)),
    ),
    on_file(
        "one value more", "a frame of 580 bytes", DECODING, "must state", values(lambda frame: frame_of_zeros(580))
    ),
    on_file(
        "frame without a size",
        "values of any number",
        DECODING,
        "must state",
        values(lambda frame: zstandard.ZstdCompressor(write_content_size=False).compress(bytes(576))),
    ),
    on_file(
        "frame with a checksum",
        "bytes that no hash of ours is about",
        DECODING,
        "must state",
        values(lambda frame: zstandard.ZstdCompressor(write_checksum=True).compress(bytes(576))),
    ),
    on_file(
        "window of 2 GiB",
        "memory that a frame asks for",
        DECODING,
        "must state",
        values(lambda frame: with_window(bytes(576), 31)),
    ),
    on_file(
        "skippable frame of values",
        "bytes that zstd's readers pass over",
        DECODING,
        "no zstd frame",
        values(lambda frame: b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + frame),
    ),
    on_file(
        "frame in a frame's place",
        "a second frame behind the first, under one length",
        DECODING,
        "damaged",
        values(lambda frame: frame_of_zeros(576) + frame_of_zeros(576)),
    ),
    on_file("frame too few", "no frames at all", DECODING, "cut off", all_values(lambda old: b"")),
    on_file(
        "frame too many",
        "one that belongs to nothing",
        DECODING,
        "follow the last",
        all_values(lambda old: old + old[:0] + words(0)),
    ),
    on_file(
        "frame of 4 GiB",
        "a length beyond the payload",
        DECODING,
        "cut off",
        all_values(lambda old: words(0xFFFFFFFF) + old[4:]),
    ),
    on_file(
        "zeros for values",
        "a frame of the right size",
        "other",
        "",
        values(lambda frame: frame_of_zeros(576)),
    ),
    on_file(
        "another frame of the same values",
        "compressed anew: another payload, and so another delta",
        "other",
        "",
        values(lambda frame: zstandard.ZstdCompressor(level=19).compress(content_of(frame))),
    ),
)

PAYLOAD_ATTACKS: tuple[Attack, ...] = (*MASKS, *VALUES)
