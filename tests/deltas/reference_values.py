"""Values written and read by docs/FORMAT.md, section "Values", alone: slow, in Python's whole numbers, no code shared.

Frames are written by hand, by RFC 8878: uncompressed blocks, so that nothing here depends on a compressor. They are
read by the library zstandard's stream interface, as any zstd reads them.
"""

from collections.abc import Sequence

import zstandard

BLOCK = 2**18
ZSTD_BLOCK = 128 * 1024


def frame(
    content: bytes,
    *,
    stated: int | None = None,
    blocks: Sequence[bytes] | None = None,
    window: int | None = None,
    dictionary: int | None = None,
) -> bytes:
    """A zstd frame of uncompressed blocks that states the size of its content, or something else if told."""
    size = len(content) if stated is None else stated
    # Size in 8 bytes; one segment, whose size is the window, unless a window is given; dictionary in 4 bytes, if any.
    descriptor = 0b11000000 | (0 if window else 0b00100000) | (0b00000011 if dictionary is not None else 0)
    header = b"\x28\xb5\x2f\xfd" + bytes([descriptor])
    header += bytes([(window.bit_length() - 11) << 3]) if window else b""
    header += dictionary.to_bytes(4, "little") if dictionary is not None else b""
    header += size.to_bytes(8, "little")
    if blocks is None:
        parts = [content[at : at + ZSTD_BLOCK] for at in range(0, len(content), ZSTD_BLOCK)] or [b""]
        blocks = [raw_block(part, last=part is parts[-1]) for part in parts]
    return header + b"".join(blocks)


def raw_block(content: bytes, *, last: bool) -> bytes:
    return (len(content) << 3 | last).to_bytes(3, "little") + content


def run_block(byte: bytes, length: int, *, last: bool) -> bytes:
    return (length << 3 | 1 << 1 | last).to_bytes(3, "little") + byte


def skippable_frame(content: bytes) -> bytes:
    return b"\x50\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content


def with_length(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


SIZE = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
}


def order(base: Sequence[int], bits: int) -> list[int]:
    kept = min(16, bits // 2)
    return sorted(range(len(base)), key=lambda place: (2 * base[place] % 2**bits) // 2 ** (bits - kept))


def planes(elements: Sequence[int], size: int) -> bytes:
    return b"".join(bytes(element // 256**place % 256 for element in elements) for place in range(size))


def from_planes(content: bytes, size: int) -> list[int]:
    count = len(content) // size
    return [sum(content[place * count + index] * 256**place for place in range(size)) for index in range(count)]


def encode(values: Sequence[int], dtype: str, coding: str, base: Sequence[int], *, block: int = BLOCK) -> bytes:
    size, bits = SIZE[dtype], 8 * SIZE[dtype]
    if coding == "raw":
        return b"".join(value.to_bytes(size, "little") for value in values)
    payload = b""
    for start in range(0, len(values), block):
        elements = list(values[start : start + block])
        if coding == "sorted_difference":
            olds = base[start : start + block]
            for place, old in enumerate(olds):
                difference = (elements[place] - old) % 2**bits
                is_positive = difference < 2 ** (bits - 1)
                elements[place] = 2 * difference if is_positive else 2 * (2**bits - difference) - 1
            elements = [elements[place] for place in order(olds, bits)]
        payload += with_length(frame(planes(elements, size)))
    return payload


def decode(
    payload: bytes, dtype: str, count: int, coding: str, base: Sequence[int], *, block: int = BLOCK
) -> list[int]:
    size, bits = SIZE[dtype], 8 * SIZE[dtype]
    if coding == "raw":
        assert len(payload) == count * size
        return [int.from_bytes(payload[at : at + size], "little") for at in range(0, len(payload), size)]
    values: list[int] = []
    for start in range(0, count, block):
        payload, content = next_frame(payload)
        elements = from_planes(content, size)
        assert len(elements) == min(block, count - start)
        if coding == "sorted_difference":
            olds = base[start : start + block]
            for place, e in zip(order(olds, bits), list(elements), strict=True):
                elements[place] = (olds[place] + (e // 2 if e % 2 == 0 else -(e + 1) // 2)) % 2**bits
        values += elements
    assert not payload
    return values


def next_frame(payload: bytes) -> tuple[bytes, bytes]:
    end = 4 + int.from_bytes(payload[:4], "little")
    reader = zstandard.ZstdDecompressor().decompressobj()
    content = reader.decompress(payload[4:end])
    assert reader.eof and not reader.unused_data
    return payload[end:], content
