"""docs/FORMAT.md says what the code does: its tables, limits, formulas and examples."""

import json
import re
from pathlib import Path

import pytest

from deltas.format_page import PAGE, section, table
from deltas.reference_format import header_of
from supermask.deltas import document, file
from supermask.deltas.document import BaseRecord, ChangeRecord, DeltaDocument, MethodRecord, TaskRecord, TrainingRecord
from supermask.deltas.fingerprint import SHORT_HASH
from supermask.deltas.tensor_bytes import STORED_DTYPES


def test_the_page_is_of_the_version_that_is_written() -> None:
    assert PAGE.startswith(f"# The delta's file format, version {document.FORMAT_VERSION}\n")
    assert f"`{document.FORMAT_NAME} {document.FORMAT_VERSION} `" in section("The file")
    shown = re.search(r"```\n(\{.*?)```", section("The file"), flags=re.DOTALL)
    assert shown is not None
    named = header_of("", 1, 2)["__metadata__"]["format"]
    text = "".join(shown[1].split()).replace('"V"', f'"{named.replace(" ", "+")}"')
    for letters, value in (("D+P", "3"), ("D", "1"), ("P", "2")):
        text = re.sub(rf"(?<=[\[,]){re.escape(letters)}(?=[\],])", value, text)
    assert json.loads(text.replace("+", " ")) == header_of("", 1, 2)


def test_the_document_has_the_fields_that_the_page_lists() -> None:
    fields = table(section("The document"), "field")
    assert {name for name in fields if "." not in name} == set(DeltaDocument.model_fields)
    assert {name.removeprefix("base.") for name in fields if "." in name} == set(BaseRecord.model_fields)
    for name, record in (("method", MethodRecord), ("task", TaskRecord), ("training", TrainingRecord)):
        assert re.findall(r"`(\w+)`", fields[name]) == list(record.model_fields)
    changes = table(section("The document").split("An entry of `changes`:")[1], "field")
    assert list(changes) == list(ChangeRecord.model_fields)
    assert re.findall(r"`([a-z0-9_]+)`", changes["dtype"]) == list(STORED_DTYPES)
    assert f"the first {SHORT_HASH} hex digits" in fields["base.tensors"]


def test_limits_are_those_of_the_code() -> None:
    text = " ".join(section("The file").split())
    assert f"at most {file._MAX_HEADER:,}" in text
    assert f"above {document.MAX_TEXT:,} bytes (4 MiB)" in text
    assert f"more than {document._MAX_PARTS:,} (2^18)" in text
    assert "1 to 1000 characters" in section("The document")
    assert f"at most {document._MAX_ROWS} entries" in section("The document")
    assert len(PAGE.splitlines()) <= 320


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(#([\w-]+)\)", PAGE))))
def test_links_within_the_page_lead_somewhere(link: str) -> None:
    headings = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", PAGE, re.M)
    }
    assert link in headings


def test_every_file_that_the_page_names_is_there() -> None:
    root = Path(__file__).parents[2]
    assert all((root / name).exists() for name in re.findall(r"`((?:tests|docs|src)/[\w/.]+)`", PAGE))
