"""docs/FORMAT.md says what the code does: its tables, limits, formulas and examples."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
import zstandard

from deltas import reference_values
from deltas.coding.reference_masks import LEADING, OCTAVE
from deltas.tiny_values import forced
from supermask.deltas import codec, container_header, container_v2, encode_keep_mask, value_codec, value_frames
from supermask.deltas.coding import encode_mask
from supermask.deltas.document import (
    FORMAT_NAME,
    FORMAT_VERSION,
    BaseRecord,
    ChangeRecord,
    DeltaDocument,
    PayloadRecord,
)
from supermask.deltas.fingerprint import SHORT_HASH
from supermask.deltas.keep_mask import MaskPositions
from supermask.deltas.tensor_bytes import STORED_DTYPES
from supermask.deltas.value_differences import context_bits

PAGE = (Path(__file__).parents[2] / "docs" / "FORMAT.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """What stands under a heading, headings below it included."""
    level = re.search(rf"^(#+) {re.escape(title)}$", PAGE, flags=re.MULTILINE)
    assert level is not None, title
    rest = PAGE[level.end() :]
    end = re.search(rf"^#{{1,{len(level[1])}}} ", rest, flags=re.MULTILINE)
    return rest[: end.start()] if end else rest


def table(text: str, column: str) -> dict[str, str]:
    """The first table whose first column has this name: its rows' first cells to their last."""
    lines = text.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith(f"| {column} |"))
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[cells[0].strip("`")] = cells[-1]
    return rows


def number(text: str) -> int:
    return int(text.replace(",", ""))


def test_the_page_is_of_the_version_that_is_written() -> None:
    assert PAGE.startswith(f"# The delta's file format, version {FORMAT_VERSION}\n")
    metadata = table(section("The file"), "key of `__metadata__`")
    assert metadata.keys() == {"format", "version", "sha256"}
    assert (metadata["format"], metadata["version"]) == (f"`{FORMAT_NAME}`", f"`{FORMAT_VERSION}`")
    assert table(section("Versions"), "version").keys() == {str(version) for version in range(1, FORMAT_VERSION + 1)}
    assert table(section("Version 1"), "key").keys() == {"format", "version", "document", "sha256"}


def test_the_document_has_the_fields_that_the_page_lists() -> None:
    fields = table(section("The document"), "field")
    top = {name for name in fields if "." not in name}
    assert top == set(DeltaDocument.model_fields)
    assert {name.removeprefix("base.") for name in fields if "." in name} == set(BaseRecord.model_fields)
    changes = table(section("The document").split("An entry of `changes`:")[1], "field")
    assert changes.keys() == ChangeRecord.model_fields.keys()
    assert set(PayloadRecord.model_fields) == {"nbytes", "crc32", "coding", "sha256"}  # the last one in version 1
    assert f"the first {SHORT_HASH} hex digits" in fields["base.tensors"]


def test_dtypes_and_their_names_in_version_1_are_listed_in_order() -> None:
    changes = table(section("The document").split("An entry of `changes`:")[1], "field")
    assert re.findall(r"`([a-z0-9_]+)`", changes["dtype"]) == list(STORED_DTYPES)
    tags = re.search(r"where the tensor's `dtype` is (.*?), in the\norder", section("Version 1"), flags=re.DOTALL)
    assert tags is not None
    assert re.findall(r"`(\w+)`", tags[1]) == [tag for _, tag in STORED_DTYPES.values()]


def test_codings_are_listed() -> None:
    codings = table(section("Values"), "`coding`")
    assert codings.keys() == set(value_codec.VALUE_CODINGS)
    needing = {name for name, needs in codings.items() if needs == "the base's tensor"}
    assert needing == {name for name in value_codec.VALUE_CODINGS if value_codec.needs_reference(name)}


def test_limits_are_those_of_the_code() -> None:
    limits = table(section("Limits"), "what")
    assert number(limits["header"].split()[0]) == container_header._MAX_HEADER
    assert number(limits["document, compressed or not"].split()[0]) == container_v2._MAX_DOCUMENT == 16 << 20
    assert limits[f"document larger than {container_v2._ANY_RATIO:,} bytes"] == (
        f"{container_v2._MAX_RATIO} times its compressed size"
    )
    assert limits["weights of a tensor"] == f"2^{int(math.log2(codec.MAX_WEIGHTS))}"
    assert limits["a zstd frame of values"].count(f"2^{int(math.log2(value_frames._MAX_WINDOW))} bytes") == 2
    assert f"in blocks of 2^{int(math.log2(value_codec._BLOCK))}" in section("Values")
    for text in ("16,777,216 (16 MiB)", "1,048,576 bytes (1 MiB)", "1000 times as large", "100,000,000"):
        assert text in " ".join(section("The file").split())
    assert "2^34" in section("The document")
    assert "1 to 1000 characters" in section("The document")


def test_fractions_are_those_of_the_dtypes() -> None:
    text = section("Values")
    for name, (dtype, _) in STORED_DTYPES.items():
        fraction = reference_values.FRACTION[name]
        assert context_bits(dtype) == min(12, fraction)
        if dtype.is_floating_point:
            assert torch.finfo(dtype).eps == 2.0**-fraction
            assert f"{fraction} for `{name}`" in " ".join(text.split())
    assert "0 for whole numbers" in text


def test_leading_bits_and_odds_are_those_of_the_reference() -> None:
    rows = table(section("Keep masks"), "dtype")
    assert rows == {name: f"floor(b / 2^{shift}) mod 2^{kept}" for name, (shift, kept) in LEADING.items()}
    assert ", ".join(map(str, OCTAVE)) in section("Keep masks")


def test_the_examples_of_masks_are_what_is_written() -> None:
    keep = torch.tensor([True, False, False, True])
    example = " ".join(re.findall(r"`([0-9a-f ]+)`", section("Form 0").split("**Example.**")[1]))
    assert encode_mask(MaskPositions.of(keep)).hex(" ") == example
    assert f"`{encode_keep_mask(keep).hex(' ')}`" in section("Version 1")


def test_the_example_of_values_is_what_is_written() -> None:
    values, base = torch.tensor([1.0, -2.0]), torch.tensor([1.0, -1.5])
    payload = forced("sorted_difference", values, base).data
    example = " ".join(re.findall(r"`((?:[0-9a-f]{2}\s?)+)`", section("Values").split("**Example.**")[1]))
    assert zstandard.ZstdDecompressor().decompress(payload[4:]).hex(" ") == " ".join(example.split())


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(#([\w-]+)\)", PAGE))))
def test_links_within_the_page_lead_somewhere(link: str) -> None:
    headings = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", PAGE, re.M)
    }
    assert link in headings


def test_every_file_that_the_page_names_is_there() -> None:
    root = Path(__file__).parents[2]
    assert all((root / name).exists() for name in re.findall(r"`((?:tests|docs|src)/[\w/.]+)`", PAGE))
