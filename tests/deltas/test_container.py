from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from deltas import reference_codec
from deltas.golden.make_golden import base_tensors, golden_delta, keep_masks
from deltas.tiny_deltas import tiny_delta, tiny_model, unchanged
from supermask.deltas import DenseValues, KeepMask, SparseValues, TaskDelta, fingerprint, read_document
from supermask.deltas.container import container_nbytes, read_container, serialize_container
from supermask.errors import BaseMismatchError, DeltaFormatError, SupermaskError

GOLDEN = Path(__file__).parent / "golden"


def smallest_delta() -> TaskDelta:
    keep = torch.tensor([True, False, True, True, False, True])
    return TaskDelta.create(
        {"w": KeepMask(keep), "h": DenseValues(torch.tensor([1.0, -2.0]))},
        base=fingerprint({"w": torch.arange(6.0)}),
        head=["h"],
    )


def file_bytes(delta: TaskDelta) -> bytes:
    return b"".join(serialize_container(delta.document, delta.payloads))


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: dict[str, Any], body: bytes) -> bytes:
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + body


def with_document(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A file whose document was edited by somebody who put the right hash beside it."""
    header, body = split(data)
    document = json.loads(header["__metadata__"]["document"])
    change(document)
    text = json.dumps(document)
    header["__metadata__"]["document"] = text
    header["__metadata__"]["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return joined(header, body)


def set_first(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["changes"][0].update(fields)


def load_bytes(folder: Path, data: bytes) -> TaskDelta:
    path = folder / "x.safetensors"
    path.write_bytes(data)
    return TaskDelta.load(path)


def refused(folder: Path, data: bytes) -> str:
    with pytest.raises(DeltaFormatError) as caught:
        load_bytes(folder, data)
    message = str(caught.value)
    assert message.isprintable()
    assert "x.safetensors" in message
    return message


# Goldens: written by golden/make_golden.py when the version was made, never rewritten.


def test_the_golden_bytes_are_what_is_written(tmp_path: Path) -> None:
    golden_delta().save(tmp_path / "v1")
    for name in ("delta.safetensors", "delta_config.json"):
        assert (tmp_path / "v1" / name).read_bytes() == (GOLDEN / "v1" / name).read_bytes()


def test_the_golden_delta_is_read_right() -> None:
    delta = TaskDelta.load(GOLDEN / "v1")
    assert delta == golden_delta()
    for name, keep in keep_masks().items():
        change = delta.changes[name]
        assert isinstance(change, KeepMask | SparseValues)
        assert torch.equal(change.keep, keep)
    assert delta.base == fingerprint(base_tensors())
    assert delta.training["steps"] == 12345678901234567890
    assert delta.method["seed"] is None


def test_the_golden_file_is_read_right_by_the_specification_alone() -> None:
    header, body = split((GOLDEN / "v1" / "delta.safetensors").read_bytes())
    metadata = header.pop("__metadata__")
    document = json.loads(metadata["document"])
    assert hashlib.sha256(metadata["document"].encode()).hexdigest() == metadata["sha256"]
    for record in document["changes"]:
        if "keep" in record:
            begin, end = header[record["name"] + ":keep"]["data_offsets"]
            found = reference_codec.decode(body[begin:end], torch.Size(record["shape"]).numel(), record["zeros"])
            assert found == keep_masks()[record["name"]].reshape(-1).tolist()
    begin, end = header["classifier.weight:values"]["data_offsets"]
    assert struct.unpack("<3f", body[begin:end]) == (1.5, -0.0, float("inf"))


# What is written.


def test_any_safetensors_reader_opens_the_file(tmp_path: Path) -> None:
    delta = tiny_delta(tiny_model(torch.bfloat16))
    path = delta.save(tmp_path / "delta.safetensors")
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata()["format"] == "supermask-delta"
        names = set(file.keys())
        values = file.get_tensor("norm.weight:values")
    assert names == set(delta.payloads)
    change = delta.changes["norm.weight"]
    assert isinstance(change, DenseValues)
    assert torch.equal(values.view(torch.int16), change.values.view(torch.int16))


def test_equal_deltas_give_equal_bytes_and_the_stated_size() -> None:
    one, two = (tiny_delta(tiny_model()) for _ in range(2))
    assert file_bytes(one) == file_bytes(two)
    assert container_nbytes(one.document) == len(file_bytes(one)) == one.nbytes_on_disk()


def test_payloads_are_aligned_to_their_elements() -> None:
    header, _ = split(file_bytes(tiny_delta(tiny_model())))
    header.pop("__metadata__")
    for entry in header.values():
        assert entry["data_offsets"][0] % {"U8": 1, "F32": 4}[entry["dtype"]] == 0


def test_only_the_header_is_read_for_the_document(tmp_path: Path) -> None:
    data = bytearray(file_bytes(smallest_delta()))
    data[-1] ^= 1
    (tmp_path / "x.safetensors").write_bytes(data)
    assert read_document(tmp_path / "x.safetensors") == smallest_delta().document
    with pytest.raises(DeltaFormatError, match=r"payload w:keep does not have the hash"):
        TaskDelta.load(tmp_path / "x.safetensors")


# Damaged files.


def test_truncation_at_every_byte_is_refused(tmp_path: Path) -> None:
    data = file_bytes(smallest_delta())
    for length in range(len(data)):
        assert "truncated" in refused(tmp_path, data[:length])


@pytest.mark.parametrize("flip", [0xFF, 0x20])
def test_every_changed_byte_is_refused_or_harmless(tmp_path: Path, flip: int) -> None:
    delta = smallest_delta()
    data = file_bytes(delta)
    harmless = 0
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= flip
        try:
            found = load_bytes(tmp_path, bytes(changed))
        except DeltaFormatError:
            continue
        harmless += 1
        assert found == delta
        assert found.payloads == delta.payloads
    assert harmless == 0


def test_what_follows_the_last_tensor_is_refused(tmp_path: Path) -> None:
    assert "1 bytes follow the last tensor" in refused(tmp_path, file_bytes(smallest_delta()) + b"\0")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_spliced_and_overwritten_files_are_refused(tmp_path: Path, data: st.DataObject) -> None:
    original = file_bytes(smallest_delta())
    begin = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(begin, min(len(original), begin + 40)))
    changed = original[:begin] + data.draw(st.binary(max_size=40)) + original[end:]
    try:
        assert load_bytes(tmp_path, changed) == smallest_delta()
    except DeltaFormatError:
        assert changed != original


# What is no delta.


class Bomb:
    def __reduce__(self) -> Any:
        return os.abort, ()


def torch_save() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has 0 bytes and so no header; the file is truncated"),
        (b"\0" * 100, "no safetensors file"),
        (struct.pack("<Q", 2**63) + b"{" + b" " * 100, "no safetensors file"),
        (struct.pack("<Q", 5000) + b"{" + b" " * 100, "should have 5000 bytes and the file ends after 101"),
        (torch_save(), "a zip archive, as torch.save writes it; supermask never unpickles"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer; run `git lfs pull`"),
        (b"<!DOCTYPE html><html></html>", "no safetensors file"),
        (struct.pack("<Q", 2) + b"{}", "a safetensors file, but not a delta"),
        (struct.pack("<Q", 8) + b"{       ", "not valid JSON"),
        (safetensors.torch.save({"a": torch.ones(2)}), "a safetensors file, but not a delta"),
        (safetensors.torch.save({"a": torch.ones(2)}, {"format": "pt"}), "a safetensors file, but not a delta"),
        *[
            (pickle.dumps(Bomb(), protocol=protocol), "a pickle file; supermask never unpickles")
            for protocol in (2, 3, 4, 5)
        ],
    ],
)
def test_what_is_no_delta_is_told_apart(tmp_path: Path, data: bytes, message: str) -> None:
    assert message in refused(tmp_path, data)


def test_missing_and_unreadable_files_are_told_apart(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "none.safetensors"):
        with pytest.raises(DeltaFormatError, match=r"none.*no such file"):
            TaskDelta.load(path)
    with pytest.raises(DeltaFormatError, match=r"no delta in this folder, it has no delta\.safetensors"):
        read_document(tmp_path)


# Edited files whose hashes were put right: everything must agree with everything else.


def test_another_version_is_refused_with_the_remedy(tmp_path: Path) -> None:
    header, body = split(file_bytes(smallest_delta()))
    header["__metadata__"]["version"] = "2"
    message = refused(tmp_path, joined(header, body))
    assert "format version '2' is unknown here, this supermask reads version 1; upgrade supermask" in message


def set_entry(name: str, **fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header[name].update(fields)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda header: header.pop("w:keep"), "disagree on tensors 'w:keep'"),
        (lambda header: header.update(extra=header["w:keep"]), "disagree on tensors 'extra'"),
        (lambda header: header.update({"h:values": []}), "disagree on tensor h:values"),
        (set_entry("h:values", dtype="F16"), "disagree on tensor h:values"),
        (set_entry("h:values", shape=[1, 2]), "disagree on tensor h:values"),
        (set_entry("h:values", more=1), "disagree on tensor h:values"),
        (set_entry("h:values", data_offsets=[0, 8.0]), "disagree on tensor h:values"),
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
        (lambda header: header["__metadata__"].update(document="\ud800"), "document does not have the hash"),
        (lambda header: header["__metadata__"].update(document="{}"), "document does not have the hash"),
        (lambda header: header["__metadata__"].update(format="pt"), "not a delta"),
        (lambda header: header.update(__metadata__=[]), "not a delta"),
        (lambda header: header.pop("__metadata__"), "not a delta"),
    ],
)
def test_headers_that_contradict_the_document_are_refused(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    header, body = split(file_bytes(smallest_delta()))
    assert header["w:keep"]["data_offsets"] == [8, 16]
    edit(header)
    assert message in refused(tmp_path, joined(header, body))


def test_keys_that_stand_twice_are_refused(tmp_path: Path) -> None:
    header, body = split(file_bytes(smallest_delta()))
    text = json.dumps(header)[:-1] + ', "w:keep": ' + json.dumps(header["w:keep"]) + "}"
    assert "'w:keep' stands twice" in refused(tmp_path, struct.pack("<Q", len(text)) + text.encode() + body)


def test_the_order_of_tensors_and_spaces_in_the_header_are_free(tmp_path: Path) -> None:
    header, body = split(file_bytes(smallest_delta()))
    backwards = dict(reversed(list(header.items())))
    assert load_bytes(tmp_path, joined(backwards, body)) == smallest_delta()


def test_a_document_that_breaks_the_rules_is_refused_whatever_its_hash(tmp_path: Path) -> None:
    data = with_document(file_bytes(smallest_delta()), set_first(zeros=7))
    assert "w: 7 zeros among 6 weights" in refused(tmp_path, data)


# With 4 zeros the payload is that of another mask, the opposite one: a valid delta, if not the one that was saved.
@pytest.mark.parametrize("zeros", [0, 1, 3, 5, 6])
def test_a_false_number_of_zeros_is_found_when_the_mask_is_decoded(tmp_path: Path, zeros: int) -> None:
    model = nn.Module()
    model.w, model.h = nn.Parameter(torch.arange(6.0)), nn.Parameter(torch.zeros(2))
    delta = load_bytes(tmp_path, with_document(file_bytes(smallest_delta()), set_first(zeros=zeros)))
    with unchanged(model), pytest.raises(DeltaFormatError, match=r"^w: "):
        delta.apply_(model)


def test_a_shape_beyond_reason_allocates_nothing_before_the_model_is_seen(tmp_path: Path) -> None:
    data = with_document(file_bytes(smallest_delta()), set_first(shape=[2**17, 2**17]))
    model = nn.Module()
    model.w, model.h = nn.Parameter(torch.arange(6.0)), nn.Parameter(torch.zeros(2))
    tracemalloc.start()
    delta = load_bytes(tmp_path, data)
    with pytest.raises(BaseMismatchError, match=r"w has shape \(6,\) here and \(131072, 131072\)"):
        delta.apply_(model)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_every_refusal_is_one_of_the_named_errors(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"?")
    with pytest.raises(SupermaskError):
        read_container(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="truncated"):
        read_container(tmp_path / "x.safetensors")
