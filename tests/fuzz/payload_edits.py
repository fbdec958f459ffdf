"""Edits of payloads, some blind and some that know what a decoder looks at."""

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import zstandard

from fuzz.anatomy import SIZES, Anatomy, frame_of_zeros
from fuzz.byte_edits import edit_bytes
from supermask.deltas.coding.model import MAGNITUDES, OFFSETS, MaskModel, write_model
from supermask.deltas.coding.symbols import COINS, RATES, SymbolWriter

PayloadEdit = Callable[[random.Random, Anatomy], None]

BLOCK = 1 << 18


def pick(source: random.Random, anatomy: Anatomy, part: str) -> tuple[dict[str, Any], str] | None:
    """A change that has a mask or values, and its payload's name."""
    fitting = [change for change in anatomy.document["changes"] if f"{change['name']}:{part}" in anatomy.payloads]
    if not fitting:
        return None
    change = source.choice(fitting)
    return change, f"{change['name']}:{part}"


def edit_any(source: random.Random, anatomy: Anatomy) -> None:
    name = source.choice(list(anatomy.payloads))
    anatomy.payloads[name] = edit_bytes(source, anatomy.payloads[name] or b"\0")


def edit_mask(source: random.Random, anatomy: Anatomy) -> None:
    if found := pick(source, anatomy, "keep"):
        anatomy.payloads[found[1]] = edit_bytes(source, anatomy.payloads[found[1]] or b"\0")


def edit_mask_words(source: random.Random, anatomy: Anatomy) -> None:
    """Whole words from the end, where the coder starts to read: set, taken away or put there."""
    if not (found := pick(source, anatomy, "keep")):
        return
    data = anatomy.payloads[found[1]]
    word = source.choice((0, 1, (1 << 32) - 1, source.getrandbits(32))).to_bytes(4, "little")
    what = source.randrange(4)
    if what == 0:
        data = data[: max(0, len(data) - 4 * source.randint(1, 3))]
    elif what == 1:
        data += word * source.randint(1, 3)
    elif what == 2:
        place = len(data) - 4 * source.randint(1, max(1, len(data) // 4))
        data = data[: max(0, place)] + word + data[max(0, place) + 4 :]
    else:
        data = data[:5] + word + data[5:]
    anatomy.payloads[found[1]] = data


def edit_mask_head(source: random.Random, anatomy: Anatomy) -> None:
    """The first bytes: parts, offset, the first counts and rates."""
    if not (found := pick(source, anatomy, "keep")):
        return
    data = bytearray(anatomy.payloads[found[1]] or b"\0")
    for place in range(source.choice((1, 1, 2, 8))):
        byte = source.choice((0, 1, 2, 3, 0x7F, 0x80, 0xFF, source.randrange(256)))
        place = source.randrange(min(len(data), 12)) if place else 0
        data[place] = byte if place else source.choice((0, 1, 2, 4, 7, 255))
    anatomy.payloads[found[1]] = bytes(data)


def write_mask(source: random.Random, anatomy: Anatomy) -> None:
    """A mask made by the writer's own tools, of numbers that no writer would give them."""
    if not (found := pick(source, anatomy, "keep")):
        return
    change, name = found
    shape = change["shape"]
    rows, columns = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
    if rows * columns > 1 << 20:
        return
    rows += source.choice((0, 0, 0, 0, 1, -1))
    model, writer = any_model(source, max(rows, 0), columns), SymbolWriter()
    head = write_model(model, writer)
    for _ in range(source.choice((0, 1, 4, 20, 64))):  # how many of each class are coded
        writer.run([source.choice((0, 0, 1, 2, 9, 1000))], rate=source.choice((0, 8, 40, RATES[0], RATES[-1])))
    for _ in range(source.choice((0, 1, 4, 20))):  # their gaps
        count = source.choice((0, 1, 5, 200))
        writer.run([source.choice((0, 1, 7, 40)) for _ in range(count)], rate=source.choice(RATES))
    if source.random() < 0.2:
        writer.run([source.randrange(2) for _ in range(50)], rate=COINS)
    anatomy.payloads[name] = head + writer.finish()
    if source.random() < 0.3:
        anatomy.payloads[name] = edit_bytes(source, anatomy.payloads[name])


def any_model(source: random.Random, rows: int, columns: int) -> MaskModel:
    largest = source.choice((1, 6, 31, 32, 62, 100))
    share = source.choice((0.0, 0.05, 0.5, 1.0))

    def vector(length: int) -> Any:
        steps = [source.randint(-largest, largest) if source.random() < share else 0 for _ in range(length)]
        return np.array(steps, dtype=np.int16)

    return MaskModel(
        offset=source.choice((0, OFFSETS[0], OFFSETS[-1], source.choice(OFFSETS))),
        rows=vector(rows) if source.random() < 0.5 else None,
        columns=vector(columns) if source.random() < 0.5 else None,
        magnitudes=np.cumsum(vector(MAGNITUDES), dtype=np.int16) if source.random() < 0.4 else None,
        first_magnitude=source.choice((0, 1, 900, 1016, 65535)),
    )


def move_payload(source: random.Random, anatomy: Anatomy) -> None:
    """The payload of one tensor in place of another's."""
    names = list(anatomy.payloads)
    anatomy.payloads[source.choice(names)] = anatomy.payloads[source.choice(names)]


def frames_of(data: bytes) -> list[bytes]:
    """The frames of values as they are divided by their lengths; what is left over is the last."""
    frames, place = [], 0
    while place < len(data):
        end = place + 4 + int.from_bytes(data[place : place + 4], "little")
        frames.append(data[place + 4 : end])
        place = end
    return frames


def with_lengths(frames: list[bytes]) -> bytes:
    return b"".join(len(frame).to_bytes(4, "little") + frame for frame in frames)


def pick_frames(source: random.Random, anatomy: Anatomy) -> tuple[dict[str, Any], str, list[bytes]] | None:
    found = pick(source, anatomy, "values")
    if found is None or found[0].get("values_coding") in (None, "raw"):
        return None
    frames = frames_of(anatomy.payloads[found[1]])
    return (*found, frames) if frames else None


def edit_frame(source: random.Random, anatomy: Anatomy) -> None:
    """The inside of a frame, its length put right."""
    if found := pick_frames(source, anatomy):
        _, name, frames = found
        place = source.randrange(len(frames))
        frames[place] = edit_bytes(source, frames[place] or b"\0")
        anatomy.payloads[name] = with_lengths(frames)


def edit_content(source: random.Random, anatomy: Anatomy) -> None:
    """What a frame holds, of the right length or another: with the right one, a well-formed other delta."""
    if not (found := pick_frames(source, anatomy)):
        return
    _, name, frames = found
    place = source.randrange(len(frames))
    try:
        if zstandard.get_frame_parameters(frames[place]).content_size > 1 << 22:
            return  # an edit before this one made a bomb of it, which is the library's to refuse
        content = bytearray(zstandard.ZstdDecompressor().decompress(frames[place]))
    except zstandard.ZstdError:
        return
    what = source.randrange(5)
    if what == 0 and content:
        content[source.randrange(len(content))] = source.randrange(256)
    elif what == 1:
        content[:] = source.randbytes(min(len(content), 4096)) + content[4096:]
    elif what == 2:
        content[:] = bytes([source.choice((0, 0xFF, 0x80))]) * len(content)
    elif what == 3:
        content += bytes(source.choice((1, 2, 4, 1 << 20)))
    else:
        del content[len(content) // 2 :]
    frames[place] = compressed(source, bytes(content))
    anatomy.payloads[name] = with_lengths(frames)


def compressed(source: random.Random, content: bytes) -> bytes:
    """A frame of any kind that zstd knows."""
    settings: dict[str, Any] = {"write_content_size": True, "write_checksum": False}
    if source.random() < 0.3:
        settings[source.choice(list(settings))] = source.random() < 0.5
    if source.random() < 0.1:
        window = source.choice((10, 17, 22, 27))
        return zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters(window_log=window, **settings)
        ).compress(content)
    if source.random() < 0.1:  # written in a stream: many blocks, the size not known beforehand
        stream = zstandard.ZstdCompressor(level=1, **settings).compressobj()
        return stream.compress(content) + stream.flush()
    return zstandard.ZstdCompressor(level=source.choice((1, 3, 19)), **settings).compress(content)


def edit_frames(source: random.Random, anatomy: Anatomy) -> None:
    """More frames, fewer, other ones, or skippable ones between."""
    if not (found := pick_frames(source, anatomy)):
        return
    _, name, frames = found
    place = source.randrange(len(frames))
    what = source.randrange(6)
    if what == 0:
        del frames[place]
    elif what == 1:
        frames.insert(place, frames[source.randrange(len(frames))])
    elif what == 2:
        frames.insert(place, b"")
    elif what == 3:
        frames[place] = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd" + frames[place]
    elif what == 4:
        frames[place] += frames[place]
    else:
        frames[place] = bomb(source, BLOCK * source.choice((1, 2, 4, 8, 1024)))
    anatomy.payloads[name] = with_lengths(frames)


def bomb(source: random.Random, nbytes: int) -> bytes:
    """A frame of so many zeros, which may claim another size."""
    return frame_of_zeros(nbytes, claimed=source.choice((nbytes, nbytes, nbytes - 1, 1 << 20, (1 << 63) - 1)))


def other_values(source: random.Random, anatomy: Anatomy) -> None:
    """Raw values of the right size, any bits at all: a well-formed other delta."""
    if found := pick(source, anatomy, "values"):
        change, name = found
        count = math.prod(change["shape"]) - change.get("zeros", 0)
        if count < 1 << 16:
            anatomy.payloads[name] = source.randbytes(max(0, count * SIZES[change["dtype"]]))
            change["values_coding"] = "raw"


PAYLOAD_EDITS: tuple[PayloadEdit, ...] = (
    edit_any,
    edit_mask,
    edit_mask,
    edit_mask_words,
    edit_mask_head,
    write_mask,
    write_mask,
    move_payload,
    edit_frame,
    edit_frame,
    edit_content,
    edit_content,
    edit_frames,
    other_values,
)
