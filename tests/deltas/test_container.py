"""Both versions of the format: the golden files of each, what is no delta, and which versions are read."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import zstandard
from torch import Tensor, nn

from deltas import reference_codec, reference_version_1, reference_version_2
from deltas.golden import make_golden
from deltas.golden.make_golden import DESCRIBED, HEAD, PLACES_1
from deltas.reference_version_1 import raw
from deltas.tiny_deltas import snapshot, unchanged
from deltas.tiny_files import file_bytes, load_bytes, refused, smallest_file_1, smallest_file_2
from supermask.deltas import Change, DenseValues, KeepMask, TaskDelta, read_document
from supermask.deltas.container import read_container
from supermask.errors import DeltaFormatError, SupermaskError

GOLDEN = Path(__file__).parent / "golden"
ROUNDED = ("bfloat16", "float16")


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


def require_applied(delta: TaskDelta, changes: Mapping[str, Change], base: Mapping[str, Tensor]) -> None:
    """The delta turns the base into just what the changes say, and back."""
    tensors = {**base, **{name: torch.zeros_like(changes[name].values) for name in HEAD}}  # type: ignore[union-attr]
    model = model_of(tensors)
    with unchanged(model), delta.applied(model):
        found = snapshot(model)
        for name, tensor in tensors.items():
            if tensor.numel():
                assert found[name] == (changed(tensor, changes[name]) if name in changes else raw(tensor)), name


# Goldens: written by golden/make_golden.py when a version was made, never rewritten.


def test_the_golden_delta_of_version_1_is_read_right() -> None:
    delta = TaskDelta.load(GOLDEN / "v1")
    assert (delta.document.version, delta.needs_base, delta.head) == (1, False, HEAD)
    assert delta.method == DESCRIBED["method"]
    assert delta.task == DESCRIBED["task"]
    assert delta.training == DESCRIBED["training"]
    assert delta.document.base.name == "golden/base-größe"
    assert {record.name: (record.role, record.block) for record in delta.document.changes if record.role} == {
        name: (place.role, place.block) for name, place in PLACES_1.items()
    }
    require_applied(delta, make_golden.changes_1(), make_golden.base_tensors_1())


def test_the_golden_delta_of_version_1_is_saved_as_it_is(tmp_path: Path) -> None:
    delta = TaskDelta.load(GOLDEN / "v1")
    delta.save(tmp_path / "v1")
    for name in ("delta.safetensors", "delta_config.json"):
        assert (tmp_path / "v1" / name).read_bytes() == (GOLDEN / "v1" / name).read_bytes()
    assert delta.nbytes_on_disk() == (GOLDEN / "v1" / "delta.safetensors").stat().st_size


def test_the_golden_bytes_of_version_1_are_those_of_the_specification() -> None:
    data = reference_version_1.file_bytes(
        make_golden.changes_1(), base=make_golden.base_tensors_1(), head=HEAD, places=PLACES_1, **DESCRIBED
    )
    assert data == (GOLDEN / "v1" / "delta.safetensors").read_bytes()


def test_the_golden_delta_of_version_1_is_the_same_in_version_2(tmp_path: Path) -> None:
    base = make_golden.base_tensors_1()
    for options in ({}, {"self_contained": True}):
        delta = TaskDelta.load(GOLDEN / "v1").recode(base, **options)
        assert load_bytes(tmp_path, file_bytes(delta)) == delta
        require_applied(delta, make_golden.changes_1(), base)


def test_the_golden_masks_are_those_that_the_specification_gives() -> None:
    delta = TaskDelta.load(GOLDEN / "v1")
    for record in delta.document.changes:
        if record.keep is not None:
            payload = delta.payloads[f"{record.name}:keep"]
            keep = reference_codec.decode(payload, record.weights, record.zeros or 0)
            assert keep == make_golden.changes_1()[record.name].keep.reshape(-1).tolist()  # type: ignore[union-attr]


def golden_files_2() -> dict[str, Path]:
    return {"exact": GOLDEN / "v2" / "delta.safetensors"} | {
        kind: GOLDEN / "v2" / f"{kind}.safetensors" for kind in ROUNDED
    }


def golden_changes_2(form: str) -> dict[str, Change]:
    changes = make_golden.changes_2()
    return changes if form == "exact" else {name: as_rounded(change, form) for name, change in changes.items()}


def as_rounded(change: Change, kind: str) -> Change:
    """To nearest, ties to even, once: torch rounds float32 so, and the values in float64 are rounded by hand."""
    if isinstance(change, KeepMask) or change.values.dtype not in (torch.float32, torch.float64):
        return change
    values = change.values.to(getattr(torch, kind)).to(change.values.dtype)
    values[values.isnan()] = float("nan")  # the positive quiet one
    if change.values.dtype is torch.float64:
        by_hand = {"bfloat16": [59904.0, -0.0, 0.0, 0.10009765625], "float16": [60000.0, -0.0, 0.0, 0.0999755859375]}
        values = torch.tensor([*by_hand[kind], float("-inf")], dtype=torch.float64)
    return DenseValues(values) if isinstance(change, DenseValues) else type(change)(change.keep, values)


@pytest.mark.parametrize("form", ["exact", *ROUNDED])
def test_the_golden_deltas_of_version_2_are_read_right(form: str) -> None:
    delta = TaskDelta.load(golden_files_2()[form])
    assert (delta.document.version, delta.needs_base, delta.head) == (2, True, HEAD)
    assert (delta.method, delta.task, delta.training) == tuple(
        DESCRIBED[name] for name in ("method", "task", "training")
    )
    rounded = {record.name: record.rounded for record in delta.document.changes}
    floats = {record.name for record in delta.document.changes if record.dtype in ("float32", "float64")}
    assert rounded == {name: form if name in floats and form != "exact" else None for name in rounded}
    assert "classifier.weight" in floats
    require_applied(delta, golden_changes_2(form), make_golden.base_tensors_2())


@pytest.mark.parametrize("form", ["exact", *ROUNDED])
def test_the_golden_files_of_version_2_are_read_right_by_the_specification_alone(form: str) -> None:
    found = reference_version_2.read(golden_files_2()[form].read_bytes(), make_golden.base_tensors_2())
    assert found == {name: reference_version_2.expected(change) for name, change in golden_changes_2(form).items()}


@pytest.mark.parametrize("form", ["exact", *ROUNDED])
def test_the_golden_deltas_of_version_2_are_saved_as_they_are(form: str) -> None:
    data = golden_files_2()[form].read_bytes()
    found = file_bytes(TaskDelta.load(golden_files_2()[form]))
    golden, saved = reference_version_2.split(data), reference_version_2.split(found)
    assert (saved.text, saved.payloads) == (golden.text, golden.payloads)
    if make_golden.ZSTD_VERSION == zstandard.ZSTD_VERSION:
        assert found == data


def test_the_golden_configuration_of_version_2_is_the_document() -> None:
    text = (GOLDEN / "v2" / "delta_config.json").read_text(encoding="utf-8")
    assert json.loads(text) == reference_version_2.split(golden_files_2()["exact"].read_bytes()).document
    assert read_document(GOLDEN / "v2") == TaskDelta.load(golden_files_2()["exact"]).document


def test_the_golden_delta_of_version_2_has_every_form_and_coding() -> None:
    delta = TaskDelta.load(GOLDEN / "v2")
    forms = {delta.payloads[f"{record.name}:keep"][0] for record in delta.document.changes if record.keep}
    codings = {record.values.coding for record in delta.document.changes if record.values}
    assert forms == {0, 1, 2}
    assert codings == {"raw", "shuffle", "difference", "sorted_difference"}
    assert {record.kind for record in delta.document.changes} == {"keep_mask", "dense_values", "sparse_values"}


def test_what_is_coded_now_is_read_as_the_golden_delta_is() -> None:
    # Other bytes than the golden ones if a smaller coding was found since, or with another version of zstd.
    for form in ("exact", *ROUNDED):
        delta = make_golden.golden_delta(**({} if form == "exact" else {"round_values": form}))
        golden = TaskDelta.load(golden_files_2()[form])
        assert delta == make_golden.golden_delta(**({} if form == "exact" else {"round_values": form}))
        assert delta.nbytes_on_disk() <= 1.02 * golden.nbytes_on_disk()
        require_applied(delta, golden_changes_2(form), make_golden.base_tensors_2())


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
        (struct.pack("<Q", 20) + b'{"__metadata__": []}', "a safetensors file, but not a delta"),
        (struct.pack("<Q", 34) + b'{"__metadata__": {"format": "pt"}}', "a safetensors file, but not a delta"),
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


# Which versions are read.


@pytest.mark.parametrize("data", [smallest_file_1(), smallest_file_2()], ids=["1", "2"])
@pytest.mark.parametrize(
    ("version", "shown"),
    [("3", "'3'"), ("0", "'0'"), ("", "''"), ("02", "'02'"), (2, "2"), (None, "None"), (["2"], r"\['2'\]")],
)
def test_another_version_is_refused_with_the_remedy(tmp_path: Path, data: bytes, version: Any, shown: str) -> None:
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    header["__metadata__"]["version"] = version
    path = tmp_path / "x.safetensors"
    path.write_bytes(reference_version_1.joined(header, body))
    message = (
        rf"format version {shown} is unknown here, this supermask reads versions 1 to 2; upgrade supermask, or get a "
        "delta saved by this version"
    )
    for read in (TaskDelta.load, read_document):
        with pytest.raises(DeltaFormatError, match=message):
            read(path)


def test_a_delta_is_written_in_the_version_that_its_document_states(tmp_path: Path) -> None:
    for data, version in ((smallest_file_1(), 1), (smallest_file_2(), 2)):
        delta = load_bytes(tmp_path, data)
        delta.save(tmp_path / f"v{version}")
        assert delta.document.version == version
        assert json.loads((tmp_path / f"v{version}" / "delta_config.json").read_text())["version"] == version
        assert TaskDelta.load(tmp_path / f"v{version}") == delta


def test_every_refusal_is_one_of_the_named_errors(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"?")
    with pytest.raises(SupermaskError):
        read_container(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="truncated"):
        read_container(tmp_path / "x.safetensors")
