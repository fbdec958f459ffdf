"""Damage that knows nothing of the format: to bytes, and to lengths wherever they stand."""

import random
from collections.abc import Callable

ByteEdit = Callable[[random.Random, bytearray], None]

TELLING = (0x00, 0x01, 0x02, 0x03, 0x7F, 0x80, 0xFE, 0xFF, 0x20, 0x22, 0x2C, 0x5B, 0x5D, 0x7B, 0x7D)
WIDTHS = (1, 2, 3, 4, 8)


def somewhere(source: random.Random, data: bytearray) -> int:
    """A place; the first bytes, where the heads are, come up more often than others."""
    return source.randrange(min(len(data), 16) if source.random() < 0.3 else len(data))


def flip_bit(source: random.Random, data: bytearray) -> None:
    data[somewhere(source, data)] ^= 1 << source.randrange(8)


def set_byte(source: random.Random, data: bytearray) -> None:
    data[somewhere(source, data)] = source.choice(TELLING) if source.random() < 0.5 else source.randrange(256)


def add_to_byte(source: random.Random, data: bytearray) -> None:
    place = somewhere(source, data)
    data[place] = (data[place] + source.choice((-2, -1, 1, 2))) % 256


def set_number(source: random.Random, data: bytearray) -> None:
    """A whole number of 1 to 8 bytes that is at or beside a power of two."""
    width, place = source.choice(WIDTHS), somewhere(source, data)
    number = (1 << source.randrange(8 * width + 1)) + source.choice((-1, 0, 1))
    data[place : place + width] = (number % (1 << 8 * width)).to_bytes(width, "little")[: len(data) - place]


def truncate(source: random.Random, data: bytearray) -> None:
    del data[source.randrange(len(data)) if source.random() < 0.5 else len(data) - source.randint(1, 9) :]


def insert(source: random.Random, data: bytearray) -> None:
    place, count = source.randrange(len(data) + 1), source.choice((1, 1, 2, 4, 8, 64))
    data[place:place] = source.randbytes(count) if source.random() < 0.5 else bytes(count)


def append(source: random.Random, data: bytearray) -> None:
    data += source.randbytes(source.choice((1, 4, 8))) if source.random() < 0.5 else bytes(source.choice((1, 4, 8)))


def delete(source: random.Random, data: bytearray) -> None:
    place = somewhere(source, data)
    del data[place : place + source.choice((1, 1, 2, 4, 8, 64))]


def repeat(source: random.Random, data: bytearray) -> None:
    place, count = source.randrange(len(data)), source.choice((1, 4, 16, 256))
    data[place:place] = data[place : place + count]


def swap(source: random.Random, data: bytearray) -> None:
    count = source.choice((1, 2, 4, 8))
    one, other = source.randrange(len(data)), source.randrange(len(data))
    first, second = data[one : one + count], data[other : other + count]
    if len(first) == len(second):
        data[one : one + count], data[other : other + count] = second, first


def blank(source: random.Random, data: bytearray) -> None:
    place, count = source.randrange(len(data)), source.choice((4, 16, 64, 1024))
    stretch = data[place : place + count]
    data[place : place + count] = bytes([source.choice((0, 0xFF))]) * len(stretch)


BYTE_EDITS: tuple[ByteEdit, ...] = (
    flip_bit,
    flip_bit,
    set_byte,
    add_to_byte,
    set_number,
    truncate,
    insert,
    append,
    delete,
    repeat,
    swap,
    blank,
)


def edit_bytes(source: random.Random, data: bytes, *, most: int = 4) -> bytes:
    """Some bytes after a few edits; mostly one."""
    edited = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, most))):
        if edited:
            source.choice(BYTE_EDITS)(source, edited)
    return bytes(edited)


def spliced(source: random.Random, one: bytes, other: bytes) -> bytes:
    """The beginning of one and the end of another, or a stretch of one within the other."""
    if source.random() < 0.5:
        return one[: source.randrange(len(one) + 1)] + other[source.randrange(len(other) + 1) :]
    start = source.randrange(len(other))
    piece, place = other[start : start + source.choice((8, 64, 512, 4096))], source.randrange(len(one))
    return one[:place] + piece + one[place + len(piece) :]
