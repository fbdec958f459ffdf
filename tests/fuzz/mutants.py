"""Mutated deltas: damage to bytes, and edits after which every hash is right again, so that decoders see them."""

import functools
import json
import random
from collections.abc import Callable
from typing import NamedTuple, final

from deltas.reference_format import behind
from fuzz.anatomy import PARTS, Anatomy, pack, put_together, take_apart
from fuzz.byte_edits import edit_bytes, spliced
from fuzz.document_edits import DOCUMENT_EDITS, edit_json, odd_text
from fuzz.payload_edits import PAYLOAD_EDITS, bomb
from fuzz.seeds import Seed, seeds_of

LONG_SHARE = 0.02  # of the mutants are of large files, which take longer
TRIES = 8


@final
class Mutant(NamedTuple):
    """A mutated file, and what was done to it; `sealed` if all hashes are right again."""

    data: bytes
    base: str
    how: str
    sealed: bool


def mutant(source: random.Random) -> Mutant:
    """Any mutant; three in four of them are sealed."""
    base = "long" if source.random() < LONG_SHARE else "every"
    seed = source.choice(seeds_of(base))
    (kind,) = source.choices(list(KINDS), weights=[weight for weight, _ in KINDS.values()])
    data, how, sealed = KINDS[kind][1](source, seed)
    return Mutant(data, base, how, sealed)


@functools.lru_cache(maxsize=64)
def parts(seed: Seed) -> tuple[str, dict[str, bytes]]:
    anatomy = take_apart(seed.data)
    return json.dumps(anatomy.document), anatomy.payloads


def anatomy_of(seed: Seed) -> Anatomy:
    """The seed's parts, to be changed at will."""
    text, payloads = parts(seed)
    return Anatomy(json.loads(text), dict(payloads))


def damaged(source: random.Random, seed: Seed) -> tuple[bytes, str, bool]:
    return edit_bytes(source, seed.data), "bytes", False


def mixed(source: random.Random, seed: Seed) -> tuple[bytes, str, bool]:
    return spliced(source, seed.data, source.choice(seeds_of(seed.base)).data), "splice", False


def header_edited(source: random.Random, seed: Seed) -> tuple[bytes, str, bool]:
    """Edits of the header, which no hash covers: it may say nothing that the document does not."""
    length = int.from_bytes(seed.data[:8], "little")
    header, body = json.loads(seed.data[8 : 8 + length]), seed.data[8 + length :]
    if source.random() < 0.2:
        number = source.choice((0, 1, 8, length - 8, length + 8, 65_537, 1 << 31, 1 << 62, (1 << 64) - 1))
        return number.to_bytes(8, "little") + seed.data[8:], "header length", False
    if source.random() < 0.1:
        name, version, sha256 = header["__metadata__"]["format"].split()
        version = source.choice(("2", "0", "", "01", "1.0", "-1", "9" * 40))
        header["__metadata__"]["format"] = source.choice((f"{name} {version} {sha256}", name, sha256, 1, None, [name]))
        return behind(header, body), "version", False
    for _ in range(source.choice((1, 1, 2))):
        edit_json(source, header)
    return behind(header, body), "header", False


def document_edited(source: random.Random, seed: Seed) -> tuple[bytes, str, bool]:
    edit = source.choice(DOCUMENT_EDITS)
    anatomy = altered(source, seed, lambda anatomy: safely(lambda: edit(source, anatomy)))
    return put_together(anatomy), f"document: {edit.__name__}", True


def payload_edited(source: random.Random, seed: Seed) -> tuple[bytes, str, bool]:
    edit = source.choice(PAYLOAD_EDITS)
    anatomy = altered(source, seed, lambda anatomy: edit(source, anatomy))
    return put_together(anatomy), f"payload: {edit.__name__}", True


def both_edited(source: random.Random, seed: Seed) -> tuple[bytes, str, bool]:
    anatomy = altered(source, seed, lambda anatomy: change(source, anatomy))
    return put_together(anatomy), "document and payloads", True


def altered(source: random.Random, seed: Seed, edit: Callable[[Anatomy], None]) -> Anatomy:
    """The seed's parts after an edit; those of another seed, if the edit found nothing to do."""
    for _ in range(TRIES):
        anatomy, intact = anatomy_of(seed), anatomy_of(seed)
        edit(anatomy)
        if anatomy != intact:
            break
        seed = source.choice(seeds_of(seed.base))
    return anatomy


def change(source: random.Random, anatomy: Anatomy) -> None:
    """A few edits of document and payloads, in place."""
    for _ in range(source.randint(1, 4)):
        edits = DOCUMENT_EDITS if source.random() < 0.4 else PAYLOAD_EDITS
        edit = source.choice(edits)
        safely(functools.partial(edit, source, anatomy))


def safely(edit: Callable[[], None]) -> None:
    """An edit after another one may not find what it is about."""
    try:
        edit()
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, OverflowError):
        return


def grafted(source: random.Random, seed: Seed) -> tuple[bytes, str, bool]:
    """Changes and payloads of another delta beside one's own."""
    anatomy, other = anatomy_of(seed), anatomy_of(source.choice(seeds_of(seed.base)))
    changes = {change["name"]: change for change in anatomy.document["changes"]}
    for change in other.document["changes"]:
        if source.random() < 0.5:
            changes[change["name"]] = change
            for part, field in PARTS.items():
                anatomy.payloads.pop(f"{change['name']}:{part}", None)
                if field in change:
                    anatomy.payloads[f"{change['name']}:{part}"] = other.payloads[f"{change['name']}:{part}"]
    anatomy.document["changes"] = list(changes.values())
    names = [f"{change['name']}:{part}" for change in changes.values() for part in PARTS]
    anatomy.payloads = {name: anatomy.payloads[name] for name in names if name in anatomy.payloads}
    return put_together(anatomy), "graft", True


def oddly_written(source: random.Random, seed: Seed) -> tuple[bytes, str, bool]:
    anatomy = anatomy_of(seed)
    return put_together(anatomy, text=odd_text(source, anatomy.document)), "document: text", True


def oddly_packed(source: random.Random, seed: Seed) -> tuple[bytes, str, bool]:
    """The document in every kind of zstd data."""
    anatomy = anatomy_of(seed)
    text = json.dumps(anatomy.document).encode()
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    packed = source.choice(
        (
            lambda: pack(text, level=source.choice((1, 19, -5))),
            lambda: pack(text, write_content_size=False),
            lambda: pack(text, write_checksum=True),
            lambda: pack(text[:100]) + pack(text[100:]),
            lambda: pack(text) + b"\0",
            lambda: skippable + pack(text),
            lambda: pack(text) + skippable,
            lambda: bomb(source, source.choice((1 << 17, 1 << 20, 1 << 24, 1 << 27))),
            lambda: edit_bytes(source, pack(text)),
            lambda: text,
            lambda: b"",
        )
    )()
    return put_together(anatomy, text=text, packed=packed), "document: zstd", True


KINDS: dict[str, tuple[int, Callable[[random.Random, Seed], tuple[bytes, str, bool]]]] = {
    "bytes": (10, damaged),
    "splice": (5, mixed),
    "header": (8, header_edited),
    "document": (22, document_edited),
    "payload": (35, payload_edited),
    "both": (10, both_edited),
    "graft": (4, grafted),
    "text": (3, oddly_written),
    "zstd": (3, oddly_packed),
}
