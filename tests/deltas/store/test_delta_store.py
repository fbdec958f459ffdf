from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from torch import nn

from deltas.store.store_deltas import CARD, CONFIG, DELTA, contents, damage, named
from deltas.tiny_deltas import tiny_model
from supermask.deltas import TaskDelta
from supermask.deltas.store import DeltaStore
from supermask.errors import (
    BaseMismatchError,
    ConfigurationError,
    DeltaFormatError,
    OutputError,
    UnknownNameError,
)


@pytest.fixture(scope="module")
def base() -> nn.Module:
    return tiny_model()


@pytest.fixture(scope="module")
def delta(base: nn.Module) -> TaskDelta:
    return named(base, "mrpc")


@pytest.fixture(scope="module")
def other(base: nn.Module) -> TaskDelta:
    return named(base, "rte")


@pytest.fixture
def store(tmp_path: Path, delta: TaskDelta) -> DeltaStore:
    store = DeltaStore(tmp_path / "store")
    store.add(delta)
    return store


def test_the_first_delta_makes_the_store(tmp_path: Path, delta: TaskDelta) -> None:
    store = DeltaStore(str(tmp_path / "deep" / "store"))
    added = store.add(delta)
    assert (added.name, added.path, added.document) == ("mrpc", store.path / "mrpc", delta.document)
    assert contents(store.path).keys() == {CARD, f"mrpc/{DELTA}", f"mrpc/{CONFIG}"}
    assert store.base.digest == delta.base.digest
    assert store["mrpc"] == delta == TaskDelta.load(store.path / "mrpc")
    assert repr(store) == f"DeltaStore({str(store.path)!r})"


def test_a_store_reads_as_a_collection_of_names(store: DeltaStore, other: TaskDelta) -> None:
    store.add(other)
    assert store.names == tuple(store) == ("mrpc", "rte")
    assert len(store) == 2
    assert "rte" in store and "cola" not in store and 3 not in store


def test_a_saved_delta_is_copied_byte_for_byte(tmp_path: Path, store: DeltaStore, other: TaskDelta) -> None:
    file = other.save(tmp_path / "runs" / "rte")
    store.add(file.parent, name="folder")
    store.add(str(file), name="file")
    for name in ("folder", "file"):
        assert (store.path / name / DELTA).read_bytes() == file.read_bytes()


def test_a_store_of_which_all_was_removed_keeps_its_base(store: DeltaStore, delta: TaskDelta) -> None:
    store.remove("mrpc")
    assert len(store) == 0
    with pytest.raises(BaseMismatchError):
        store.add(named(tiny_model(seed=1), "mrpc"))
    store.add(delta)
    assert store["mrpc"] == delta


def test_another_base_is_refused_and_both_are_named(store: DeltaStore) -> None:
    before = contents(store.path)
    stranger = named(tiny_model(seed=1), "rte", base_name="large")
    with pytest.raises(BaseMismatchError) as caught:
        store.add(stranger)
    for words in ("rte: learnt on the base 'large'", stranger.base.digest[:16], "'tiny'", store.base.digest[:16]):
        assert words in str(caught.value)
    assert contents(store.path) == before


def test_a_delta_of_another_base_that_found_its_way_in_is_not_handed_out(store: DeltaStore) -> None:
    named(tiny_model(seed=1), "rte").save(store.path / "rte")
    with pytest.raises(BaseMismatchError, match="rte: learnt on"):
        store["rte"]


def test_a_damaged_delta_is_not_added(tmp_path: Path, store: DeltaStore, other: TaskDelta) -> None:
    other.save(tmp_path / "rte")
    damage(tmp_path / "rte")
    before = contents(store.path)
    with pytest.raises(DeltaFormatError, match="checksum"):
        store.add(tmp_path / "rte")
    with pytest.raises(DeltaFormatError, match="no delta in this folder"):
        store.add(tmp_path)
    assert contents(store.path) == before
    with pytest.raises(DeltaFormatError):
        DeltaStore(tmp_path / "new").add(tmp_path / "rte")
    assert not (tmp_path / "new").exists()


# Names that are taken.


def test_a_taken_name_is_refused_unless_it_is_to_be_replaced(store: DeltaStore, base: nn.Module) -> None:
    before = contents(store.path)
    new = named(base, "mrpc", training={"steps": 3})
    with pytest.raises(OutputError, match="has a delta 'mrpc' already; choose another name, or pass overwrite=True"):
        store.add(new)
    assert contents(store.path) == before
    assert store.add(new, overwrite=True).document == new.document
    assert store["mrpc"] == new
    assert len(store) == 1 and store.verify().faults == ()


def test_overwriting_what_is_not_there_adds_it(store: DeltaStore, other: TaskDelta) -> None:
    store.add(other, overwrite=True)
    assert store.names == ("mrpc", "rte")


def test_overwriting_mends_a_damaged_delta(store: DeltaStore, delta: TaskDelta) -> None:
    damage(store.path / "mrpc")
    store.add(delta, overwrite=True)
    assert store.verify().intact == ("mrpc",)


@pytest.mark.parametrize("overwrite", [False, True])
def test_names_that_differ_in_case_alone_are_refused(store: DeltaStore, delta: TaskDelta, overwrite: bool) -> None:
    with pytest.raises(OutputError, match="'MRPC' differs from 'mrpc' in case alone"):
        store.add(delta, name="MRPC", overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_delta_is_never_replaced(
    tmp_path: Path, store: DeltaStore, other: TaskDelta, overwrite: bool
) -> None:
    (store.path / "file").write_text("mine")
    (store.path / "folder").mkdir()
    (store.path / "folder" / "note").write_text("mine")
    other.save(tmp_path / "elsewhere")
    (store.path / "link").symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path)
    for name in ("file", "folder", "link"):
        with pytest.raises(OutputError, match="is there and is no delta"):
            store.add(other, name=name, overwrite=overwrite)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["../out", "/tmp/out", "a/b", ".hidden", "..", "", "con", "x.safetensors", "store.json"]
)
def test_names_that_lead_elsewhere(tmp_path: Path, store: DeltaStore, other: TaskDelta, name: str) -> None:
    before = contents(tmp_path)
    with pytest.raises(ConfigurationError):
        store.add(other, name=name)
    with pytest.raises(UnknownNameError):
        store[name]
    with pytest.raises(UnknownNameError):
        store.remove(name)
    assert contents(tmp_path) == before


def test_a_task_with_a_hostile_name_stays_inside(tmp_path: Path, base: nn.Module) -> None:
    store = DeltaStore(tmp_path / "store")
    assert store.add(named(base, "../../evil")).name == "evil"
    with pytest.raises(ConfigurationError, match="pass a name"):
        store.add(named(base, ".."))
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


# Places that are no stores.


def test_a_folder_of_something_else_is_not_made_a_store(tmp_path: Path, delta: TaskDelta) -> None:
    delta.save(tmp_path / "run" / "delta")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="is no store and not empty, it holds 'delta'"):
        DeltaStore(tmp_path / "run").add(delta)
    assert contents(tmp_path) == before
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_fresh_repository_is_made_a_store(tmp_path: Path, delta: TaskDelta) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.md").write_text("# deltas")
    DeltaStore(tmp_path).add(delta)
    assert DeltaStore(tmp_path).list().strangers == ()


def test_a_file_or_a_broken_link_in_the_stores_place(tmp_path: Path, delta: TaskDelta) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for place in (tmp_path / "file", tmp_path / "file" / "store", tmp_path / "link"):
        with pytest.raises(OutputError, match="cannot be made a store"):
            DeltaStore(place).add(delta)


def test_what_is_no_store_cannot_be_read(tmp_path: Path, delta: TaskDelta) -> None:
    delta.save(tmp_path / "mrpc")
    store = DeltaStore(tmp_path)
    for read in (store.list, store.verify, lambda: store.names, lambda: store["mrpc"], lambda: store.remove("mrpc")):
        with pytest.raises(DeltaFormatError, match=r"no store of deltas"):
            read()  # type: ignore[operator]
    assert (tmp_path / "mrpc" / DELTA).exists()


@pytest.mark.parametrize("card", ["{", '{"format": "supermask-store", "version": 2}'])
def test_a_damaged_card_stops_everything(store: DeltaStore, other: TaskDelta, card: str) -> None:
    (store.path / CARD).write_text(card)
    before = contents(store.path)
    for call in (
        store.list,
        store.verify,
        lambda: store["mrpc"],
        lambda: store.add(other),
        lambda: store.remove("mrpc"),
    ):
        with pytest.raises(DeltaFormatError, match=r"store\.json"):
            call()  # type: ignore[operator]
    assert contents(store.path) == before


def test_a_card_that_is_a_broken_link_is_not_written_through(tmp_path: Path, delta: TaskDelta) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / CARD).symlink_to(tmp_path / "made")
    with pytest.raises(DeltaFormatError, match="that is a file"):
        DeltaStore(tmp_path / "store").add(delta)
    assert not (tmp_path / "made").exists()


# Removing.


def test_removing(store: DeltaStore, other: TaskDelta) -> None:
    store.add(other)
    store.remove("mrpc")
    assert contents(store.path).keys() == {CARD, f"rte/{DELTA}", f"rte/{CONFIG}"}
    with pytest.raises(UnknownNameError, match=r"no delta 'rtf' in .*; did you mean rte\?"):
        store.remove("rtf")
    with pytest.raises(UnknownNameError, match="it has rte"):
        store["x"]


def test_a_damaged_delta_can_be_removed(store: DeltaStore) -> None:
    (store.path / "mrpc" / DELTA).write_bytes(b"")
    store.remove("mrpc")
    assert store.names == ()


def test_removing_takes_nothing_that_is_not_the_deltas(tmp_path: Path, store: DeltaStore, other: TaskDelta) -> None:
    (store.path / "mrpc" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds more than a delta \('notes\.txt'\)"):
        store.remove("mrpc")
    (store.path / "mrpc" / "notes.txt").unlink()
    (store.path / "mrpc" / "README.md").write_text("the delta's card")
    (store.path / "mrpc" / f".{DELTA}.0123456789abcdef.new").write_text("of a killed overwrite")
    other.save(tmp_path / "elsewhere")
    (store.path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnknownNameError):
        store.remove("link")
    store.remove("mrpc")
    assert contents(tmp_path / "elsewhere") and not (store.path / "mrpc").exists()


def test_removing_a_linked_file_leaves_what_it_leads_to(tmp_path: Path, store: DeltaStore) -> None:
    blob = (store.path / "mrpc" / DELTA).replace(tmp_path / "blob")
    (store.path / "mrpc" / DELTA).symlink_to(blob)
    assert store.verify().intact == ("mrpc",)
    store.remove("mrpc")
    assert blob.exists()


# Disks that fail.


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "rename", "mkdir"])
@pytest.mark.parametrize("fresh", [True, False])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, delta: TaskDelta, other: TaskDelta, call: str, fresh: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DeltaStore(tmp_path / "store")
    if not fresh:
        store.add(delta)
    before = contents(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        for owner in (os, Path):
            if hasattr(owner, call):
                patched.setattr(owner, call, full)
        with pytest.raises(OutputError, match="No space left on device"):
            store.add(other)
    left = contents(tmp_path)
    assert {name: left[name] for name in left if not name.endswith(CARD)} == {
        name: before[name] for name in before if not name.endswith(CARD)
    }
    store.add(other)
    assert store.verify().faults == () and "rte" in store


def test_a_delta_that_cannot_be_removed_is_still_there(store: DeltaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", denied)
        with pytest.raises(OutputError, match="cannot be removed: Permission denied"):
            store.remove("mrpc")
    assert store.verify().intact == ("mrpc",)
