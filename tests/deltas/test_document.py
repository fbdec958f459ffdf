import json
from typing import Any

import pytest
from pydantic import ValidationError

from deltas.tiny_deltas import tiny_delta, tiny_model
from supermask.deltas.document import DeltaDocument, describe_invalid, parse_json
from supermask.errors import DeltaFormatError


@pytest.fixture
def document() -> DeltaDocument:
    return tiny_delta(tiny_model(), training={"steps": 3}).document


def edited(document: DeltaDocument, path: str, value: Any) -> bytes:
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
    return json.dumps(content).encode()


def test_json_round_trip_is_exact(document: DeltaDocument) -> None:
    text = document.to_json()
    assert DeltaDocument.from_json(text.encode(), "x") == document
    loose = json.dumps(json.loads(text), indent=2)
    assert DeltaDocument.from_json(loose.encode(), "x").to_json() == text


def test_nothing_is_lost_from_the_descriptions() -> None:
    settings = {"null": None, "nested": [{"a": None}, [], True, 1.5, -0.0, 10**30, "ß\u2028\n"], "int": 1, "float": 1.0}
    document = tiny_delta(tiny_model(), method=settings, training={"notes": settings}, task={}).document
    found = DeltaDocument.from_json(document.to_json().encode(), "x")
    for told in (found.method.settings, found.training.notes):
        assert json.dumps(told, sort_keys=True) == json.dumps(settings, sort_keys=True)
    assert "task" not in json.loads(document.to_json())


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    model = tiny_model()
    one = tiny_delta(model, method={"a": 1, "b": {"c": 2, "d": 3}})
    two = tiny_delta(model, method={"b": {"d": 3, "c": 2}, "a": 1})
    assert one.document.digest == two.document.digest
    assert one.document.digest != tiny_delta(model, method={"a": 1}).document.digest


def test_totals_are_of_masked_weights_only(document: DeltaDocument) -> None:
    # dense.weight drops 16 of 64, embedding.weight all but 14 of 96, transposed.weight 16 of 48.
    assert (document.zeros, document.weights) == (16 + 82 + 16, 64 + 96 + 48)
    assert document.sparsity == 114 / 208


def test_places_are_optional(document: DeltaDocument) -> None:
    places = {record.name: (record.role, record.block) for record in document.changes}
    assert places["dense.weight"] == ("query", 0)
    assert places["norm.weight"] == (None, None)


def test_documents_are_frozen(document: DeltaDocument) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        document.head = ()  # type: ignore[misc]


FLOATS = {
    "name": "norm.weight",
    "kind": "dense_values",
    "shape": [8],
    "dtype": "float32",
    "values_nbytes": 32,
    "values_coding": "raw",
}


# changes: 0 keep_mask (8, 8), 2 sparse_values (8, 6), 3 dense_values (8,), 4 and 5 the head
@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("extra", 1, "'extra' is no field; fields: method, task, changes"),
        ("base/extra", 1, "'extra' is no field; fields: name, revision"),
        ("changes/0/scale", 2, "'scale' is no field; fields: name, role"),
        ("task/nme", "x", "'nme' is no field; fields: name, version"),
        ("payloads_sha256", ..., "payloads_sha256: Field required"),
        ("payloads_sha256", "0", "payloads_sha256"),
        ("base", ..., "base: Field required"),
        ("base/digest", "12", "base.digest"),
        ("base/digest", "G" * 64, "base.digest"),
        ("base/tensors/dense.weight", "A" * 8, "base.tensors: 'dense.weight' has no hash of 8 hex digits"),
        ("base/tensors/dense.weight", "a" * 12, "base.tensors: 'dense.weight' has no hash of 8 hex digits"),
        ("base/tensors/dense.weight", 12345678, "has no hash of 8 hex digits"),
        ("base/tensors/a\nb", "a" * 8, "is no name of 1 to 1000 characters"),
        ("base/tensors", [], "base.tensors"),
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
        ("changes/0/name", "\ud800", "Unicode|unicode|hex escape"),
        ("changes/0/kind", "other", "changes.0.kind"),
        ("changes/0/kind", "dense_values", "must not have zeros, keep_nbytes"),
        ("changes/3/kind", "keep_mask", "must have zeros, keep_nbytes"),
        ("changes/0/shape", [-8, 8], "changes.0.shape.0"),
        ("changes/0/shape", [1 << 40, 8], "beyond the format's limit"),
        ("changes/0/shape", [0, 1 << 50], "beyond the format's limit"),
        ("changes/0/shape", [8.0, 8], "changes.0.shape.0"),
        ("changes/0/shape", [True, 8], "changes.0.shape.0"),
        ("changes/0/block", True, "changes.0.block"),
        ("changes/0/zeros", 65, "65 zeros among 64 weights"),
        ("changes/0/zeros", -1, "changes.0.zeros"),
        ("changes/0/zeros", 16.0, "changes.0.zeros"),
        ("changes/0/zeros", ..., "must have zeros, keep_nbytes"),
        ("changes/0/keep_nbytes", ..., "must have zeros, keep_nbytes"),
        ("changes/0/keep_nbytes", -4, "changes.0.keep_nbytes"),
        ("changes/0/keep_nbytes", 0, "dense.weight: a keep mask has at least 1 byte"),
        ("changes/0/values_coding", "raw", "must not have dtype, values_nbytes, values_coding"),
        ("changes/0/dtype", "float32", "must not have dtype, values_nbytes, values_coding"),
        ("changes/2/values_coding", ..., "transposed.weight: sparse_values must have dtype, values_nbytes"),
        ("changes/2/values_coding", "zip", "coding 'zip' is none of raw, shuffle"),
        ("changes/2/zeros", 48, "bytes of values do not fit"),
        ("changes/3/dtype", "bool", "dtype 'bool' is none of float64"),
        ("changes/3/values_nbytes", 31, "31 bytes of values do not fit"),
        ("changes/3/values_nbytes", 33, "33 bytes of values do not fit"),
        ("changes/3", FLOATS | {"values_coding": "shuffle"}, "32 bytes of values do not fit"),
        ("changes/3", FLOATS | {"dtype": "float64"}, "32 bytes of values do not fit"),
        ("changes/3", FLOATS | {"shape": [9]}, "32 bytes of values do not fit"),
        (
            "changes/4",
            FLOATS | {"name": "classifier.weight", "values_nbytes": 1, "values_coding": "sorted_difference"},
            "classifier.weight: a head tensor cannot be coded against the base",
        ),
        ("training/steps", 1.0, "training.steps"),
        ("training/steps", True, "training.steps"),
        ("task/version", 1.0, "task.version"),
        ("training/scores", {"dev": {"f1": True}}, "training.scores.dev.f1"),
        ("training/scores", {"dev": {"f1": float("nan")}}, "training.scores.dev.f1"),
        ("training/scores", {"dev": dict.fromkeys(map(str, range(101)), 0.5)}, "101 entries, more than 100"),
        ("training/data", {str(number): {} for number in range(101)}, "101 entries, more than 100"),
        ("method", [], "method"),
        ("method", {"loss": float("nan")}, "method.loss: nan is no JSON number; use null"),
        ("training", {"notes": {"loss": [1, float("inf")]}}, "loss: inf is no JSON number"),
        ("method", {"\ud800": 1}, "Unicode|unicode|hex escape"),
        ("method/a\ud800", 1, "Unicode|unicode|hex escape"),
    ],
)
def test_every_field_is_checked(document: DeltaDocument, path: str, value: Any, message: str) -> None:
    with pytest.raises(DeltaFormatError, match=message) as caught:
        DeltaDocument.from_json(edited(document, path, value), "some/path")
    text = str(caught.value)
    assert text.startswith("some/path: ")
    assert text.isprintable()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not valid JSON"),
        (b"\xff{}", "not valid JSON"),
        (b'{"a": 1, "a": 1}', "the key 'a' stands twice"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"{} {}", "not valid JSON"),
        (b" " * ((1 << 22) + 1), "4194305 bytes of JSON, more than 4194304"),
        (b"," * ((1 << 18) + 1), "JSON of 262145 parts, more than 262144"),
    ],
)
def test_what_is_no_json_is_refused(text: bytes, message: str) -> None:
    for parse in (parse_json, DeltaDocument.from_json):
        with pytest.raises(DeltaFormatError, match=message) as caught:
            parse(text, "x")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "record",
    [
        FLOATS,
        FLOATS | {"dtype": "float16", "values_nbytes": 16},
        FLOATS | {"values_nbytes": 31, "values_coding": "shuffle"},
        FLOATS | {"values_nbytes": 0, "values_coding": "sorted_difference"},
        FLOATS | {"shape": [0], "values_nbytes": 0},
    ],
)
def test_what_values_may_be(document: DeltaDocument, record: dict[str, Any]) -> None:
    assert DeltaDocument.from_json(edited(document, "changes/3", record), "x").changes[3].dtype == record["dtype"]


def test_whole_scores_are_numbers(document: DeltaDocument) -> None:
    found = DeltaDocument.from_json(edited(document, "training", {"scores": {"dev": {"f1": 1}}}), "x")
    assert found.training.scores == {"dev": {"f1": 1.0}}


def test_names_have_a_thousand_characters_at_most(document: DeltaDocument) -> None:
    assert DeltaDocument.from_json(edited(document, "base/name", "ß" * 1000), "x").base.name == "ß" * 1000
    with pytest.raises(DeltaFormatError, match=r"base\.name: String should have at most 1000 characters"):
        DeltaDocument.from_json(edited(document, "base/name", "ß" * 1001), "x")


def test_deep_settings_are_refused_and_do_not_crash(document: DeltaDocument) -> None:
    for depth in (300, 50_000):
        deep = document.to_json().replace('"kind":"supermask"', '"a":' + "[" * depth + "]" * depth)
        with pytest.raises(DeltaFormatError):
            DeltaDocument.from_json(deep.encode(), "x")


def test_faults_are_reported_together_and_counted() -> None:
    with pytest.raises(ValidationError) as caught:
        DeltaDocument.model_validate({"head": 1, "changes": [], "training": {"steps": -1, "seed": 1}})
    assert describe_invalid(caught.value).count(";") >= 3
    assert describe_invalid(caught.value).endswith("; and 2 more")
