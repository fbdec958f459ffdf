"""Files that are no delta, and headers that lie about what follows them."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

from attacks.attack import Attack, on_file, seed

from fuzz.anatomy import in_file

__all__ = ["HEADER_ATTACKS"]

LOAD = "refused at load"


def with_header(edit: Callable[[dict[str, Any]], object], name: str = "one mask") -> Callable[[], bytes]:
    """A file with an edited header."""

    def craft() -> bytes:
        data = seed(name)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        edit(header)
        return in_file(header, data[8 + length :])

    return craft


def with_length(length: int) -> Callable[[], bytes]:
    return lambda: length.to_bytes(8, "little") + seed()[8:]


def with_text(text: bytes) -> Callable[[], bytes]:
    """A file whose header is this text."""
    return lambda: len(text).to_bytes(8, "little") + text


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.pkl", b"")
    return file.getvalue()


class Evil:
    """What a pickle may hold: a call that is made when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('unpickled')",))


def offsets(key: str, begin: Any, end: Any, *, name: str = "one mask") -> Callable[[], bytes]:
    return with_header(lambda header: header[key].update(data_offsets=[begin, end]), name)


def second_entry_overlaps(header: dict[str, Any]) -> None:
    names = [name for name in header if name != "__metadata__"]
    header[names[1]]["data_offsets"] = header[names[0]]["data_offsets"]


HEADER_ATTACKS: tuple[Attack, ...] = (
    on_file("nothing", "an empty file", LOAD, "no safetensors file", lambda: b""),
    on_file("seven bytes", "less than a length", LOAD, "no safetensors file", lambda: b"\x01" * 7),
    on_file("pickle", "a pickle that runs code when read", LOAD, "never unpickles", lambda: pickle.dumps(Evil())),
    on_file("torch.save", "a zip archive with a pickle", LOAD, "never unpickles", zipped),
    on_file(
        "git lfs pointer",
        "the pointer in place of the file",
        LOAD,
        "git lfs pull",
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    ),
    on_file("header of 2^63 bytes", "a length far beyond the file", LOAD, "no safetensors file", with_length(1 << 63)),
    on_file(
        "header of 2^64-1 bytes", "a length that wraps around", LOAD, "no safetensors file", with_length((1 << 64) - 1)
    ),
    on_file(
        "header of 100 MB", "the largest length allowed, in a small file", LOAD, "truncated", with_length(100_000_000)
    ),
    on_file("header of no length", "0 bytes of JSON", LOAD, "not valid JSON", with_length(0)),
    on_file("header that is a list", "JSON, but no object", LOAD, "no safetensors file", with_text(b"[1, 2, 3]")),
    on_file("deep header", "100,000 nested objects", LOAD, "not valid JSON", with_text(b'{"a":' * 100_000)),
    on_file(
        "long number in the header",
        "a whole number of 100,000 digits",
        LOAD,
        "not valid JSON",
        with_text(b'{"a":' + b"9" * 100_000 + b"}"),
    ),
    on_file(
        "key twice in the header",
        "two entries of one name, of which readers may take either",
        LOAD,
        "stands twice",
        with_text(b'{"__metadata__":{"format":"supermask-delta","format":"x"}}'),
    ),
    on_file("header in no encoding", "bytes that are no UTF-8", LOAD, "not valid JSON", with_text(b'{"\xff\xfe":1}')),
    on_file(
        "other safetensors file",
        "a checkpoint",
        LOAD,
        "not a delta",
        lambda: in_file({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"\0"),
    ),
    on_file(
        "unknown version",
        "a delta of version 3",
        LOAD,
        "version '3' is unknown",
        with_header(lambda header: header["__metadata__"].update(version="3")),
    ),
    on_file(
        "version as a number",
        "2 and not '2'",
        LOAD,
        "version 2 is unknown",
        with_header(lambda header: header["__metadata__"].update(version=2)),
    ),
    on_file(
        "version 2 called 1",
        "a header that asks for the other reader",
        LOAD,
        "keys",
        with_header(lambda header: header["__metadata__"].update(version="1")),
    ),
    on_file(
        "version 1 called 2",
        "the same the other way",
        LOAD,
        "keys",
        with_header(lambda header: header["__metadata__"].update(version="2"), "masks, version 1"),
    ),
    on_file(
        "version of 1 MB",
        "a refusal as long as the file",
        LOAD,
        "is unknown",
        with_header(lambda header: header["__metadata__"].update(version="9" * (1 << 20))),
    ),
    on_file(
        "smuggled tensor",
        "a tensor that no document mentions",
        LOAD,
        "keys",
        with_header(lambda header: header.update(x={"dtype": "U8", "shape": [0], "data_offsets": [0, 0]})),
    ),
    on_file(
        "smuggled metadata",
        "metadata that no hash covers",
        LOAD,
        "keys",
        with_header(lambda header: header["__metadata__"].update(note="x")),
    ),
    on_file("smuggled end", "bytes behind the last tensor", LOAD, "follow the last tensor", lambda: seed() + zipped()),
    on_file("last byte gone", "a truncated file", LOAD, "truncated", lambda: seed()[:-1]),
    on_file(
        "document without a hash",
        "the hash of another document",
        LOAD,
        "does not have the hash",
        with_header(lambda header: header["__metadata__"].update(sha256="0" * 64)),
    ),
    on_file(
        "negative offset", "a tensor that starts before the file", LOAD, "does not start", offsets("document", -8, 8)
    ),
    on_file("offsets turned around", "an end before the beginning", LOAD, "does not start", offsets("payloads", 9, 0)),
    on_file("offset of 2^64", "an end that wraps around", LOAD, "", offsets("payloads", 0, 1 << 64)),
    on_file("offset as a fraction", "0.0 in place of 0", LOAD, "does not start", offsets("document", 0.0, 8.0)),
    on_file("offset as a truth value", "false in place of 0", LOAD, "does not start", offsets("document", False, 8)),
    on_file(
        "other dtype",
        "bytes declared as numbers",
        LOAD,
        "not a row",
        with_header(lambda header: header["document"].update(dtype="F32")),
    ),
    on_file(
        "overlapping tensors, version 1",
        "two payloads from the same bytes",
        LOAD,
        "spans|starts at",
        with_header(second_entry_overlaps, "masks, version 1"),
    ),
    on_file(
        "gap between tensors, version 1",
        "bytes that belong to nothing",
        LOAD,
        "starts at|spans",
        with_header(
            lambda header: [
                entry.update(data_offsets=[offset + 8 for offset in entry["data_offsets"]])
                for name, entry in header.items()
                if name != "__metadata__"
            ],
            "values, version 1",
        ),
    ),
    on_file(
        "white space and order",
        "the same header, written differently",
        "right",
        "",
        lambda: respaced(seed()),
    ),
)


def respaced(data: bytes) -> bytes:
    """The same header with other white space, its keys in another order."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    text = json.dumps(dict(reversed(header.items())), indent=3).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
