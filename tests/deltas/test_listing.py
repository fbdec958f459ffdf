import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deltas.store_deltas import CARD, CONFIG, DELTA, damage, named
from deltas.tiny_deltas import tiny_delta, tiny_model
from supermask.deltas import BaseRecord, DeltaStore, DenseValues, TaskDelta, base_fingerprint
from supermask.deltas.listing import (
    StoreBase,
    StoredDelta,
    StoredScore,
    name_fault,
    read_store_base,
    require_base_of_store,
    scan_store,
)
from supermask.errors import BaseMismatchError, DeltaFormatError

GOOD: dict[str, Any] = {
    "format": "supermask-store",
    "version": 1,
    "base": {"architecture": "Bert", "dtype": "float32", "digest": "0" * 64},
}


@pytest.fixture(scope="module")
def delta() -> TaskDelta:
    return named(tiny_model(), "mrpc", training={"scores": {"dev": {"accuracy": 0.5, "f1": 0.75}}})


@pytest.fixture
def store(tmp_path: Path, delta: TaskDelta) -> DeltaStore:
    store = DeltaStore(tmp_path / "store")
    store.add(delta, name="b")
    store.add(delta, name="a")
    return store


# store.json.


def test_store_json_is_what_the_format_says(store: DeltaStore, delta: TaskDelta) -> None:
    base = {"name": "tiny", "architecture": "TinyModel", "dtype": "float32", "digest": delta.base.digest}
    content = {"format": "supermask-store", "version": 1, "base": base}
    assert (store.path / CARD).read_text("utf-8") == json.dumps(content, indent=2) + "\n"
    assert store.base.model_dump(exclude_none=True) == base


def test_a_linked_store_json_is_read_as_a_hub_cache_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text(json.dumps(GOOD))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / CARD).symlink_to("../blob")
    assert read_store_base(tmp_path / "store") == StoreBase(architecture="Bert", dtype="float32", digest="0" * 64)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        *(({"version": version}, "version") for version in (2, True, 1.0, None, "1")),
        ({"format": "supermask-delta"}, "format"),
        ({"more": 1}, "more"),
        ({"base": {}}, "digest"),
        ({"base": None}, "base"),
        ({"base": {**GOOD["base"], "digest": "../" * 21 + "x"}}, "digest"),
        ({"base": {**GOOD["base"], "digest": "0" * 64 + "\n"}}, "digest"),
        ({"base": {**GOOD["base"], "name": "\x1b[2J"}}, "name"),
        ({"base": {**GOOD["base"], "path": "/"}}, "path"),
        ({"base": {**GOOD["base"], "dtype": 32}}, "dtype"),
    ],
)
def test_an_edited_store_json_is_refused(tmp_path: Path, change: dict[str, Any], word: str) -> None:
    (tmp_path / CARD).write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(DeltaFormatError, match=rf"{CARD}: .*{word}.* upgrade supermask") as caught:
        read_store_base(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff", b"[" * 5000, b"x" * 70_000, b"\0" * 9])
def test_hostile_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CARD).write_bytes(content)
    with pytest.raises(DeltaFormatError, match=CARD):
        read_store_base(tmp_path)


def test_what_is_no_store_neither_hangs_nor_grows(tmp_path: Path) -> None:
    with pytest.raises(DeltaFormatError, match=r"no store of deltas, it has no store\.json .* add a delta"):
        read_store_base(tmp_path)
    with pytest.raises(DeltaFormatError, match="it is no folder"):
        read_store_base(tmp_path / "missing")
    for name, target in (
        *(("loop", CARD), ("gone", "nowhere"), ("endless", "/dev/zero"), ("folder", None), ("pipe", None)),
    ):
        place = tmp_path / name / CARD
        place.parent.mkdir()
        if target:
            place.symlink_to(target)
        elif name == "folder" or not hasattr(os, "mkfifo"):
            place.mkdir()
        else:
            os.mkfifo(place)
        with pytest.raises(DeltaFormatError, match=r"has no store\.json that is a file"):
            read_store_base(place.parent)
    with (tmp_path / CARD).open("wb") as file:
        file.truncate(1 << 40)  # a hole, which takes no room on the disk and all of it in memory
    with pytest.raises(DeltaFormatError, match="longer than 65536 bytes"):
        read_store_base(tmp_path)


def test_another_base_is_named_beside_the_stores(delta: TaskDelta) -> None:
    base: BaseRecord = delta.document.base
    store_base = StoreBase(name="other", architecture="Bert", dtype="bfloat16", digest="1" * 64)
    with pytest.raises(BaseMismatchError) as caught:
        require_base_of_store(base, store_base, delta="mrpc", store=Path("deltas"))
    assert f"mrpc: learnt on the base 'tiny', float32, fingerprint {base.digest[:16]}" in str(caught.value)
    assert "store deltas is over 'other', bfloat16, fingerprint 1111111111111111;" in str(caught.value)
    require_base_of_store(base, store_base.model_copy(update={"digest": base.digest}), delta="x", store=Path("y"))


# Rows.


def test_a_row_is_what_the_document_says(store: DeltaStore, delta: TaskDelta) -> None:
    row = store.list().deltas[0]
    assert row == StoredDelta(name="a", path=store.path / "a", nbytes=delta.nbytes_on_disk(), document=delta.document)
    assert row.nbytes == len((store.path / "a" / DELTA).read_bytes())
    assert row.scores == (StoredScore(split="dev", metric="f1", value=0.75),)


@pytest.mark.parametrize(
    ("metrics", "scores", "expected"),
    [
        (
            ["f1", "accuracy"],
            {"dev_b": {"accuracy": 0.5, "f1": 1.0}, "dev_a": {"accuracy": 0.25}},
            [("dev_a", "accuracy", 0.25), ("dev_b", "f1", 1.0)],
        ),
        ([], {"dev": {"z": 0.5, "b": 0.25}}, [("dev", "b", 0.25)]),
        (["f1"], {"dev": {}}, []),
        (["f1"], {}, []),
    ],
)
def test_scores_are_of_the_tasks_first_metric_on_each_split(
    metrics: list[str], scores: dict[str, dict[str, float]], expected: list[tuple[str, str, float]]
) -> None:
    document = named(tiny_model(), "x", training={"scores": scores}).document
    document = document.model_copy(update={"task": document.task.model_copy(update={"metrics": tuple(metrics)})})
    row = StoredDelta(name="x", path=Path(), nbytes=0, document=document)
    assert [(score.split, score.metric, score.value) for score in row.scores] == expected


def test_damage_does_not_hide_the_others(store: DeltaStore, delta: TaskDelta) -> None:
    for name in "cdefgh":
        store.add(delta, name=name)
    (store.path / "a" / DELTA).write_bytes(b"PK\x03\x04 a zip archive")
    (store.path / "c" / DELTA).unlink()
    (store.path / "d" / DELTA).unlink()
    (store.path / "d" / DELTA).mkdir()
    (store.path / "e" / DELTA).write_bytes((store.path / "b" / DELTA).read_bytes()[:500])
    (store.path / "f" / DELTA).unlink()
    (store.path / "f" / DELTA).symlink_to("/dev/zero")
    damage(store.path / "g")  # a payload, which a listing does not read
    named(tiny_model(seed=1), "x").save(store.path / "h", overwrite=True)
    (store.path / "b" / CONFIG).write_text("{")  # beside the delta, and nobody's to believe
    listing = store.list()
    assert [row.name for row in listing.deltas] == ["b", "g"]
    told = {fault.name: fault.what for fault in listing.faults}
    assert list(told) == ["a", "c", "d", "e", "f", "h"]
    assert "never unpickles" in told["a"] and "learnt on the base 'tiny'" in told["h"]
    assert listing.strangers == ()
    assert store.names == tuple("abcdefgh")


@pytest.mark.parametrize("error", [DeltaFormatError("odd"), PermissionError(13, "denied")])
def test_a_delta_that_cannot_be_read_for_whatever_reason_is_a_fault_of_its_own(
    store: DeltaStore, delta: TaskDelta, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def read(path: Path) -> object:
        if path.parent.name == "a":
            raise error
        return delta.document

    monkeypatch.setattr("supermask.deltas.store.read_document", read)
    assert ([row.name for row in store.list().deltas], [fault.name for fault in store.list().faults]) == (["b"], ["a"])


def test_odd_metadata_is_listed_as_it_is(store: DeltaStore) -> None:
    odd = "\x1b[2J\n\u202e" + "x" * 900
    told = {"name": odd, "label_names": [odd] * 3, "metrics": ["ghost"]}
    scores = {"s" * 900: {"m": 1e308}, "dev": {"f1": -0.0}}
    tiny_delta(tiny_model(), task=told, method={}, training={"scores": scores}).save(store.path / "odd")
    row = store.list().deltas[2]
    assert (row.document.task.name, row.document.method.kind) == (odd, None)
    assert [score.value for score in row.scores] == [-0.0, 1e308]


def test_what_is_no_delta_is_told_and_left_alone(store: DeltaStore, delta: TaskDelta) -> None:
    (store.path / "notes.txt").write_text("mine")
    (store.path / "a\n\x1b[2J").write_text("")
    (store.path / "empty").mkdir()
    delta.save(store.path / "aux")
    delta.save(store.path / "my delta")
    (store.path / "linked").symlink_to(store.path / "a")
    (store.path / "loop").symlink_to("loop")
    (store.path / "readme.md").mkdir()
    for quiet in ("README.md", "LICENSE", ".gitattributes"):
        (store.path / quiet).write_text("")
    (store.path / ".git").mkdir()
    delta.save(store.path / ".hidden")
    named_in_bytes = {os.fsdecode(b"\xff\xfe")} if sys.platform == "linux" else set()  # others take text alone
    for name in named_in_bytes:
        (store.path / name).mkdir()
    listing = store.list()
    assert [row.name for row in listing.deltas] == ["a", "b"] == list(store.names)
    told = {stranger.name: stranger.what for stranger in listing.strangers}
    strangers = {"notes.txt", "a\n\x1b[2J", "empty", "aux", "my delta", "linked", "loop", "readme.md"}
    assert told.keys() == strangers | named_in_bytes
    assert "Windows device" in told["aux"] and "rename it" in told["my delta"] and "link" in told["linked"]
    assert (store.path / "notes.txt").read_text() == "mine"


def test_names_that_differ_in_case_alone_are_a_fault(store: DeltaStore, delta: TaskDelta) -> None:
    delta.save(store.path / "A")
    if len(list(store.path.iterdir())) == 4:
        pytest.skip("this disk cannot tell them apart either")
    assert [(fault.name, fault.what[:22]) for fault in store.list().faults] == [("a", "differs from 'A' in ca")]


def test_a_delta_that_goes_away_meanwhile_is_no_fault(store: DeltaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("store",):
        monkeypatch.setattr(f"supermask.deltas.{module}.scan_store", lambda folder: (("a", "b", "gone"), [], ()))
    assert ([row.name for row in store.list().deltas], store.list().faults) == (["a", "b"], ())
    assert store.verify().faults == ()


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DeltaFormatError, match="cannot be read: No such file"):
        scan_store(tmp_path / "missing")


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="nobody counts what is read")
def test_listing_reads_headers_alone(tmp_path: Path) -> None:
    base = nn.Linear(512, 512, bias=False)
    values = DenseValues(torch.randn(512, 512, generator=torch.Generator().manual_seed(0)))
    store = DeltaStore(tmp_path)
    store.add(TaskDelta.create({"weight": values}, base=base_fingerprint(base)), name="d0")
    for number in range(1, 12):
        shutil.copytree(tmp_path / "d0", tmp_path / f"d{number}")

    def read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    before = read()
    listing = store.list()
    assert len(listing.deltas) == 12
    assert sum(row.nbytes for row in listing.deltas) > 9_000_000
    assert read() - before < 12 * 140_000  # a header, and what a buffer takes with it
    before = read()
    assert store["d3"].weights == 0
    assert read() - before > 750_000


# Names.


@pytest.mark.parametrize(
    "name", ["mrpc", "RTE-seed0", "a", "9", "v1.2_x", "con-sent", "lpt10", "x" * 100, "store.jsonl"]
)
def test_names(name: str) -> None:
    assert name_fault(name) is None


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "a/b", "a\\b", "/etc", "C:", "c:x", ".hidden", "-rf", "_x", " ", "a b", "a\n", "a\0b"),
        *("mrpc\n", "ä", "а", "a\u202eb", "\ud800", "a*", "a?", "a|b", "~", "$HOME", "x" * 101, "a:b", '"', "a\x1b[2J"),
        *("con", "CON", "Con.txt", "aux", "nul.v1", "PRN", "com0", "COM9", "lpt1.x", "a.", "a..", "x.safetensors"),
        *("X.SafeTensors", "store.json", "STORE.JSON", "readme.md", "README.md", "License"),
    ],
)
def test_what_is_no_name(name: str) -> None:
    fault = name_fault(name)
    assert fault is not None and fault.isprintable() and len(fault) < 400
