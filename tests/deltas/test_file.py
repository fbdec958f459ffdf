import errno
import io
import json
import os
import pickle
import stat
import struct
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deltas import bombs, reference_format
from deltas.golden import make_golden
from deltas.reference_format import behind, header_of, joined, raw, split
from deltas.reference_values import frame, raw_block, run_block, skippable_frame
from deltas.tiny_deltas import snapshot, tiny_delta, tiny_model, unchanged
from deltas.tiny_files import (
    Edit,
    file_bytes,
    load_bytes,
    refused,
    set_first,
    smallest_delta,
    smallest_file,
    smallest_model,
    with_document,
)
from supermask import atomic
from supermask.deltas import Change, DenseValues, KeepMask, TaskDelta, named_tensors, read_document
from supermask.deltas.coding import VALUE_CODINGS, mask_needs_base
from supermask.deltas.document import MAX_TEXT
from supermask.deltas.file import DELTA as DELTA_KIND
from supermask.deltas.file import file_nbytes
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError, OutputError

GOLDEN = Path(make_golden.__file__).parent / "delta.safetensors"
DELTA, CONFIG = "delta.safetensors", "delta_config.json"
MIB = 1 << 20


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# What is written, and read.


@pytest.mark.parametrize("recoded", [False, True])
def test_the_file_is_what_the_specification_says(recoded: bool) -> None:
    model = tiny_model()
    delta = tiny_delta(model).recode(model) if recoded else tiny_delta(model)
    data = file_bytes(delta)
    file = split(data)
    assert data == joined(file.text, file.payloads, packed=file.packed)
    assert file.text == delta.document.to_json() == reference_format.as_json(file.document)
    assert file.payloads == b"".join(part for parts in delta.payloads.values() for part in parts)
    assert file_nbytes(DELTA_KIND, delta.document) == len(data)
    assert reference_format.read(data, named_tensors(model)) == {
        name: reference_format.expected(change) for name, change in delta.changes_for(model).items()
    }


def test_a_file_written_by_the_specification_alone_is_read(tmp_path: Path) -> None:
    delta = load_bytes(tmp_path, smallest_file())
    assert delta.document == smallest_delta().document.model_copy(
        update={"changes": delta.document.changes, "payloads_sha256": delta.document.payloads_sha256}
    )
    model = smallest_model()
    with unchanged(model), delta.applied(model):
        assert model.w.tolist() == [0.0, 0.0, 2.0, 3.0, 0.0, 5.0]
        assert model.h.tolist() == [1.0, -2.0]


def test_the_safetensors_library_opens_the_file_and_writes_the_same_bytes(tmp_path: Path) -> None:
    delta = tiny_delta(tiny_model())
    path = delta.save(tmp_path / DELTA)
    with safetensors.safe_open(path, framework="np") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in ("document", "payloads")}
    assert metadata == {"format": f"supermask-delta 1 {delta.digest}"}
    assert all(tensor.dtype == np.uint8 for tensor in tensors.values())
    assert safetensors.numpy.save(tensors, metadata) == path.read_bytes()


def test_only_header_and_document_are_read_for_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def grow(document: dict[str, Any]) -> None:
        document["changes"][1].update(shape=[1 << 25], values_nbytes=1 << 27)

    file = split(with_document(grow))
    payloads = file.document["changes"][0]["keep_nbytes"] + (1 << 27)
    front = behind(header_of(file.text, len(file.packed), payloads), file.packed)
    path = tmp_path / "x.safetensors"
    with path.open("wb") as opened:
        opened.write(front)
        opened.truncate(len(front) + payloads)  # a hole: no such bytes are on the disk
    tracemalloc.start()
    assert read_document(path).changes[1].weights == 1 << 25
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MIB
    with pytest.raises(DeltaFormatError, match="payloads do not have the hash"):
        TaskDelta.load(path)


# The golden file: written by golden/make_golden.py, and never again once the format is released.


def model_of(tensors: Mapping[str, Tensor]) -> nn.Module:
    """A model that has just these tensors."""
    model = nn.Module()
    for name, tensor in tensors.items():
        *parents, last = name.split(".")
        place = model
        for parent in parents:
            if not hasattr(place, parent):
                place.add_module(parent, nn.Module())
            place = getattr(place, parent)
        place.register_buffer(last, tensor.clone())
    return model


def changed(tensor: Tensor, change: Change) -> bytes:
    """The bytes of a changed tensor, worked out here."""
    if isinstance(change, DenseValues):
        return raw(change.values)
    bits = tensor.clone().view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])
    bits[~change.keep] = 0
    if not isinstance(change, KeepMask):
        bits[change.keep] = change.values.view(bits.dtype)
    return raw(bits)


@pytest.mark.parametrize("coded_now", [False, True])
def test_the_golden_delta_is_read_right(coded_now: bool) -> None:
    """Coded now it may have other bytes, if a smaller coding was found since, or with another version of zstd."""
    golden = TaskDelta.load(GOLDEN)
    delta = make_golden.golden_delta() if coded_now else golden
    assert delta.nbytes_on_disk() <= 1.02 * golden.nbytes_on_disk()
    assert (delta.needs_base, delta.head) == (True, make_golden.HEAD)
    assert delta.method.describe() == make_golden.DESCRIBED["method"]
    assert (delta.task.name, delta.task.label_names) == ("golden", ("no", "yes"))
    assert (delta.training.steps, delta.training.notes) == (123, {"größe": 12345678901234567890})
    changes, base = make_golden.changes(), make_golden.base_tensors()
    tensors = {**base, **{name: torch.zeros_like(changes[name].values) for name in delta.head}}  # type: ignore[union-attr]
    model = model_of(tensors)
    with unchanged(model), delta.applied(model):
        found = snapshot(model)
    assert found == {
        name: changed(tensor, changes[name]) if name in changes else raw(tensor) for name, tensor in tensors.items()
    }


def test_the_golden_file_is_read_right_by_the_specification_alone_and_saved_as_it_is() -> None:
    data = GOLDEN.read_bytes()
    assert reference_format.read(data, make_golden.base_tensors()) == {
        name: reference_format.expected(change) for name, change in make_golden.changes().items()
    }
    found = file_bytes(TaskDelta.load(GOLDEN))
    assert (split(found).text, split(found).payloads) == (split(data).text, split(data).payloads)
    if make_golden.ZSTD_VERSION == zstandard.ZSTD_VERSION:
        assert found == data


def test_the_golden_delta_has_every_kind_and_coding() -> None:
    delta = TaskDelta.load(GOLDEN)
    assert {record.kind for record in delta.document.changes} == {"keep_mask", "dense_values", "sparse_values"}
    assert {record.values_coding for record in delta.document.changes} - {None} == set(VALUE_CODINGS)
    assert {mask_needs_base(parts.keep) for parts in delta.payloads.values() if parts.keep} == {False, True}


# What is no delta.


class Bomb:
    def __reduce__(self) -> Any:
        return os.abort, ()


def torch_save() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2)}, buffer)
    return buffer.getvalue()


def named(name: object) -> bytes:
    """The smallest file under another name of its format."""
    file = split(smallest_file())
    return behind({**file.header, "__metadata__": {"format": name}}, file.packed + file.payloads)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has 0 bytes and so no header; the file is truncated"),
        (b"\0" * 100, "no safetensors file"),
        (struct.pack("<Q", 2**63) + b"{" + b" " * 100, "its header has 9223372036854775808 bytes, more than 65536"),
        (struct.pack("<Q", 5000) + b"{" + b" " * 100, "should have 5000 bytes and the file ends after 101"),
        (struct.pack("<Q", 65537) + b"{" + b" " * 65536, "its header has 65537 bytes, more than 65536"),
        (torch_save(), "a zip archive, as torch.save writes it; supermask never unpickles"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer; run `git lfs pull`"),
        (b"<!DOCTYPE html><html></html>", "no safetensors file"),
        (struct.pack("<Q", 2) + b"{}", "a safetensors file, but not a delta"),
        (struct.pack("<Q", 8) + b"{       ", "not valid JSON"),
        (struct.pack("<Q", 20) + b'{"__metadata__": []}', "a safetensors file, but not a delta"),
        (safetensors.torch.save({"a": torch.ones(2)}), "a safetensors file, but not a delta"),
        (safetensors.torch.save({"a": torch.ones(2)}, {"format": "pt"}), "a safetensors file, but not a delta"),
        *[(pickle.dumps(Bomb(), protocol=p), "a pickle file; supermask never unpickles") for p in (2, 3, 4, 5)],
        (named(None), "a safetensors file, but not a delta"),
        (named(f"supermask-delta 2 {'0' * 64}"), "format version 2 is not the one that this supermask reads, 1; upgra"),
        (named(f"supermask-delta 01 {'0' * 64}"), "format version 01 is not the one"),
        (named(f"supermask-delta 1 {'0' * 63}"), "format version unknown is not the one"),
        (named(f"supermask-delta 1 {'A' * 64}"), "format version unknown is not the one"),
        (named("supermask-delta"), "format version unknown is not the one"),
        (named(f"supermask-delta 1 {'0' * 64}"), "document does not have the hash that is stated in the header"),
    ],
)
def test_what_is_no_delta_of_this_version_is_told_apart(tmp_path: Path, data: bytes, message: str) -> None:
    assert message in refused(tmp_path, data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "no delta in this folder, it has no delta"),
        (lambda path: (path / DELTA).mkdir(parents=True), "cannot be read: Is a directory"),
        (lambda path: os.mkfifo(path), "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="pipes, devices and links")
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], Any], message: str) -> None:
    make(tmp_path / "x")
    for read in (TaskDelta.load, read_document):
        start = time.perf_counter()
        with pytest.raises(DeltaFormatError, match=message):
            read(tmp_path / "x")
        assert time.perf_counter() - start < 1.0


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + ".safetensors", "a\0b"])
def test_names_that_no_file_can_have_are_refused(tmp_path: Path, name: str) -> None:
    for attempt, error in (
        (TaskDelta.load, DeltaFormatError),
        (read_document, DeltaFormatError),
        (smallest_delta().save, OutputError),
    ):
        with pytest.raises(error):
            attempt(tmp_path / name)
    assert contents(tmp_path) == {}


def test_the_summary_is_never_read(tmp_path: Path) -> None:
    delta = smallest_delta()
    delta.save(tmp_path)
    (tmp_path / CONFIG).unlink()
    os.mkfifo(tmp_path / CONFIG)
    assert TaskDelta.load(tmp_path) == delta
    assert read_document(tmp_path) == delta.document


# Damaged files.


def test_truncation_at_every_byte_is_refused(tmp_path: Path) -> None:
    data = file_bytes(smallest_delta())
    for length in range(len(data)):
        assert "truncated" in refused(tmp_path, data[:length])
    assert "1 bytes follow the last tensor" in refused(tmp_path, data + b"\0")


@pytest.mark.parametrize("flip", [0xFF, 0x20, 0x01])
def test_every_changed_byte_is_refused_or_harmless(tmp_path: Path, flip: int) -> None:
    delta = smallest_delta()
    data, harmless = file_bytes(delta), []
    end = len(data) - len(split(data).payloads)
    packed = range(end - len(split(data).packed), end)
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= flip
        try:
            found = load_bytes(tmp_path, bytes(altered))
        except DeltaFormatError:
            continue
        harmless.append(place)
        assert (found, found.payloads) == (delta, delta.payloads)
    # Nothing but how the document is compressed can be said in two ways, for example by a bit that nobody looks at.
    assert all(place in packed for place in harmless)
    assert len(harmless) < len(packed) / 20


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_spliced_and_overwritten_files_are_refused(tmp_path: Path, data: st.DataObject) -> None:
    original = file_bytes(smallest_delta())
    begin = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(begin, min(len(original), begin + 40)))
    altered = original[:begin] + data.draw(st.binary(max_size=40)) + original[end:]
    try:
        assert load_bytes(tmp_path, altered) == smallest_delta()
    except DeltaFormatError:
        assert altered != original


@pytest.mark.parametrize("place", [-1, -8, -9, -12])
def test_a_damaged_payload_is_refused(tmp_path: Path, place: int) -> None:
    data = bytearray(smallest_file())
    assert len(split(bytes(data)).payloads) >= 12
    data[place] ^= 1
    assert "the payloads do not have the hash that the document states; the file is damaged" in refused(
        tmp_path, bytes(data)
    )


# Edited files whose hashes were put right: everything must agree with everything else.


def set_entry(name: str, **fields: Any) -> Edit:
    return lambda header: header[name].update(fields)


def floating(header: dict[str, Any]) -> None:
    header["document"]["shape"] = [float(header["document"]["shape"][0])]


def moved(header: dict[str, Any]) -> None:
    (begin, end), (_, last) = header["document"]["data_offsets"], header["payloads"]["data_offsets"]
    header["document"].update(shape=[end + 1 - begin], data_offsets=[begin, end + 1])
    header["payloads"].update(shape=[last - end - 1], data_offsets=[end + 1, last])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda header: header.pop("payloads"), "not that of a delta"),
        (lambda header: header.update(extra=header["payloads"]), "not that of a delta"),
        (lambda header: header["__metadata__"].update(more="1"), "not that of a delta"),
        (lambda header: header.update(document=[]), "not that of a delta"),
        (set_entry("document", data_offsets=None), "not that of a delta"),
        (set_entry("document", data_offsets=[1, 8]), "not that of a delta"),
        (set_entry("document", data_offsets=[-8, 0]), "not that of a delta"),
        (set_entry("document", data_offsets=[0, 8.0]), "not that of a delta"),
        (set_entry("document", data_offsets=[0, True]), "not that of a delta"),
        (set_entry("document", data_offsets=[0, 8, 8]), "not that of a delta"),
        (set_entry("document", dtype="I8"), "not that of a delta"),
        (set_entry("document", shape=[]), "not that of a delta"),
        (set_entry("document", more=1), "not that of a delta"),
        (floating, "not that of a delta"),
        (lambda header: header["payloads"].update(shape=[1, 17]), "not that of a delta"),
        (lambda header: header["payloads"]["data_offsets"].reverse(), "not that of a delta"),
        (set_entry("payloads", shape=[2**62], data_offsets=[0, 2**62]), "not that of a delta"),
        (moved, "the document is not zstd data"),
    ],
)
def test_headers_that_contradict_themselves_are_refused(tmp_path: Path, edit: Edit, message: str) -> None:
    file = split(smallest_file())
    edit(file.header)
    assert message in refused(tmp_path, behind(file.header, file.packed + file.payloads))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((99, -1), "its tensors need 98 bytes"),
        ((-1, 1), "its tensors need 0 bytes"),
        ((0, 1 << 62), "the file is truncated"),
        ((1 << 62, 0), "the file is truncated"),
    ],
)
def test_headers_of_impossible_sizes_are_refused(tmp_path: Path, sizes: tuple[int, int], message: str) -> None:
    assert message in refused(tmp_path, behind(header_of("{}", *sizes), b"0123456789"))


@pytest.mark.parametrize("difference", [-1, 1])
def test_payloads_of_another_size_than_the_documents_are_refused(tmp_path: Path, difference: int) -> None:
    file = split(smallest_file())
    payloads, size = (file.payloads + b"\0")[: len(file.payloads) + difference], len(file.payloads)
    message = f"the payloads have {size + difference} bytes, and {size} in the document"
    assert message in refused(tmp_path, joined(file.text, payloads))


def test_keys_that_stand_twice_are_refused_and_order_and_spaces_are_free(tmp_path: Path) -> None:
    file = split(smallest_file())

    def headed(text: str) -> bytes:
        return len(text).to_bytes(8, "little") + text.encode() + file.packed + file.payloads

    twice = json.dumps(file.header)[:-1] + ', "payloads": ' + json.dumps(file.header["payloads"]) + "}"
    assert "'payloads' stands twice" in refused(tmp_path, headed(twice))
    turned = headed(json.dumps(dict(reversed(list(file.header.items()))), indent=3))
    assert load_bytes(tmp_path, turned) == load_bytes(tmp_path, smallest_file())


# With 4 zeros the payload is that of another mask, the opposite one: a valid delta, if not the one that was saved.
@pytest.mark.parametrize("zeros", [0, 1, 3, 5, 6])
def test_a_false_number_of_zeros_is_found_when_the_mask_is_decoded(tmp_path: Path, zeros: int) -> None:
    model = smallest_model()
    delta = load_bytes(tmp_path, with_document(set_first(zeros=zeros)))
    with unchanged(model), pytest.raises(DeltaFormatError, match=r"^w: "):
        delta.apply_(model)


def test_a_shape_beyond_reason_allocates_nothing_before_the_model_is_seen(tmp_path: Path) -> None:
    data = with_document(set_first(shape=[2**17, 2**17]))
    tracemalloc.start()
    delta = load_bytes(tmp_path, data)
    with pytest.raises(BaseMismatchError, match=r"w has shape \(6,\) here and \(131072, 131072\)"):
        delta.apply_(smallest_model())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MIB


# Documents that expand.

TOO_LARGE = "the document states more than 4194304 bytes, or no size"


def run_frame(size: int, stated: int | None = None) -> bytes:
    """A frame of spaces: 128 KiB of them take 4 bytes."""
    blocks = [run_block(b" ", min(1 << 17, size - at), last=at + (1 << 17) >= size) for at in range(0, size, 1 << 17)]
    return frame(b"", stated=size if stated is None else stated, blocks=blocks)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (b"", "the document is not zstd data"),
        (b"{}", "the document is not zstd data"),
        (frame(b"{}")[:-1], "the document is not zstd data"),
        (frame(b"{}") + b"\0", "the document is not zstd data (compressed input contains 1 bytes of unused data"),
        (frame(b"{}") + frame(b"{}"), "the document is not zstd data (compressed input contains"),
        (frame(b"{}") + skippable_frame(b"smuggled"), "the document is not zstd data (compressed input contains"),
        (skippable_frame(b"smuggled") + frame(b"{}"), "the document is not zstd data"),
        (skippable_frame(b"{}"), "the document is not zstd data"),
        (frame(b"{}", dictionary=7), "the document is not zstd data"),
        (frame(b"{}", stated=1), "the document is not zstd data"),
        (frame(b"{}", stated=3), "the document is not zstd data"),
        (frame(b"{}", stated=1 << 20), "the document is not zstd data"),
        (run_frame(1 << 17, stated=1 << 16), "the document is not zstd data"),
        (frame(b"{}", stated=1 << 40), TOO_LARGE),
        (frame(b"{}", stated=(1 << 64) - 3), TOO_LARGE),
        (frame(b"{}", stated=(4 << 20) + 1), TOO_LARGE),
        (zstandard.ZstdCompressor(write_content_size=False).compress(b"{}"), TOO_LARGE),
        (run_frame(1 << 20), "document does not have the hash"),
        (frame(b"", stated=0), "document does not have the hash"),
        (frame(b"{}", blocks=[raw_block(b"{", last=False), raw_block(b"}", last=True)]), "base: Field required"),
        (frame(b"{}", window=1 << 30), "base: Field required"),
    ],
)
def test_documents_that_expand_beyond_reason_are_refused_before_they_do(
    tmp_path: Path, packed: bytes, message: str
) -> None:
    tracemalloc.start()
    assert message in refused(tmp_path, joined("{}", b"", packed=packed))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MIB


def test_a_compressed_document_is_bounded_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    front = behind(header_of("", 1 << 36, 0), b"")
    with path.open("wb") as file:
        file.write(front)
        file.truncate(len(front) + (1 << 36))
    with pytest.raises(DeltaFormatError, match=f"document has {1 << 36} compressed bytes, more than 4194304"):
        read_document(path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_bombs_are_refused_in_little_memory_and_time(tmp_path: Path) -> None:
    for name, (grown_mib, seconds, message) in bombs.refusals(tmp_path).items():
        assert message.isprintable() and message != "not refused" and len(message) < 2000, name
        assert grown_mib < 64 and seconds < 3, (name, grown_mib, seconds)  # a second at most where nothing else runs


def test_a_document_of_ten_thousand_tensors_is_stored_and_read(tmp_path: Path) -> None:
    delta = smallest_delta()
    names = [
        f"model.layers.{layer}.mlp.experts.{expert}.down_proj.weight" for layer in range(40) for expert in range(250)
    ]
    mask = delta.document.changes[0].model_copy(update={"role": "ffn_out", "block": 39})
    changes = (*(mask.model_copy(update={"name": name}) for name in names), *delta.document.changes)
    base = delta.document.base.model_copy(update={"tensors": {**dict.fromkeys(names, "0" * 8), "w": "1" * 8}})
    large = TaskDelta(delta.document.model_copy(update={"changes": changes, "base": base}), delta.payloads)
    start = time.perf_counter()
    parts = dict.fromkeys(names, delta.payloads["w"]) | dict(delta.payloads)
    path = TaskDelta(large.document, parts).save(tmp_path / "x.safetensors")
    assert read_document(path) == large.document
    assert time.perf_counter() - start < 20


def test_a_document_that_no_reader_would_take_is_not_made(tmp_path: Path) -> None:
    room = MAX_TEXT - len(smallest_delta(training={"notes": {"x": ""}}).document.to_json())
    delta = smallest_delta(training={"notes": {"x": "y" * room}})
    assert load_bytes(tmp_path, file_bytes(delta)) == delta
    with pytest.raises(ConfigurationError, match=r"its document is 4194305 bytes of JSON, more than 4194304; put less"):
        smallest_delta(training={"notes": {"x": "y" * (room + 1)}})
    with pytest.raises(ConfigurationError, match=r"its document is JSON of \d+ parts, more than 262144; put less"):
        smallest_delta(training={"notes": {"x": [0] * (1 << 18)}})


# Saving.


@pytest.fixture(scope="module")
def old() -> TaskDelta:
    return tiny_delta(tiny_model(), task={"name": "old"})


@pytest.fixture(scope="module")
def new() -> TaskDelta:
    return tiny_delta(tiny_model(), task={"name": "new", "kind": "classification", "label_names": ["a", "b"]})


def test_a_folder_gets_the_delta_and_a_summary(tmp_path: Path, new: TaskDelta) -> None:
    assert new.save(tmp_path / "a" / "b") == tmp_path / "a" / "b" / DELTA
    assert sorted(contents(tmp_path / "a" / "b")) == [DELTA, CONFIG]
    assert TaskDelta.load(tmp_path / "a" / "b") == TaskDelta.load(str(tmp_path / "a" / "b" / DELTA)) == new
    assert read_document(tmp_path / "a" / "b") == new.document
    assert json.loads((tmp_path / "a" / "b" / CONFIG).read_text("utf-8")) == {
        "format": "supermask-delta",
        "version": 1,
        "digest": new.digest,
        "base": {"name": "tiny", "digest": new.base.digest},
        "task": {"name": "new", "kind": "classification", "labels": 2},
        "method": "supermask",
        "zeros": 114,
        "weights": 208,
        "sparsity": 0.548077,
        "bytes": (tmp_path / "a" / "b" / DELTA).stat().st_size,
    }


def test_the_summary_is_short_whatever_a_delta_says(tmp_path: Path) -> None:
    smallest_delta(base_name="ß" * 1000, task={"name": "\0" * 1000, "label_names": ["x" * 900] * 500}).save(tmp_path)
    assert (tmp_path / CONFIG).stat().st_size < 1200


def test_a_file_name_gets_the_delta_alone_and_saving_what_was_loaded_gives_the_same_bytes(
    tmp_path: Path, old: TaskDelta
) -> None:
    assert old.save(tmp_path / "x.safetensors") == tmp_path / "x.safetensors"
    TaskDelta.load(tmp_path / "x.safetensors").save(tmp_path / "y.safetensors")
    one, two = contents(tmp_path).values()
    assert one == two


def test_the_users_umask_decides_who_may_read(tmp_path: Path, old: TaskDelta) -> None:
    before = os.umask(0o027)
    try:
        path = old.save(tmp_path / "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ["folder", "x.safetensors"])
def test_what_is_there_is_only_replaced_on_request(tmp_path: Path, old: TaskDelta, new: TaskDelta, name: str) -> None:
    (tmp_path / "README.md").write_text("mine")
    old.save(tmp_path / name)
    with pytest.raises(OutputError, match=r"\.safetensors exists already; pass overwrite=True"):
        new.save(tmp_path / name)
    assert TaskDelta.load(tmp_path / name) == old
    new.save(tmp_path / name, overwrite=True)
    assert TaskDelta.load(tmp_path / name) == new
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["README.md", name])


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, old: TaskDelta) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match=r"cannot be written: .*; free some space, or choose another place"):
            old.save(place)
    assert contents(tmp_path) == {"file": b"x"}


def test_litter_of_killed_writers_is_swept_when_it_is_old(tmp_path: Path, old: TaskDelta) -> None:
    names = [f".{DELTA}.{'a' * 16}.part", f".{CONFIG}.{'b' * 16}.part", f".{DELTA}.{'c' * 16}.part", f".{DELTA}.mine"]
    for name in names:
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / names[2])  # its writer may be at work
    old.save(tmp_path)
    assert sorted(contents(tmp_path)) == sorted([DELTA, CONFIG, *names[2:]])


# A full disk, at every point at which one can fill up.


def fail_on_call(number: int, real: Callable[..., Any]) -> Callable[..., Any]:
    calls = iter(range(1, 1000))

    def failing(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **options)

    return failing


@pytest.mark.parametrize(
    ("where", "number"),
    [
        (f"os.{name}", number)
        for name, most in (("write", 5), ("fsync", 1), ("open", 1))
        for number in range(1, most + 1)
    ]
    + [("pathlib.Path.replace", 1)],
)
def test_a_full_disk_leaves_the_old_delta(
    tmp_path: Path, old: TaskDelta, new: TaskDelta, monkeypatch: pytest.MonkeyPatch, where: str, number: int
) -> None:
    old.save(tmp_path / "delta")
    before = contents(tmp_path / "delta")
    real = Path.replace if where.startswith("pathlib") else getattr(os, where.removeprefix("os."))
    with monkeypatch.context() as patch:
        for place, overwrite in (("delta", True), ("other", False)):
            patch.setattr(where, fail_on_call(number, real))
            with pytest.raises(OutputError, match=r"cannot be written: No space left on device; free some space"):
                new.save(tmp_path / place, overwrite=overwrite)
    assert contents(tmp_path / "delta") == before
    assert contents(tmp_path / "other") == {}


def test_a_short_write_is_continued(tmp_path: Path, old: TaskDelta, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr("os.write", lambda descriptor, data: real(descriptor, data[:7]))
    old.save(tmp_path)
    assert TaskDelta.load(tmp_path) == old


def in_a_child(act: Callable[[], Any]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            act()
        finally:
            os._exit(0)
    return child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process that can be killed at a chosen moment")
@pytest.mark.parametrize("moment", range(1, 16))
def test_a_kill_at_any_moment_leaves_the_old_delta_or_the_new_one(
    tmp_path: Path, old: TaskDelta, new: TaskDelta, moment: int
) -> None:
    old.save(tmp_path)

    def die() -> None:
        calls = iter(range(1, 1000))

        def dying(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                if next(calls) == moment:
                    os._exit(9)
                return real(*arguments, **options)

            return call

        atomic.write_through = dying(atomic.write_through)
        for owner, names in ((os, ("open", "fsync", "close")), (Path, ("replace", "unlink"))):
            for name in names:
                setattr(owner, name, dying(getattr(owner, name)))
        new.save(tmp_path, overwrite=True)

    _, status = os.waitpid(in_a_child(die), 0)
    assert os.waitstatus_to_exitcode(status) == 9
    assert TaskDelta.load(tmp_path) in (old, new)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes")
def test_savers_that_race_never_leave_a_folder_that_is_refused(tmp_path: Path, old: TaskDelta, new: TaskDelta) -> None:
    def save_again_and_again(delta: TaskDelta) -> Callable[[], None]:
        return lambda: [delta.save(tmp_path, overwrite=True) for _ in range(20)] and None

    old.save(tmp_path)
    children = [in_a_child(save_again_and_again(delta)) for delta in (old, new)]
    while children:
        assert TaskDelta.load(tmp_path) in (old, new)
        children = [child for child in children if os.waitpid(child, os.WNOHANG)[0] == 0]
    assert sorted(contents(tmp_path)) == [DELTA, CONFIG]


def test_equal_deltas_give_equal_bytes() -> None:
    one, two = (tiny_delta(tiny_model()) for _ in range(2))
    assert file_bytes(one) == file_bytes(two)
    assert one.nbytes_on_disk() == len(file_bytes(one))
