"""Attacks by name: a delta that was edited on purpose, every hash put right, and what must become of it.

What is no delta at all, headers, frames and texts that are refused before they are believed, are in the tests of the
file and of the document; payloads that code nothing, in those of coding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, final

import zstandard

from fuzz.anatomy import Anatomy, frame_of_zeros, put_together, take_apart
from fuzz.seeds import seeds_of

LOAD, DECODING, APPLYING = "refused at load", "refused at decoding", "refused at applying"
CUBE = "cube:values"  # 144 values of 4 bytes
ROWS = 48  # of the mask `large`, which has 64 columns


@final
class Attack(NamedTuple):
    """What is tried on the delta `seed`, what may come of it, divided by `|`, and words that a refusal has in it."""

    what: str
    outcome: str
    words: str
    edit: Callable[[Anatomy], object]
    seed: str = "one mask"

    def craft(self) -> bytes:
        """The file."""
        (found,) = (seed.data for seed in seeds_of("every") if seed.name == self.seed)
        anatomy = take_apart(found)
        self.edit(anatomy)
        return put_together(anatomy)


def first(**fields: Any) -> Callable[[Anatomy], object]:
    """The first change, a mask of 48 by 64, told differently."""
    return lambda parts: parts.document["changes"][0].update(fields)


def renamed(name: str) -> Callable[[Anatomy], object]:
    """The first tensor under another name, in the base too."""

    def edit(parts: Anatomy) -> None:
        document = parts.document
        old = document["changes"][0]["name"]
        document["changes"][0]["name"] = name
        document["base"]["tensors"][name] = document["base"]["tensors"].pop(old)
        parts.payloads = {key.replace(f"{old}:", f"{name}:"): data for key, data in parts.payloads.items()}

    return edit


def moved_boundary(parts: Anatomy) -> None:
    """Two payloads of which one takes a byte of the other; the hash of all of them stays."""
    names = list(parts.payloads)
    one, other = parts.payloads[names[0]], parts.payloads[names[1]]
    parts.payloads[names[0]], parts.payloads[names[1]] = one + other[:1], other[1:]


def twins(parts: Anatomy) -> None:
    changes = parts.document["changes"]
    change = next(change for change in changes if change["name"] == "embedding.weight")
    changes.append({**change, "name": "decoder.weight"})
    parts.payloads["decoder.weight:keep"] = parts.payloads["embedding.weight:keep"]


def stolen_head(parts: Anatomy) -> None:
    parts.document["head"].append("row")
    parts.document["base"]["tensors"].pop("row")


def mask(payload: bytes | Callable[[bytes], bytes], name: str = "large") -> Callable[[Anatomy], object]:
    """Another payload for one mask."""

    def edit(parts: Anatomy) -> None:
        old = parts.payloads[f"{name}:keep"]
        parts.payloads[f"{name}:keep"] = payload(old) if callable(payload) else payload

    return edit


def values(change: Callable[[bytes], bytes]) -> Callable[[Anatomy], object]:
    """Another frame for the values of `cube`."""

    def edit(parts: Anatomy) -> None:
        frame = change(parts.payloads[CUBE][4:])
        parts.payloads[CUBE] = len(frame).to_bytes(4, "little") + frame

    return edit


def coded_as(coding: str) -> Callable[[Anatomy], object]:
    return lambda parts: next(c for c in parts.document["changes"] if c["name"] == "cube").update(values_coding=coding)


def with_window(nbytes: int, bits: int) -> bytes:
    """A frame of zeros that asks for a window of 2^bits bytes."""
    size_of_4_bytes = 2 << 6
    head = b"\x28\xb5\x2f\xfd" + bytes([size_of_4_bytes, (bits - 10) << 3]) + nbytes.to_bytes(4, "little")
    return head + (nbytes << 3 | 0b011).to_bytes(3, "little") + b"\0"


def anew(frame: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=19).compress(zstandard.ZstdDecompressor().decompress(frame))


ALONE, RAW, SHUFFLED = "masks, alone", "values, raw", "values, shuffle"
NO_CODE = b"\1\x40"  # a model over rows, and nothing of it

ATTACKS: tuple[Attack, ...] = (
    # Documents that claim too much or contradict themselves.
    Attack("one zero less than the mask has", DECODING, "large", first(zeros=41)),
    Attack("2^34 + 1 weights", LOAD, "limit", first(shape=[(1 << 34) + 1])),
    Attack("sizes whose product overflows", LOAD, "limit", first(shape=[(1 << 53) - 1, (1 << 53) - 1])),
    Attack("a size of 0 beside one of 2^40", LOAD, "limit", first(shape=[0, 1 << 40], zeros=0)),
    Attack("64 GiB in a file of 1 kB", DECODING, "shape", first(shape=[1 << 17, 1 << 17], zeros=1 << 33)),
    Attack("a mask of 64 by 48 for a tensor of 48 by 64", DECODING, "shape", first(shape=[64, 48])),
    Attack("1000 dimensions", DECODING, "shape", first(shape=[48, 64] + [1] * 1000)),
    Attack("a name that steers the terminal, by ESC", LOAD, "pattern|no name", renamed("\x1b[2J")),
    Attack("the same by one character, U+009B", LOAD, "pattern|no name", renamed("\x9b2J")),
    Attack("a name turned around by U+202E", LOAD, "pattern|no name", renamed("\u202egnp.exe")),
    Attack("a name in two lines, by U+2028", LOAD, "pattern|no name", renamed("large\u2028error: none")),
    Attack("a name of 1001 characters", LOAD, "1000|no name", renamed("a" * 1001)),
    Attack("a path for a name", f"{DECODING}|{APPLYING}", "", renamed("../../etc/passwd")),
    Attack("two changes of one name", LOAD, "twice", lambda p: p.document["changes"].append(p.document["changes"][0])),
    Attack("a change for each name of a tied tensor", APPLYING, "one tensor here|share memory", twins, ALONE),
    Attack("a head tensor that is masked", LOAD, "head", lambda p: p.document["head"].append("large")),
    Attack("a tensor of nobody", LOAD, "neither a", lambda p: p.document["base"]["tensors"].pop("large")),
    Attack("a tensor taken out of the fingerprint", APPLYING + "|other", "", stolen_head, "values, alone"),
    Attack("another base", "other", "", lambda p: p.document["base"].update(digest="0" * 64)),
    Attack("a byte of one payload given to the next", f"{LOAD}|{DECODING}", "", moved_boundary, RAW),
    # Masks.
    Attack("a mask of no bytes", LOAD, "at least 1", mask(b"")),
    Attack("a form that does not exist", DECODING, "no form", mask(b"\xff\0\0")),
    Attack("a model that ends within its head", DECODING, "ends within its head", mask(b"\4\x40")),
    Attack("a density beyond all bounds", DECODING, "offset", mask(b"\1\xff\0")),
    Attack("magnitudes of integers", DECODING, "floating-point", mask(b"\4\x40\0\0\0", "int16"), ALONE),
    Attack("a count of five bytes", DECODING, "no count", mask(NO_CODE + b"\xff\xff\xff\xff\x7f\x20")),
    Attack("a count without an end", DECODING, "no count", mask(NO_CODE + b"\x80" * 9)),
    Attack("a count that can be written shorter", DECODING, "no count", mask(NO_CODE + b"\x81\x00\x20")),
    Attack("49 steps for 48 rows", DECODING, "no count", mask(NO_CODE + bytes([ROWS + 1, 0x20]))),
    Attack("a law that does not exist", DECODING, "rate", mask(NO_CODE + b"\x01\xff")),
    Attack("48 steps and no code", DECODING, "", mask(NO_CODE + bytes([ROWS, 0x20]))),
    Attack("escapes without end", DECODING, "points behind", mask(NO_CODE + bytes([ROWS, 0xA0]) + b"\xff" * 256)),
    Attack("bytes that are no whole words", DECODING, "whole words", mask(lambda old: old + b"\1")),
    Attack("a last word of zero", DECODING, "zero word", mask(lambda old: old + bytes(4))),
    Attack("words left over", DECODING, "", mask(lambda old: old + b"\x12\x34\x56\x78\x9a\xbc\xde\xf0")),
    Attack("a mask that is cut off", DECODING, "large", mask(lambda old: old[:-4])),
    Attack("code for a mask that keeps all", DECODING, "", mask(lambda old: old + bytes([0, 0, 0, 1]), "row"), ALONE),
    # Values.
    Attack("raw values called shuffled", f"{DECODING}|{LOAD}", "", coded_as("shuffle"), RAW),
    Attack("a coding that does not exist", LOAD, "coding", coded_as("zip"), RAW),
    Attack(
        "256 MiB said to be 576 bytes",
        DECODING,
        "",
        values(lambda f: frame_of_zeros(1 << 28, claimed=576)[:500]),
        SHUFFLED,
    ),
    Attack("2^63 bytes", DECODING, "state", values(lambda f: frame_of_zeros(1 << 17, claimed=1 << 63)), SHUFFLED),
    Attack("one value more", DECODING, "state", values(lambda f: frame_of_zeros(580)), SHUFFLED),
    Attack("a window of 2 GiB", DECODING, "state", values(lambda f: with_window(576, 31)), SHUFFLED),
    Attack("a skippable frame", DECODING, "frame", values(lambda f: b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + f), SHUFFLED),
    Attack("a second frame under one length", DECODING, "", values(lambda f: frame_of_zeros(576) * 2), SHUFFLED),
    Attack("no frames at all", DECODING, "cut off", lambda p: p.payloads.update({CUBE: b""}), SHUFFLED),
    Attack(
        "a frame too many",
        DECODING,
        "follow",
        lambda p: p.payloads.update({CUBE: p.payloads[CUBE] + bytes(4)}),
        SHUFFLED,
    ),
    Attack("zeros for values", "other", "", values(lambda f: frame_of_zeros(576)), SHUFFLED),
    Attack("the same values, compressed anew", "other", "", values(anew), SHUFFLED),
)
