from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltas import reference_version_1
from deltas.reference_version_1 import joined
from deltas.tiny_deltas import tiny_changes, tiny_model, unchanged
from deltas.tiny_files import (
    Edit,
    file_bytes,
    load_bytes,
    refused,
    set_entry,
    set_first,
    smallest_base,
    smallest_changes,
    smallest_file_1,
    smallest_model,
)
from supermask.deltas import DenseValues, KeepMask, TaskDelta, named_tensors, read_document
from supermask.errors import BaseMismatchError, DeltaFormatError


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_document(data: bytes, edit: Edit) -> bytes:
    """A file whose document was edited by somebody who put the right hash beside it."""
    header, body = split(data)
    document = json.loads(header["__metadata__"]["document"])
    edit(document)
    text = json.dumps(document)
    header["__metadata__"]["document"] = text
    header["__metadata__"]["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return joined(header, body)


def tiny_file(dtype: torch.dtype = torch.float32) -> bytes:
    model = tiny_model(dtype)
    changes, described = tiny_changes(model)
    head = described.pop("head")
    base = {name: tensor for name, tensor in named_tensors(model).items() if name not in head}
    return reference_version_1.file_bytes(changes, base=base, head=head, **described)


# What is read, and written again.


def test_a_file_written_by_the_specification_alone_is_read(tmp_path: Path) -> None:
    delta = load_bytes(tmp_path, smallest_file_1())
    assert (delta.document.version, delta.needs_base, delta.head) == (1, False, ("h",))
    mask, values = delta.changes_for({}).values()
    assert isinstance(mask, KeepMask) and torch.equal(mask.keep, smallest_changes()["w"].keep)  # type: ignore[union-attr]
    assert isinstance(values, DenseValues) and values.values.tolist() == [1.0, -2.0]
    model = smallest_model()
    with unchanged(model), delta.applied(model):
        assert model.w.tolist() == [0.0, 0.0, 2.0, 3.0, 0.0, 5.0]
        assert model.h.tolist() == [1.0, -2.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_is_loaded_is_saved_as_it_was(tmp_path: Path, dtype: torch.dtype) -> None:
    data = tiny_file(dtype)
    delta = load_bytes(tmp_path, data)
    assert file_bytes(delta) == data
    assert delta.nbytes_on_disk() == len(data)
    model = tiny_model(dtype)
    with unchanged(model):
        delta.apply_(model)
        delta.remove_(model)


def test_any_safetensors_reader_opens_the_file(tmp_path: Path) -> None:
    delta = load_bytes(tmp_path, tiny_file(torch.bfloat16))
    with safetensors.safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert file.metadata()["version"] == "1"
        names = set(file.keys())
        values = file.get_tensor("norm.weight:values")
    assert names == set(delta.payloads)
    change = delta.changes_for({})["norm.weight"]
    assert isinstance(change, DenseValues)
    assert torch.equal(values.view(torch.int16), change.values.view(torch.int16))


def test_payloads_are_aligned_to_their_elements() -> None:
    header, _ = split(tiny_file())
    header.pop("__metadata__")
    for entry in header.values():
        assert entry["data_offsets"][0] % {"U8": 1, "F32": 4}[entry["dtype"]] == 0


def test_only_the_header_is_read_for_the_document(tmp_path: Path) -> None:
    data = bytearray(smallest_file_1())
    data[-1] ^= 1
    (tmp_path / "x.safetensors").write_bytes(data)
    assert read_document(tmp_path / "x.safetensors") == load_bytes(tmp_path, smallest_file_1()).document
    assert "payload w:keep does not have the hash" in refused(tmp_path, bytes(data))


# Damaged files.


def test_truncation_at_every_byte_is_refused(tmp_path: Path) -> None:
    data = smallest_file_1()
    for length in range(len(data)):
        assert "truncated" in refused(tmp_path, data[:length])


@pytest.mark.parametrize("flip", [0xFF, 0x20])
def test_every_changed_byte_is_refused(tmp_path: Path, flip: int) -> None:
    data = smallest_file_1()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= flip
        assert refused(tmp_path, bytes(changed))


def test_what_follows_the_last_tensor_is_refused(tmp_path: Path) -> None:
    assert "1 bytes follow the last tensor" in refused(tmp_path, smallest_file_1() + b"\0")


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_spliced_and_overwritten_files_are_refused(tmp_path: Path, data: st.DataObject) -> None:
    original = smallest_file_1()
    begin = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(begin, min(len(original), begin + 40)))
    changed = original[:begin] + data.draw(st.binary(max_size=40)) + original[end:]
    try:
        assert file_bytes(load_bytes(tmp_path, changed)) == original
    except DeltaFormatError:
        assert changed != original


# Edited files whose hashes were put right: everything must agree with everything else.


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda header: header.pop("w:keep"), "disagree on tensors 'w:keep'"),
        (lambda header: header.update(extra=header["w:keep"]), "disagree on tensors 'extra'"),
        (lambda header: header.update({"h:values": []}), "disagree on tensor h:values"),
        (set_entry("h:values", dtype="F16"), "disagree on tensor h:values"),
        (set_entry("h:values", shape=[1, 2]), "disagree on tensor h:values"),
        (set_entry("h:values", shape=[2.0]), "disagree on tensor h:values"),
        (set_entry("h:values", shape="2"), "disagree on tensor h:values"),
        (set_entry("h:values", more=1), "disagree on tensor h:values"),
        (set_entry("h:values", data_offsets=[0, 8.0]), "disagree on tensor h:values"),
        (set_entry("h:values", data_offsets=[False, 8]), "disagree on tensor h:values"),
        (set_entry("h:values", data_offsets=[-8, 0]), "disagree on tensor h:values"),
        (set_entry("h:values", data_offsets=[0, 8, 8]), "disagree on tensor h:values"),
        (set_entry("h:values", data_offsets=None), "disagree on tensor h:values"),
        (set_entry("h:values", data_offsets=[8, 0]), "spans -8 bytes, not 8"),
        (set_entry("h:values", data_offsets=[0, 12]), "spans 12 bytes, not 8"),
        (set_entry("h:values", data_offsets=[2**62, 2**62 + 8]), "starts at"),
        (set_entry("h:values", data_offsets=[4, 12]), "starts at 4 and not at 0"),
        (set_entry("w:keep", data_offsets=[0, 8]), "starts at 0 and not at 8"),
        (lambda header: header["__metadata__"].update(more="1"), "metadata has the keys"),
        (lambda header: header["__metadata__"].pop("sha256"), "metadata has the keys"),
        (lambda header: header["__metadata__"].update(document=1), "document does not have the hash"),
        (lambda header: header["__metadata__"].update(document="{}"), "document does not have the hash"),
    ],
)
def test_headers_that_contradict_the_document_are_refused(tmp_path: Path, edit: Edit, message: str) -> None:
    header, body = split(smallest_file_1())
    assert header["w:keep"]["data_offsets"] == [8, 16]
    edit(header)
    assert message in refused(tmp_path, joined(header, body))


def test_broken_unicode_is_refused(tmp_path: Path) -> None:
    header, body = split(smallest_file_1())
    header["__metadata__"]["document"] = "\ud800"
    encoded = json.dumps(header).encode()  # escaped, as JSON allows
    message = refused(tmp_path, len(encoded).to_bytes(8, "little") + encoded + body)
    assert "document does not have the hash" in message


def test_keys_that_stand_twice_are_refused(tmp_path: Path) -> None:
    header, body = split(smallest_file_1())
    text = json.dumps(header)[:-1] + ', "w:keep": ' + json.dumps(header["w:keep"]) + "}"
    assert "'w:keep' stands twice" in refused(tmp_path, len(text).to_bytes(8, "little") + text.encode() + body)


def test_the_order_of_tensors_and_spaces_in_the_header_are_free(tmp_path: Path) -> None:
    header, body = split(smallest_file_1())
    text = json.dumps(dict(reversed(list(header.items()))))
    delta = load_bytes(tmp_path, len(text).to_bytes(8, "little") + text.encode() + body)
    assert file_bytes(delta) == smallest_file_1()


def test_a_document_of_version_2_is_none_of_version_1(tmp_path: Path) -> None:
    message = refused(tmp_path, with_document(smallest_file_1(), lambda document: document.update(version=2)))
    assert "version 2 must have payloads_sha256" in message
    header, body = split(smallest_file_1())
    header["__metadata__"]["version"] = "2"
    assert "the header has the keys 'document', 'format', 'h:values', ..." in refused(tmp_path, joined(header, body))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_first(zeros=7), "w: 7 zeros among 6 weights"),
        (lambda document: document.update(payloads_sha256="0" * 64), "version 1 must not have payloads_sha256"),
        (lambda document: document["base"]["tensors"].update(w="0" * 8), "version 1 has 16 hex digits for each tensor"),
        (lambda document: document["changes"][1].update(rounded="bfloat16"), "h: 8 bytes of values do not fit"),
        (
            lambda document: document["changes"][1]["values"].update(coding="raw"),
            "h: a payload of version 1 has nbytes, sha256",
        ),
        (
            lambda document: document["changes"][0]["keep"].update(crc32="0" * 8),
            "w: a payload of version 1 has nbytes, sha256",
        ),
    ],
)
def test_documents_that_break_the_rules_are_refused_whatever_their_hash(
    tmp_path: Path, edit: Edit, message: str
) -> None:
    assert message in refused(tmp_path, with_document(smallest_file_1(), edit))


# With 4 zeros the payload is that of another mask, the opposite one: a valid delta, if not the one that was saved.
@pytest.mark.parametrize("zeros", [0, 1, 3, 5, 6])
def test_a_false_number_of_zeros_is_found_when_the_mask_is_decoded(tmp_path: Path, zeros: int) -> None:
    model = smallest_model()
    delta = load_bytes(tmp_path, with_document(smallest_file_1(), set_first(zeros=zeros)))
    with unchanged(model), pytest.raises(DeltaFormatError, match=r"^w: "):
        delta.apply_(model)


def test_a_shape_beyond_reason_allocates_nothing_before_the_model_is_seen(tmp_path: Path) -> None:
    data = with_document(smallest_file_1(), set_first(shape=[2**17, 2**17]))
    tracemalloc.start()
    delta = load_bytes(tmp_path, data)
    with pytest.raises(BaseMismatchError, match=r"w has shape \(6,\) here and \(131072, 131072\)"):
        delta.apply_(smallest_model())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_the_base_of_an_older_delta_is_found_by_its_longer_hashes(tmp_path: Path) -> None:
    delta = load_bytes(tmp_path, smallest_file_1())
    assert all(len(short) == 16 for short in delta.base.tensors.values())
    assert smallest_base().keys() == delta.base.tensors.keys()
    other = smallest_model()
    with torch.no_grad():
        other.w[0] = 1.0
    with pytest.raises(BaseMismatchError, match=r"1 of 1 tensors differ \(w\)"):
        delta.apply_(other)


def test_a_delta_that_was_saved_is_a_delta_that_is_loaded(tmp_path: Path) -> None:
    delta = load_bytes(tmp_path, tiny_file())
    delta.save(tmp_path / "folder")
    assert TaskDelta.load(tmp_path / "folder") == delta
    assert read_document(tmp_path / "folder") == delta.document
