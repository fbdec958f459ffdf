from __future__ import annotations

import hashlib
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import safetensors
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltas import reference_version_1, reference_version_2
from deltas.reference_values import frame, raw_block, run_block, skippable_frame
from deltas.reference_version_2 import header_of, joined, split
from deltas.tiny_deltas import tiny_delta, tiny_model, unchanged
from deltas.tiny_files import (
    Edit,
    file_bytes,
    load_bytes,
    refused,
    set_entry,
    set_first,
    smallest_delta,
    smallest_file_1,
    smallest_file_2,
    smallest_model,
)
from supermask.deltas import TaskDelta, named_tensors, read_document
from supermask.deltas.container_v2 import require_storable
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError

MIB = 1 << 20


def with_document(edit: Edit) -> bytes:
    """The smallest file, its document edited by somebody who put the right hash beside it."""
    file = split(smallest_file_2())
    document = file.document
    edit(document)
    return joined(json.dumps(document), file.payloads)


def with_frame(packed: bytes, text: bytes = b"{}") -> bytes:
    return joined(text, b"", packed=packed)


# What is written, and read.


@pytest.mark.parametrize("recoded", [False, True])
def test_the_file_is_what_the_specification_says(recoded: bool) -> None:
    model = tiny_model()
    delta = tiny_delta(model).recode(model) if recoded else tiny_delta(model)
    data = file_bytes(delta)
    file = split(data)
    assert file.text == delta.document.to_json()
    assert file.payloads == b"".join(delta.payloads.values())
    assert data == joined(file.text, file.payloads, packed=file.packed)
    assert file.header["document"]["shape"] == [len(file.packed)]
    read = reference_version_2.read(data, named_tensors(model))
    assert read == {
        name: reference_version_2.expected(change) for name, change in delta.changes_for(tiny_model()).items()
    }


def test_a_file_written_by_the_specification_alone_is_read(tmp_path: Path) -> None:
    delta = load_bytes(tmp_path, smallest_file_2())
    assert delta == smallest_delta()
    model = smallest_model()
    with unchanged(model), delta.applied(model):
        assert model.w.tolist() == [0.0, 0.0, 2.0, 3.0, 0.0, 5.0]
        assert model.h.tolist() == [1.0, -2.0]


def test_any_safetensors_reader_opens_the_file(tmp_path: Path) -> None:
    delta = tiny_delta(tiny_model())
    with safetensors.safe_open(delta.save(tmp_path / "delta.safetensors"), framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: bytes(file.get_tensor(name).tolist()) for name in file.keys()}  # noqa: SIM118
    assert tensors.keys() == {"document", "payloads"}
    assert (metadata["format"], metadata["version"]) == ("supermask-delta", "2")
    text = zstandard.ZstdDecompressor().decompress(tensors["document"])
    assert hashlib.sha256(text).hexdigest() == metadata["sha256"] == delta.digest
    assert json.loads(text)["payloads_sha256"] == hashlib.sha256(tensors["payloads"]).hexdigest()


def test_equal_deltas_give_equal_bytes_and_the_stated_size() -> None:
    one, two = (tiny_delta(tiny_model()) for _ in range(2))
    assert file_bytes(one) == file_bytes(two)
    assert one.nbytes_on_disk() == len(file_bytes(one))


def test_only_header_and_document_are_read_for_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = split(smallest_file_2())
    document = file.document
    document["changes"][1].update(shape=[1 << 25], values={"nbytes": 1 << 27, "crc32": "0" * 8, "coding": "raw"})
    header = header_of(json.dumps(document), len(frame(json.dumps(document).encode())), (1 << 27) + 9)
    front = reference_version_1.joined(header, frame(json.dumps(document).encode()))
    path = tmp_path / "x.safetensors"
    with path.open("wb") as opened:
        opened.write(front)
        opened.truncate(len(front) + (1 << 27) + 9)  # a hole: no such bytes are on the disk
    read = 0

    class Counting(io.FileIO):
        def readinto(self, buffer: Any) -> int | None:
            nonlocal read
            count = super().readinto(buffer)
            read += count or 0
            return count

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, mode: io.BufferedReader(Counting(str(self), "r"), buffer_size=512))
        assert read_document(path).changes[1].weights == 1 << 25
        assert len(front) <= read < len(front) + 1024
        with pytest.raises(DeltaFormatError, match="payload w:keep does not have the checksum"):
            TaskDelta.load(path)


# Damaged files.


def test_truncation_at_every_byte_is_refused(tmp_path: Path) -> None:
    data = file_bytes(smallest_delta())
    for length in range(len(data)):
        assert "truncated" in refused(tmp_path, data[:length])


@pytest.mark.parametrize("flip", [0xFF, 0x20, 0x01])
def test_every_changed_byte_is_refused_or_harmless(tmp_path: Path, flip: int) -> None:
    delta = smallest_delta()
    data, harmless = file_bytes(delta), []
    end = len(data) - len(split(data).payloads)
    packed = range(end - len(split(data).packed), end)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= flip
        try:
            found = load_bytes(tmp_path, bytes(changed))
        except DeltaFormatError:
            continue
        harmless.append(place)
        assert found == delta
        assert found.payloads == delta.payloads
    # Nothing but how the document is compressed can be said in two ways, for example by a bit that nobody looks at.
    assert all(place in packed for place in harmless)
    assert len(harmless) < len(packed) / 20


def test_what_follows_the_last_tensor_is_refused(tmp_path: Path) -> None:
    assert "1 bytes follow the last tensor" in refused(tmp_path, smallest_file_2() + b"\0")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.mark.parametrize(("place", "name"), [(-9, "w:keep"), (-17, "w:keep"), (-1, "h:values"), (-8, "h:values")])
def test_a_damaged_payload_is_named(tmp_path: Path, place: int, name: str) -> None:
    data = bytearray(smallest_file_2())
    assert len(split(bytes(data)).payloads) == 9 + 8
    data[place] ^= 1
    assert f"the payload {name} does not have the checksum that the document states; the file is damaged" in refused(
        tmp_path, bytes(data)
    )


def test_payloads_that_were_exchanged_are_found_by_the_hash_of_all(tmp_path: Path) -> None:
    data = with_document(lambda document: document.update(payloads_sha256="0" * 64))
    assert "the payloads do not have the hash that the document states" in refused(tmp_path, data)


# Edited files whose hashes were put right: everything must agree with everything else.


def grow(header: dict[str, Any]) -> None:
    (begin, end), (_, last) = header["document"]["data_offsets"], header["payloads"]["data_offsets"]
    header["document"].update(shape=[end + 1 - begin], data_offsets=[begin, end + 1])
    header["payloads"].update(shape=[last - end - 1], data_offsets=[end + 1, last])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda header: header.pop("payloads"), "the header has the keys"),
        (lambda header: header.update(extra=header["payloads"]), "the header has the keys"),
        (lambda header: header["__metadata__"].update(more="1"), "the header has the keys"),
        (lambda header: header["__metadata__"].update(document="{}"), "the header has the keys"),
        (lambda header: header["__metadata__"].pop("sha256"), "the header has the keys"),
        (lambda header: header["__metadata__"].update(sha256="0" * 64), "document does not have the hash"),
        (lambda header: header["__metadata__"].update(sha256=None), "document does not have the hash"),
        (lambda header: header.update(document=[]), "tensor document does not start at 0"),
        (set_entry("document", data_offsets=None), "tensor document does not start at 0"),
        (set_entry("document", data_offsets=[1, 8]), "tensor document does not start at 0"),
        (set_entry("document", data_offsets=[-8, 0]), "tensor document does not start at 0"),
        (set_entry("document", data_offsets=[0, 8.0]), "tensor document does not start at 0"),
        (set_entry("document", data_offsets=[False, 8]), "tensor document does not start at 0"),
        (set_entry("document", data_offsets=[0, 8, 8]), "tensor document does not start at 0"),
        (set_entry("document", data_offsets=[0, 8]), "tensor document is not a row of 8 bytes"),
        (set_entry("document", dtype="I8"), "tensor document is not a row of"),
        (set_entry("document", shape=[1]), "tensor document is not a row of"),
        (set_entry("document", shape=[]), "tensor document is not a row of"),
        (set_entry("document", shape=None), "tensor document is not a row of"),
        (set_entry("document", more=1), "tensor document is not a row of"),
        (lambda header: header["document"].update(shape=[float(header["document"]["shape"][0])]), "is not a row of"),
        (lambda header: header["payloads"].update(shape=[1, 17]), "tensor payloads is not a row of 17 bytes"),
        (lambda header: header["payloads"]["data_offsets"].reverse(), "tensor payloads does not start at"),
        (set_entry("payloads", shape=[2**62], data_offsets=[0, 2**62]), "tensor payloads does not start at"),
        (
            lambda header: header["payloads"].update(
                shape=[-1], data_offsets=[header["payloads"]["data_offsets"][0] - step for step in (0, 1)]
            ),
            "tensor payloads does not start at",
        ),
        (
            lambda header: header["payloads"].update(
                shape=[2**62], data_offsets=[header["document"]["data_offsets"][1]] * 2
            ),
            "tensor payloads is not a row of 0 bytes",
        ),
        (grow, "the document is not zstd data"),
    ],
)
def test_headers_that_contradict_themselves_are_refused(tmp_path: Path, edit: Edit, message: str) -> None:
    file = split(smallest_file_2())
    edit(file.header)
    assert message in refused(tmp_path, reference_version_1.joined(file.header, file.packed + file.payloads))


@pytest.mark.parametrize("difference", [-1, 1])
def test_payloads_of_another_size_than_the_documents_are_refused(tmp_path: Path, difference: int) -> None:
    file = split(smallest_file_2())
    payloads = file.payloads + b"\0" if difference > 0 else file.payloads[:-1]
    message = f"the payloads have {17 + difference} bytes and not 17, as the document has it"
    assert message in refused(tmp_path, joined(file.text, payloads))


def test_a_header_that_claims_more_than_the_file_is_truncated(tmp_path: Path) -> None:
    file = split(smallest_file_2())
    end = file.header["document"]["data_offsets"][1]
    file.header["payloads"].update(shape=[2**62], data_offsets=[end, end + 2**62])
    data = reference_version_1.joined(file.header, file.packed + file.payloads)
    assert f"need {end + 2**62} bytes and {end + 17} are there; the file is truncated" in refused(tmp_path, data)


def test_keys_that_stand_twice_are_refused(tmp_path: Path) -> None:
    file = split(smallest_file_2())
    text = json.dumps(file.header)[:-1] + ', "payloads": ' + json.dumps(file.header["payloads"]) + "}"
    data = len(text).to_bytes(8, "little") + text.encode() + file.packed + file.payloads
    assert "'payloads' stands twice" in refused(tmp_path, data)


def test_the_order_of_tensors_and_spaces_in_the_header_are_free(tmp_path: Path) -> None:
    file = split(smallest_file_2())
    text = json.dumps(dict(reversed(list(file.header.items()))))
    data = len(text).to_bytes(8, "little") + text.encode() + file.packed + file.payloads
    assert load_bytes(tmp_path, data) == smallest_delta()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_first(zeros=7), "w: 7 zeros among 6 weights"),
        (lambda document: document.pop("payloads_sha256"), "version 2 must have payloads_sha256"),
        (lambda document: document["base"]["tensors"].update(w="0" * 16), "version 2 has 8 hex digits for each tensor"),
        (lambda document: document["changes"][0]["keep"].pop("crc32"), "w: a payload of version 2 has nbytes, crc32"),
        (set_first(keep={"nbytes": 0, "crc32": "0" * 8}), "w: a keep mask of version 2 has at least 1 byte"),
        (
            lambda document: document["changes"][0]["keep"].update(coding="raw"),
            "w: a payload of version 2 has nbytes, crc32",
        ),
        (
            lambda document: document["changes"][1]["values"].pop("coding"),
            "h: a payload of version 2 has nbytes, crc32 and coding",
        ),
        (
            lambda document: document["changes"][1]["values"].update(sha256="0" * 64),
            "h: a payload of version 2 has nbytes, crc32 and coding",
        ),
    ],
)
def test_documents_that_break_the_rules_are_refused_whatever_their_hash(
    tmp_path: Path, edit: Edit, message: str
) -> None:
    assert message in refused(tmp_path, with_document(edit))


def test_a_document_of_version_1_is_none_of_version_2(tmp_path: Path) -> None:
    header = json.loads(smallest_file_1()[8 : 8 + int.from_bytes(smallest_file_1()[:8], "little")])
    text = header["__metadata__"]["document"]
    assert "the header says version 2 and the document 1" in refused(tmp_path, joined(text, bytes(16)))
    assert "version 1 must not have payloads_sha256" in refused(
        tmp_path, with_document(lambda document: document.update(version=1))
    )


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
    assert peak < 4 << 20


# Documents that expand.


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
        (frame(b"{}", stated=1 << 40), "the document states a size of more than 16777216 bytes"),
        (frame(b"{}", stated=(1 << 64) - 3), "the document states a size of more than 16777216 bytes"),
        (frame(b"{}", stated=(16 << 20) + 1), "the document states a size of more than 16777216 bytes"),
        (
            zstandard.ZstdCompressor(write_content_size=False).compress(b"{}"),
            "the document states a size of more than 16777216 bytes",
        ),
        (
            run_frame(16 << 20),
            "the document states 16777216 bytes in 525 compressed ones, more than 1000 times as many",
        ),
        (run_frame(1 << 20), "document does not have the hash"),
        (run_frame(1 << 17, stated=1 << 16), "the document is not zstd data"),
        (frame(b"{}", stated=1 << 20), "the document is not zstd data"),
        (frame(b"", stated=0), "document does not have the hash"),
        (frame(b"{}", blocks=[raw_block(b"{", last=False), raw_block(b"}", last=True)]), "base: Field required"),
        (frame(b"{}", window=1 << 30), "base: Field required"),
    ],
)
def test_documents_that_expand_beyond_reason_are_refused_before_they_do(
    tmp_path: Path, packed: bytes, message: str
) -> None:
    tracemalloc.start()
    assert message in refused(tmp_path, with_frame(packed))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MIB


def test_a_compressed_document_is_bounded_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    front = reference_version_1.joined(header_of("", 1 << 36, 0), b"")
    with path.open("wb") as file:
        file.write(front)
        file.truncate(len(front) + (1 << 36))
    tracemalloc.start()
    with pytest.raises(DeltaFormatError, match=f"compressed document has {1 << 36} bytes, more than 16777216"):
        read_document(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MIB


def incompressible(size: int) -> str:
    """Hex digits that zstd cannot make much smaller."""
    return hashlib.shake_256(b"x").hexdigest(size // 2)


def test_a_document_of_the_largest_size_is_stored_and_read(tmp_path: Path) -> None:
    delta = smallest_delta(training={"x": incompressible(16 * MIB - 2000)})
    left = 16 * MIB - len(delta.document.to_json())
    delta = smallest_delta(training={"x": incompressible(16 * MIB - 2000) + "y" * left})
    assert len(delta.document.to_json()) == 16 * MIB
    assert load_bytes(tmp_path, file_bytes(delta)) == delta
    with pytest.raises(ConfigurationError, match=r"cannot be stored: its document has a size of more than 16777216 b"):
        smallest_delta(training={"x": incompressible(16 * MIB - 2000) + "y" * (left + 1)})


def test_a_document_of_nothing_but_repetition_is_stored_up_to_a_mebibyte(tmp_path: Path) -> None:
    delta = smallest_delta(training={"x": " " * (MIB - 2000)})
    assert load_bytes(tmp_path, file_bytes(delta)) == delta
    with pytest.raises(ConfigurationError, match=r"more than 1000 times as many; put less into method, task and tr"):
        smallest_delta(training={"x": " " * 2 * MIB})
    with pytest.raises(ConfigurationError, match="more than 1000 times as many"):
        require_storable(smallest_delta().document.model_copy(update={"task": {"x": [0] * MIB}}))
