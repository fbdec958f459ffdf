from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from deltas.tiny_deltas import tiny_delta, tiny_model
from supermask.deltas.document import DeltaDocument, describe_invalid, parse_document, parse_json
from supermask.errors import DeltaFormatError


@pytest.fixture
def document() -> DeltaDocument:
    return tiny_delta(tiny_model()).document


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


def test_documents_are_frozen_and_closed(document: DeltaDocument) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        document.version = 2  # type: ignore[assignment, misc]
    with pytest.raises(DeltaFormatError, match=r"extra: Extra inputs are not permitted"):
        parse_document(edited(document, "extra", 1), "x")


# changes: 0 keep_mask (8, 8), 2 sparse_values (8, 6), 3 dense_values (8,), 4 and 5 the head
@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", 2, "version"),
        ("version", "1", "version"),
        ("format", "peft", "format"),
        ("base", ..., "base: Field required"),
        ("base/digest", "12", "base.digest"),
        ("base/digest", "G" * 64, "base.digest"),
        ("base/tensors/dense.weight", "A" * 16, "base.tensors.dense.weight"),
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
        ("changes/0/keep/sha256", "", "changes.0.keep.sha256"),
        ("changes/0/dtype", "float32", "must not have dtype and values"),
        ("changes/2/zeros", 17, "bytes of values do not fit"),
        ("changes/3/dtype", "bool", "dtype 'bool' is none of float64"),
        ("changes/3/dtype", "float64", "32 bytes of values do not fit"),
        ("changes/3/shape", [9], "32 bytes of values do not fit"),
        ("changes/3/values/nbytes", 31, "31 bytes of values do not fit"),
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


def test_deep_settings_are_refused_and_do_not_crash(document: DeltaDocument) -> None:
    deep = document.to_json().replace('"task":{"name":"toy"}', '"task":{"a":' + "[" * 50_000 + "]" * 50_000 + "}")
    with pytest.raises(DeltaFormatError):
        parse_document(deep, "x")


def test_faults_are_reported_together_and_counted() -> None:
    with pytest.raises(ValidationError) as caught:
        DeltaDocument.model_validate({"format": "x", "version": 9})
    assert describe_invalid(caught.value).count(";") == 3
    assert describe_invalid(caught.value).endswith("; and 5 more")
