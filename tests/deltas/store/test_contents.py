from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deltas.store.store_deltas import CONFIG, DELTA, damage, named
from deltas.tiny_deltas import tiny_model
from supermask.deltas import DenseValues, TaskDelta, base_fingerprint
from supermask.deltas.store import DeltaStore, StoredDelta, StoredScore
from supermask.deltas.store.contents import scan_store
from supermask.errors import DeltaFormatError


@pytest.fixture(scope="module")
def delta() -> TaskDelta:
    return named(tiny_model(), "mrpc", training={"scores": {"dev": {"accuracy": 0.5, "f1": 0.75}}})


@pytest.fixture
def store(tmp_path: Path, delta: TaskDelta) -> DeltaStore:
    store = DeltaStore(tmp_path / "store")
    store.add(delta, name="b")
    store.add(delta, name="a")
    return store


def test_a_row_is_what_the_document_says(store: DeltaStore, delta: TaskDelta) -> None:
    row = store.list().deltas[0]
    assert row == StoredDelta(name="a", path=store.path / "a", nbytes=delta.nbytes_on_disk(), document=delta.document)
    assert row.nbytes == len((store.path / "a" / DELTA).read_bytes())
    assert (row.task, row.method, row.base_name, row.digest) == ("mrpc", "supermask", "tiny", delta.digest)
    # 64/4 of dense, 96 - ceil(96/7) of the embedding, 48/3 of transposed
    assert (row.zeros, row.weights, row.sparsity) == (16 + 82 + 16, 64 + 96 + 48, 114 / 208)
    assert row.scores == (StoredScore(split="dev", metric="f1", value=0.75),)


def scores_of(delta: TaskDelta, task: dict[str, Any], scores: Any) -> list[tuple[str, str, float]]:
    document = delta.document.model_copy(update={"task": task, "training": {"scores": scores}})
    row = StoredDelta(name="x", path=Path(), nbytes=0, document=document)
    return [(score.split, score.metric, score.value) for score in row.scores]


def test_scores_are_of_the_tasks_first_metric_on_each_split(delta: TaskDelta) -> None:
    task = {"metrics": ["f1", "accuracy"]}
    two = {"dev_b": {"accuracy": 0.5, "f1": 1}, "dev_a": {"accuracy": 0.25}}
    assert scores_of(delta, task, two) == [("dev_a", "accuracy", 0.25), ("dev_b", "f1", 1.0)]
    assert scores_of(delta, {}, {"dev": {"z": 0.5, "b": 0.25}}) == [("dev", "b", 0.25)]


@pytest.mark.parametrize("scores", [None, [], "f1", 3, {}, {"dev": None}, {"dev": []}, {"dev": {"f1": "x"}}])
def test_scores_of_another_form_are_none(delta: TaskDelta, scores: Any) -> None:
    assert scores_of(delta, {"metrics": ["f1"]}, scores) == []
    assert scores_of(delta, {"metrics": {"f1": [3]}}, scores) == []


def test_a_delta_that_says_nothing(delta: TaskDelta) -> None:
    document = delta.document.model_copy(update={"task": {"name": 3}, "method": {}, "training": {}})
    row = StoredDelta(name="x", path=Path(), nbytes=0, document=document)
    assert (row.task, row.method, row.scores) == (None, None, ())


def test_damage_does_not_hide_the_others(store: DeltaStore, delta: TaskDelta) -> None:
    for name in "cdefg":
        store.add(delta, name=name)
    (store.path / "a" / DELTA).write_bytes(b"PK\x03\x04 a zip archive")
    (store.path / "c" / DELTA).unlink()
    (store.path / "d" / DELTA).unlink()
    (store.path / "d" / DELTA).mkdir()
    (store.path / "e" / DELTA).write_bytes((store.path / "b" / DELTA).read_bytes()[:500])
    (store.path / "f" / DELTA).unlink()
    (store.path / "f" / DELTA).symlink_to("/dev/zero")
    damage(store.path / "g")  # a payload, which a listing does not read
    listing = store.list()
    assert [row.name for row in listing.deltas] == ["b", "g"]
    assert [fault.name for fault in listing.faults] == ["a", "c", "d", "e", "f"]
    assert "never unpickles" in listing.faults[0].what
    assert listing.strangers == ()
    assert store.names == ("a", "b", "c", "d", "e", "f", "g")


def test_a_delta_of_another_base_is_a_fault(store: DeltaStore) -> None:
    named(tiny_model(seed=1), "x").save(store.path / "x")
    listing = store.list()
    assert [row.name for row in listing.deltas] == ["a", "b"]
    assert [fault.name for fault in listing.faults] == ["x"]
    assert "learnt on the base 'tiny'" in listing.faults[0].what


def test_what_is_no_delta_is_told_and_left_alone(store: DeltaStore, delta: TaskDelta) -> None:
    (store.path / "notes.txt").write_text("mine")
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
    listing = store.list()
    assert [row.name for row in listing.deltas] == ["a", "b"] == list(store.names)
    told = {stranger.name: stranger.what for stranger in listing.strangers}
    assert told.keys() == {"notes.txt", "empty", "aux", "my delta", "linked", "loop", "readme.md"}
    assert "device" in told["aux"] and "rename it" in told["my delta"] and "link" in told["linked"]
    assert (store.path / "notes.txt").read_text() == "mine"


def test_a_files_name_may_be_anything(store: DeltaStore) -> None:
    (store.path / "a\n\x1b[2J").write_text("")
    if sys.platform == "linux":  # others take no bytes that are no text
        (store.path / os.fsdecode(b"\xff\xfe")).mkdir()
    assert len(store.list().strangers) == 1 + (sys.platform == "linux")


def test_names_that_differ_in_case_alone_are_a_fault(store: DeltaStore, delta: TaskDelta) -> None:
    delta.save(store.path / "A")
    if len(list(store.path.iterdir())) == 4:
        pytest.skip("this disk cannot tell them apart either")
    assert [(fault.name, fault.what[:22]) for fault in store.list().faults] == [("a", "differs from 'A' in ca")]


def test_a_delta_that_goes_away_meanwhile_is_no_fault(store: DeltaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supermask.deltas.store.contents.scan_store", lambda folder: (("a", "b", "gone"), ()))
    listing = store.list()
    assert [row.name for row in listing.deltas] == ["a", "b"]
    assert listing.faults == ()


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


def test_the_configuration_beside_a_delta_is_not_needed_for_a_listing(store: DeltaStore) -> None:
    (store.path / "a" / CONFIG).write_text("{")  # an overwrite in between looks like this, too
    assert [row.name for row in store.list().deltas] == ["a", "b"]
    assert [fault.name for fault in store.verify().faults] == ["a"]
