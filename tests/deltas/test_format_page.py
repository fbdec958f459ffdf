"""docs/FORMAT.md says what the code does: its tables, limits, formulas and examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deltas.format_page import PAGE, section, table
from supermask.deltas import container_header, container_v2
from supermask.deltas.document import (
    FORMAT_NAME,
    FORMAT_VERSION,
    BaseRecord,
    ChangeRecord,
    DeltaDocument,
    PayloadRecord,
)
from supermask.deltas.fingerprint import SHORT_HASH
from supermask.deltas.tensor_bytes import STORED_DTYPES


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


def test_limits_are_those_of_the_code() -> None:
    limits = table(section("Limits"), "what")
    assert number(limits["header"].split()[0]) == container_header._MAX_HEADER
    assert number(limits["document, compressed or not"].split()[0]) == container_v2._MAX_DOCUMENT == 16 << 20
    assert limits[f"document larger than {container_v2._ANY_RATIO:,} bytes"] == (
        f"{container_v2._MAX_RATIO} times its compressed size"
    )
    for text in ("16,777,216 (16 MiB)", "1,048,576 bytes (1 MiB)", "1000 times as large", "100,000,000"):
        assert text in " ".join(section("The file").split())
    assert "2^34" in section("The document")
    assert "1 to 1000 characters" in section("The document")


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(#([\w-]+)\)", PAGE))))
def test_links_within_the_page_lead_somewhere(link: str) -> None:
    headings = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", PAGE, re.M)
    }
    assert link in headings


def test_every_file_that_the_page_names_is_there() -> None:
    root = Path(__file__).parents[2]
    assert all((root / name).exists() for name in re.findall(r"`((?:tests|docs|src)/[\w/.]+)`", PAGE))
