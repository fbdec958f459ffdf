from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from deltas import reference_version_1
from deltas.tiny_deltas import HEAD, tiny_changes, tiny_delta, tiny_model
from supermask.deltas import named_tensors
from supermask.deltas.document import DeltaDocument, describe_invalid, parse_document, parse_json
from supermask.errors import DeltaFormatError


@pytest.fixture
def document() -> DeltaDocument:
    return tiny_delta(tiny_model()).document


@pytest.fixture
def document_1() -> DeltaDocument:
    """The same delta as version 1 has it."""
    model = tiny_model()
    changes, described = tiny_changes(model)
    base = {name: tensor for name, tensor in named_tensors(model).items() if name not in HEAD}
    document, _ = reference_version_1.document_and_payloads(changes, base=base, **described)
    return parse_document(reference_version_1.as_json(document), "x")


def edited(document: DeltaDocument, path: str, value: Any) -> str:
    """The document's JSON with one field set, or taken out where the value is ..."""
    content = json.loads(document.to_json())
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place = content
    for part in parents:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(content)


def test_json_round_trip_is_exact(document: DeltaDocument) -> None:
    assert parse_document(document.to_json(), "x") == document
    assert parse_document(document.to_json(indent=2), "x").to_json() == document.to_json()
    assert json.loads(document.to_json(indent=2)) == json.loads(document.to_json())


def test_nothing_is_lost_from_the_descriptions() -> None:
    settings = {"null": None, "nested": [{"a": None}, [], True, 1.5, -0.0, 10**30, "ß\u2028\n"], "int": 1, "float": 1.0}
    document = tiny_delta(tiny_model(), method=settings, training={}).document
    found = parse_document(document.to_json(), "x").method
    assert json.dumps(found, sort_keys=True) == json.dumps(settings, sort_keys=True)


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    model = tiny_model()
    one = tiny_delta(model, task={"a": 1, "b": {"c": 2, "d": 3}})
    two = tiny_delta(model, task={"b": {"d": 3, "c": 2}, "a": 1})
    assert one.document.digest == two.document.digest
    assert one.document.digest != tiny_delta(model, task={"a": 1}).document.digest


def test_totals_are_of_masked_weights_only(document: DeltaDocument) -> None:
    # dense.weight drops 16 of 64, embedding.weight all but 14 of 96, transposed.weight 16 of 48.
    assert (document.zeros, document.weights) == (16 + 82 + 16, 64 + 96 + 48)
    assert document.sparsity == 114 / 208


def test_places_are_optional(document: DeltaDocument) -> None:
    places = {record.name: (record.role, record.block) for record in document.changes}
    assert places["dense.weight"] == ("query", 0)
    assert places["norm.weight"] == (None, None)


def test_both_versions_say_the_same(document: DeltaDocument, document_1: DeltaDocument) -> None:
    assert (document_1.version, document.version) == (1, 2)
    for name in ("weights", "zeros", "sparsity", "head", "method", "task"):
        assert getattr(document_1, name) == getattr(document, name)
    for one, two in zip(document_1.changes, document.changes, strict=True):
        for name in ("name", "role", "block", "kind", "shape", "dtype", "zeros", "rounded"):
            assert getattr(one, name) == getattr(two, name)
    assert document_1.base.digest == document.base.digest
    assert {name: short[:8] for name, short in document_1.base.tensors.items()} == document.base.tensors
    assert document_1.digest != document.digest


def test_a_document_of_version_1_is_written_as_it_was(document_1: DeltaDocument) -> None:
    text = document_1.to_json()
    assert not {"payloads_sha256", "crc32", "coding", "rounded"} & set(text.replace('"', " ").split())
    assert parse_document(text, "x") == document_1
    assert parse_document(text, "x").to_json() == text


def test_documents_are_frozen_and_closed(document: DeltaDocument) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        document.version = 1  # type: ignore[misc]
    with pytest.raises(DeltaFormatError, match=r"extra: Extra inputs are not permitted"):
        parse_document(edited(document, "extra", 1), "x")


RAW = {"nbytes": 32, "crc32": "0" * 8, "coding": "raw"}
SMALL = {"nbytes": 1, "crc32": "0" * 8}
FLOATS = {"name": "norm.weight", "kind": "dense_values", "shape": [8], "dtype": "float32", "values": RAW}
HALVES = FLOATS | {"dtype": "float16", "values": RAW | {"nbytes": 16}}


# changes: 0 keep_mask (8, 8), 2 sparse_values (8, 6), 3 dense_values (8,), 4 and 5 the head
@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", 3, "version"),
        ("version", "2", "version"),
        ("version", 2.0, "version"),
        ("version", True, "version"),
        ("version", 1, "version 1 must not have payloads_sha256"),
        ("payloads_sha256", ..., "version 2 must have payloads_sha256"),
        ("payloads_sha256", "0", "payloads_sha256"),
        ("format", "peft", "format"),
        ("base", ..., "base: Field required"),
        ("base/digest", "12", "base.digest"),
        ("base/digest", "G" * 64, "base.digest"),
        ("base/tensors/dense.weight", "A" * 8, "base.tensors.dense.weight"),
        ("base/tensors/dense.weight", "a" * 12, "base.tensors.dense.weight"),
        ("base/tensors/dense.weight", "a" * 16, "version 2 has 8 hex digits for each tensor of the base"),
        ("base/architecture", "a\x1b[2J", "base.architecture"),
        ("base/name", "", "base.name"),
        ("head", ["dense.weight"], "head tensor comes with dense values"),
        ("head", ["classifier.weight"], "classifier.bias: changed, but neither"),
        ("head", ["classifier.weight", "classifier.weight", "classifier.bias"], "named twice"),
        ("head", "classifier.weight", "head"),
        ("changes", [], "changes"),
        ("changes/1/name", "dense.weight", "named twice"),
        ("changes/0/name", "nowhere", "nowhere: changed, but neither"),
        ("changes/0/name", "a\nb", "changes.0.name"),
        ("changes/0/name", "\ud800", "Unicode|hex escape"),
        ("changes/0/kind", "other", "changes.0.kind"),
        ("changes/0/kind", "dense_values", "must not have zeros and keep"),
        ("changes/3/kind", "keep_mask", "must have zeros and keep"),
        ("changes/0/shape", [-8, 8], "changes.0.shape.0"),
        ("changes/0/shape", [1 << 40, 8], "beyond the format's limit"),
        ("changes/0/shape", [0, 1 << 50], "beyond the format's limit"),
        ("changes/0/shape", [8.0, 8], "changes.0.shape.0"),
        ("changes/0/shape", [True, 8], "changes.0.shape.0"),
        ("changes/0/zeros", 65, "65 zeros among 64 weights"),
        ("changes/0/zeros", -1, "changes.0.zeros"),
        ("changes/0/zeros", ..., "must have zeros and keep"),
        ("changes/0/keep", ..., "must have zeros and keep"),
        ("changes/0/keep/nbytes", -4, "changes.0.keep.nbytes"),
        ("changes/0/keep/nbytes", 0, "dense.weight: a keep mask of version 2 has at least 1 byte"),
        ("changes/0/keep/crc32", "", "changes.0.keep.crc32"),
        ("changes/0/keep/crc32", "0" * 7, "changes.0.keep.crc32"),
        ("changes/0/keep/crc32", ..., "dense.weight: a payload of version 2 has nbytes, crc32"),
        ("changes/0/keep/sha256", "0" * 64, "dense.weight: a payload of version 2 has nbytes, crc32"),
        ("changes/0/keep/coding", "raw", "dense.weight: a payload of version 2 has nbytes, crc32"),
        ("changes/0/rounded", "bfloat16", "no values cannot have been rounded to bfloat16"),
        ("changes/2/values/coding", ..., "transposed.weight: a payload of version 2 has nbytes, crc32 and coding"),
        ("changes/2/values/coding", "zip", "coding 'zip' is none of raw, shuffle, difference, sorted_difference"),
        ("changes/2/rounded", "int8", "changes.2.rounded"),
        ("changes/0/dtype", "float32", "must not have dtype and values"),
        ("changes/2/zeros", 48, "bytes of values do not fit"),
        ("changes/3/dtype", "bool", "dtype 'bool' is none of float64"),
        ("changes/3/values", RAW | {"nbytes": 31}, "31 bytes of values do not fit"),
        ("changes/3/values", RAW | {"nbytes": 33}, "33 bytes of values do not fit"),
        ("changes/3/values", RAW | {"nbytes": 32, "coding": "shuffle"}, "32 bytes of values do not fit"),
        ("changes/3", FLOATS | {"dtype": "float64"}, "32 bytes of values do not fit"),
        ("changes/3", FLOATS | {"shape": [9]}, "32 bytes of values do not fit"),
        ("changes/3", FLOATS | {"rounded": "float16"}, "32 bytes of values do not fit"),
        ("changes/3", HALVES | {"rounded": "bfloat16"}, "float16 values cannot have been rounded to bfloat16"),
        ("changes/4/values", SMALL | {"coding": "difference"}, "classifier.weight: a head tensor cannot be coded ag"),
        ("changes/4/values", SMALL | {"coding": "sorted_difference"}, "a head tensor cannot be coded against the base"),
        ("method", [], "method"),
        ("training", {"loss": float("nan")}, "training.loss: nan is no JSON number; use null"),
        ("training", {"loss": [1, float("inf")]}, "training.loss: inf is no JSON number"),
        ("task", {"\ud800": 1}, "Unicode|hex escape"),
    ],
)
def test_every_field_is_checked(document: DeltaDocument, path: str, value: Any, message: str) -> None:
    with pytest.raises(DeltaFormatError, match=message) as caught:
        parse_document(edited(document, path, value), "some/path")
    text = str(caught.value)
    assert text.startswith("some/path: ")
    assert text.isprintable()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        (b"\xff{}", "not valid JSON"),
        ('{"a": 1, "a": 1}', "the key 'a' stands twice"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ("{} {}", "not valid JSON"),
    ],
)
def test_what_is_no_json_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(DeltaFormatError, match=message) as caught:
        parse_json(text, "x")
    assert "\n" not in str(caught.value)
    with pytest.raises(DeltaFormatError, match=message):
        parse_document(text, "x")


@pytest.mark.parametrize(
    "record",
    [
        FLOATS,
        HALVES,
        FLOATS | {"rounded": "bfloat16", "values": RAW | {"nbytes": 16}},
        FLOATS | {"values": RAW | {"nbytes": 31, "coding": "shuffle"}},
        FLOATS | {"rounded": "float16", "values": RAW | {"nbytes": 15, "coding": "sorted_difference"}},
        FLOATS | {"dtype": "float64", "rounded": "float16", "values": RAW | {"nbytes": 16}},
        FLOATS | {"shape": [0], "values": RAW | {"nbytes": 0}},
    ],
)
def test_what_values_may_be(document: DeltaDocument, record: dict[str, Any]) -> None:
    assert parse_document(edited(document, "changes/3", record), "x").changes[3].dtype == record["dtype"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", 2, "version 2 must have payloads_sha256"),
        ("payloads_sha256", "0" * 64, "version 1 must not have payloads_sha256"),
        ("base/tensors/dense.weight", "a" * 8, "version 1 has 16 hex digits for each tensor of the base"),
        ("changes/0/keep/sha256", "", "changes.0.keep.sha256"),
        ("changes/0/keep/sha256", ..., "dense.weight: a payload of version 1 has nbytes, sha256"),
        ("changes/0/keep/crc32", "0" * 8, "dense.weight: a payload of version 1 has nbytes, sha256"),
        ("changes/2/values/coding", "raw", "transposed.weight: a payload of version 1 has nbytes, sha256"),
        ("changes/2/zeros", 17, "bytes of values do not fit"),
        ("changes/3/dtype", "float64", "32 bytes of values do not fit"),
        ("changes/3/shape", [9], "32 bytes of values do not fit"),
        ("changes/3/values/nbytes", 31, "31 bytes of values do not fit"),
    ],
)
def test_the_fields_of_version_1_are_checked(document_1: DeltaDocument, path: str, value: Any, message: str) -> None:
    with pytest.raises(DeltaFormatError, match=message):
        parse_document(edited(document_1, path, value), "x")


def test_rounding_is_of_version_2(document_1: DeltaDocument) -> None:
    record = json.loads(document_1.to_json())["changes"][3]
    record |= {"rounded": "bfloat16", "values": {"nbytes": 16, "sha256": "0" * 64}}
    with pytest.raises(DeltaFormatError, match=r"norm\.weight: version 1 knows no rounded values"):
        parse_document(edited(document_1, "changes/3", record), "x")


def test_names_have_a_thousand_characters_at_most(document: DeltaDocument) -> None:
    assert parse_document(edited(document, "base/name", "ß" * 1000), "x").base.name == "ß" * 1000
    with pytest.raises(DeltaFormatError, match=r"base\.name: String should have at most 1000 characters"):
        parse_document(edited(document, "base/name", "ß" * 1001), "x")


def test_deep_settings_are_refused_and_do_not_crash(document: DeltaDocument) -> None:
    deep = document.to_json().replace('"task":{"name":"toy"}', '"task":{"a":' + "[" * 50_000 + "]" * 50_000 + "}")
    with pytest.raises(DeltaFormatError):
        parse_document(deep, "x")


def test_faults_are_reported_together_and_counted() -> None:
    with pytest.raises(ValidationError) as caught:
        DeltaDocument.model_validate({"format": "x", "version": 9})
    assert describe_invalid(caught.value).count(";") == 3
    assert describe_invalid(caught.value).endswith("; and 5 more")
