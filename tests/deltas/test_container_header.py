from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from supermask.deltas.container_header import header_bytes, is_entry, is_span, read_header, sample
from supermask.errors import DeltaFormatError

METADATA = {"format": "supermask-delta", "version": "9"}


def read(folder: Path, data: bytes) -> tuple[object, ...]:
    path = folder / "x"
    path.write_bytes(data)
    with path.open("rb") as file:
        return tuple(read_header(file, path))


def test_a_header_stands_in_the_file_as_the_format_says() -> None:
    header = {"__metadata__": {"a": "ß\u2028"}, "b": {"shape": [1, 2]}}
    text = '{"__metadata__":{"a":"ß\u2028"},"b":{"shape":[1,2]}}'.encode()
    found = header_bytes(header)
    assert found[:8] == struct.pack("<Q", len(found) - 8)
    assert found[8:].rstrip(b" ") == text
    assert len(found) % 8 == 0
    assert len(found) - 8 - len(text) < 8


def test_a_header_of_any_version_is_read_and_nothing_behind_it(tmp_path: Path) -> None:
    data = header_bytes({"__metadata__": METADATA, "x": 3}) + b"tensors"
    assert read(tmp_path, data) == (METADATA, {"x": 3}, len(data) - 7, 7)


def test_a_header_is_as_long_as_it_says(tmp_path: Path) -> None:
    text = json.dumps({"__metadata__": METADATA}).encode()
    for length in (0, 1, len(text) - 1):
        with pytest.raises(DeltaFormatError, match="not valid JSON"):
            read(tmp_path, struct.pack("<Q", length) + text)
    with pytest.raises(
        DeltaFormatError, match=f"should have {len(text) + 1} bytes and the file ends after {len(text)}"
    ):
        read(tmp_path, struct.pack("<Q", len(text) + 1) + text)


def test_a_header_has_100_million_bytes_at_most(tmp_path: Path) -> None:
    with pytest.raises(DeltaFormatError, match="should have 100000000 bytes"):
        read(tmp_path, struct.pack("<Q", 100_000_000) + b"{")
    with pytest.raises(DeltaFormatError, match="no safetensors file"):
        read(tmp_path, struct.pack("<Q", 100_000_001) + b"{")


@pytest.mark.parametrize(
    "offsets", [None, [], [0], [0, 1, 2], (0, 1), [0, 1.0], [True, 1], [-1, 1], ["0", "1"], {"0": 0, "1": 1}]
)
def test_what_is_no_span(offsets: object) -> None:
    assert not is_span(offsets)
    assert not is_entry({"dtype": "U8", "shape": [1], "data_offsets": offsets}, "U8", [1])


@pytest.mark.parametrize(
    "fields",
    [{"dtype": "I8"}, {"dtype": None}, {"shape": [2]}, {"shape": [1.0]}, {"shape": [True]}, {"shape": 1}, {"more": 1}],
)
def test_what_is_no_entry(fields: dict[str, object]) -> None:
    entry = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    assert is_entry(entry, "U8", [1])
    assert not is_entry(entry | fields, "U8", [1])
    assert not is_entry(list(entry), "U8", [1])


def test_a_message_names_few_and_shows_what_can_be_shown() -> None:
    assert sample(["b", "a"]) == "'a', 'b'"
    assert sample(["d", "c", "\x1b[2J", "a"]) == "'\\x1b[2J', 'a', 'c', ..."
    assert len(sample(["x" * 10_000])) == 100
