import errno
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from torch import nn

from deltas.store_deltas import CARD, CONFIG, DELTA, contents, damage, exit_code, in_child, named, undecodable
from deltas.tiny_deltas import snapshot, tiny_delta, tiny_model
from supermask.deltas import DeltaStore, TaskDelta, named_tensors
from supermask.deltas import store as store_module
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError, OutputError, UnknownNameError

WRITERS = 4


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
    store.add(named(tiny_model(), "rte"), overwrite=True)
    assert store.names == tuple(store) == ("mrpc", "rte") and len(store) == 2
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
    stranger.save(store.path / "rte")
    with pytest.raises(BaseMismatchError, match="rte: learnt on"):  # nor handed out if it found its way in
        store["rte"]


def test_a_damaged_delta_is_not_added(tmp_path: Path, store: DeltaStore, other: TaskDelta) -> None:
    other.save(tmp_path / "rte")
    damage(tmp_path / "rte")
    before = contents(store.path)
    with pytest.raises(DeltaFormatError, match="do not have the hash"):
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
    damage(store.path / "mrpc")
    store.add(new, overwrite=True)
    assert store.verify().intact == ("mrpc",)


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
    with pytest.raises(OutputError, match="'MRPC' differs from 'mrpc' in case alone"):
        store.add(other, name="MRPC", overwrite=overwrite)
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


@pytest.mark.parametrize(
    ("task", "name"),
    [
        *(("my data/2", "my-data-2"), ("../../etc/passwd", "etc-passwd"), ("  stars & stripes  ", "stars-stripes")),
        *(("x" * 99 + " y", "x" * 99), ("größe", "gr-e"), (None, None), ("", None), ("???", None), ("nul", None)),
    ],
)
def test_a_name_is_made_of_the_tasks_and_stays_inside(
    tmp_path: Path, base: nn.Module, task: str | None, name: str | None
) -> None:
    store = DeltaStore(tmp_path / "store")
    delta = tiny_delta(base, task={"name": task})
    if name is not None:
        assert store.add(delta).name == name
    else:
        with pytest.raises(ConfigurationError, match="pass a name"):
            store.add(delta)
    assert [path.name for path in tmp_path.iterdir()] == (["store"] if name else [])


# Places that are no stores.


def test_what_is_made_a_store(tmp_path: Path, delta: TaskDelta) -> None:
    fresh, run = tmp_path / "fresh", tmp_path / "run"
    (fresh / ".git").mkdir(parents=True)
    (fresh / "README.md").write_text("# deltas")
    DeltaStore(fresh).add(delta)
    assert DeltaStore(fresh).list().strangers == ()
    delta.save(run / "delta")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="is no store and not empty, it holds 'delta'"):
        DeltaStore(run).add(delta)
    for place in (tmp_path / "file", tmp_path / "file" / "store", tmp_path / "link"):
        with pytest.raises(OutputError, match="cannot be made a store"):
            DeltaStore(place).add(delta)
    assert contents(tmp_path) == before and not (run / ".lock").exists()


@pytest.mark.parametrize(
    ("card", "fault"),
    [
        (None, "no store of deltas"),
        ("{", r"store\.json"),
        ('{"format": "supermask-store", "version": 2}', r"store\.json"),
    ],
)
def test_without_an_intact_card_nothing_is_done(
    store: DeltaStore, other: TaskDelta, card: str | None, fault: str
) -> None:
    (store.path / CARD).unlink()
    if card is not None:
        (store.path / CARD).write_text(card)
    before = contents(store.path)
    for call in (
        *(store.list, store.verify, partial(getattr, store, "names"), partial(store.__getitem__, "mrpc")),
        *(partial(store.remove, "mrpc"), *([partial(store.add, other)] if card is not None else [])),
    ):
        with pytest.raises(DeltaFormatError, match=fault):
            call()
    assert contents(store.path) == before


def test_links_in_place_of_the_card_or_the_lock_are_not_followed(
    tmp_path: Path, store: DeltaStore, delta: TaskDelta
) -> None:
    precious, made = tmp_path / "precious", tmp_path / "made"
    precious.write_text("keep")
    for target in (precious, made):
        (store.path / ".lock").unlink(missing_ok=True)
        (store.path / ".lock").symlink_to(target)
        with pytest.raises(OutputError, match="cannot be locked"):
            store.remove("mrpc")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / CARD).symlink_to(made)
    with pytest.raises(DeltaFormatError, match="that is a file"):
        DeltaStore(tmp_path / "new").add(delta)
    assert precious.read_text() == "keep" and not made.exists()


# Removing.


def test_removing(store: DeltaStore, other: TaskDelta) -> None:
    store.add(other)
    store.remove("mrpc")
    assert contents(store.path).keys() == {CARD, f"rte/{DELTA}", f"rte/{CONFIG}"}
    with pytest.raises(UnknownNameError, match=r"no delta 'rtf' in .*; did you mean rte\?"):
        store.remove("rtf")
    with pytest.raises(UnknownNameError, match="it has rte"):
        store["x"]
    blob = (store.path / "rte" / DELTA).replace(store.path.parent / "blob")
    (store.path / "rte" / DELTA).symlink_to(blob)
    assert store.verify().intact == ("rte",)
    damage(store.path / "rte")
    store.remove("rte")
    assert store.names == () and blob.exists()


def test_removing_takes_nothing_that_is_not_the_deltas(tmp_path: Path, store: DeltaStore, other: TaskDelta) -> None:
    (store.path / "mrpc" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds more than a delta \('notes\.txt'\)"):
        store.remove("mrpc")
    (store.path / "mrpc" / "notes.txt").unlink()
    (store.path / "mrpc" / "README.md").write_text("the delta's card")
    (store.path / "mrpc" / f".{DELTA}.0123456789abcdef.part").write_text("of a killed overwrite")
    other.save(tmp_path / "elsewhere")
    (store.path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnknownNameError):
        store.remove("link")
    store.remove("mrpc")
    assert contents(tmp_path / "elsewhere") and not (store.path / "mrpc").exists()


# Disks that fail.


def failing(number: int) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "rename", "mkdir"])
@pytest.mark.parametrize("fresh", [True, False])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, delta: TaskDelta, other: TaskDelta, call: str, fresh: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_card() -> dict[str, bytes]:
        return {name: content for name, content in contents(tmp_path).items() if not name.endswith(CARD)}

    store = DeltaStore(tmp_path / "store")
    if not fresh:
        store.add(delta)
    before = without_card()
    with monkeypatch.context() as patched:
        for owner in (os, Path):
            if hasattr(owner, call):
                patched.setattr(owner, call, failing(errno.ENOSPC))
        with pytest.raises(OutputError, match="No space left on device"):
            store.add(other)
    assert without_card() == before
    store.add(other)
    assert store.verify().faults == () and "rte" in store


def test_a_disk_that_denies_or_has_no_locks(store: DeltaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", failing(errno.EACCES))
        with pytest.raises(OutputError, match="cannot be removed: Permission denied"):
            store.remove("mrpc")
    assert store.verify().intact == ("mrpc",)
    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", failing(errno.ENOLCK))
    with pytest.raises(OutputError, match=r"cannot be locked for writing: No locks .*; .* a disk that has locks"):
        store.remove("mrpc")


# Verifying.


@pytest.fixture
def abc(tmp_path: Path, delta: TaskDelta) -> DeltaStore:
    store = DeltaStore(tmp_path / "abc")
    for name in "abc":
        store.add(delta, name=name)
    return store


def test_all_is_well_and_the_base_is_hashed_once(
    abc: DeltaStore, base: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []
    check = store_module.require_base
    monkeypatch.setattr(store_module, "require_base", lambda *given: checked.append(given) or check(*given))
    before = snapshot(base)
    for given in (None, base, named_tensors(base), tiny_model(labels=7)):
        checked.clear()
        result = abc.verify(given)
        assert (result.intact, result.faults, result.strangers) == (("a", "b", "c"), (), ())
        assert result.decoded == (given is not None) == (len(checked) == 1)
    assert snapshot(base) == before


def test_every_fault_is_told(abc: DeltaStore, base: nn.Module, delta: TaskDelta) -> None:
    damage(abc.path / "a")
    undecodable(delta).save(abc.path / "d")
    named(tiny_model(seed=1), "x").save(abc.path / "e")
    (abc.path / "f").mkdir()
    (abc.path / "f" / CONFIG).write_text("{}")
    changes = tuple(
        record.model_copy(update={"shape": (1 << 17, 1 << 17)}) if record.name == "dense.weight" else record
        for record in delta.document.changes
    )
    TaskDelta(delta.document.model_copy(update={"changes": changes}), delta.payloads).save(abc.path / "huge")
    (abc.path / "notes").write_text("")
    compared = abc.verify()
    assert compared.intact == ("b", "c", "d", "huge")
    assert [fault.name for fault in compared.faults] == ["a", "e", "f"]
    decoded = abc.verify(base)
    assert decoded.intact == ("b", "c")
    assert [fault.name for fault in decoded.faults] == ["a", "d", "d", "e", "f", "huge"]
    masks = [fault.what.split(":")[0] for fault in decoded.faults if fault.name == "d"]
    assert masks == ["dense.weight", "embedding.weight"]
    assert decoded.faults[-1].what == "dense.weight: the change has shape (131072, 131072), the base's tensor (8, 8)"
    assert [stranger.name for stranger in decoded.strangers] == ["notes"]
    with pytest.raises(DeltaFormatError, match="do not have the hash"):
        abc["a"]


def test_another_base_is_refused_at_once(abc: DeltaStore) -> None:
    with pytest.raises(BaseMismatchError, match="the base 'tiny'"):
        abc.verify(tiny_model(seed=1))
    with pytest.raises(BaseMismatchError, match="1 is missing"):
        abc.verify({name: tensor for name, tensor in named_tensors(tiny_model()).items() if name != "norm.bias"})


# One writer at a time.


def test_a_second_writer_waits_and_its_patience_ends(
    store: DeltaStore, other: TaskDelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor() as threads, FileLock(store.path / ".lock"):
        with monkeypatch.context() as patched:
            patched.setattr(store_module, "_PATIENCE_SECONDS", 0.05)
            with pytest.raises(OutputError, match=r"another process has been writing .* wait for it to end"):
                threads.submit(store.remove, "mrpc").result()
        waiting = threads.submit(store.add, other)
        time.sleep(0.2)
        assert not waiting.done() and store.names == ("mrpc",)
    assert waiting.result().name == "rte"
    assert store.names == ("mrpc", "rte")


# Several processes, and processes that are killed at work.


def hidden(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.startswith(".")}


def race(works: list[Callable[[], object]], refusal: type[Exception] = OSError) -> list[int]:
    """The exit codes of processes that work at once."""
    return [exit_code(child) for child in [in_child(work, refusal) for work in works]]


def test_adding_at_once_loses_nothing(tmp_path: Path, delta: TaskDelta) -> None:
    store = DeltaStore(tmp_path / "store")

    def add(writer: int) -> None:
        for number in range(4):
            store.add(delta, name=f"w{writer}-{number}")

    assert race([partial(add, writer) for writer in range(WRITERS)]) == [0] * WRITERS
    assert len(store.verify().intact) == 4 * WRITERS == len(store)
    assert hidden(store.path) == {".lock"}


def test_of_those_that_want_one_name_or_another_base_at_once_one_gets_it(tmp_path: Path, base: nn.Module) -> None:
    store = DeltaStore(tmp_path / "names")
    deltas = [named(base, f"task{writer}") for writer in range(WRITERS)]
    codes = race([partial(store.add, one, name=("same", "Same")[i % 2]) for i, one in enumerate(deltas)], OutputError)
    assert sorted(codes) == [0, 3, 3, 3]
    assert store[store.names[0]] == deltas[codes.index(0)]
    deltas = [named(tiny_model(seed=writer % 2), f"task{writer}") for writer in range(WRITERS)]
    for attempt in range(4):
        store = DeltaStore(tmp_path / f"bases{attempt}")
        assert sorted(race([partial(store.add, one) for one in deltas], BaseMismatchError)) == [0, 0, 3, 3]
        assert len(store.verify().intact) == 2 == len(store)


def test_overwriting_at_once_leaves_one_whole_delta_and_never_disturbs_a_reader(
    tmp_path: Path, base: nn.Module, delta: TaskDelta
) -> None:
    store = DeltaStore(tmp_path / "store")
    deltas = [delta, named(base, "one"), named(base, "two")]
    store.add(delta, name="x")

    def overwrite(one: TaskDelta) -> None:
        for _ in range(10):
            store.add(one, name="x", overwrite=True)

    children = [in_child(partial(overwrite, one)) for one in deltas[1:]]
    for _ in range(30):
        listing = store.list()
        assert len(listing.deltas) == 1 and not listing.faults
        assert store["x"] in deltas
    assert [exit_code(child) for child in children] == [0, 0]
    assert store["x"] in deltas[1:] and store.verify().faults == ()


def killed(work: Callable[[], object], moment: int) -> bool:
    """Do the work in a process that dies before its so many-th call of the system; False if there was no such call."""

    def until() -> None:
        calls = iter(range(1, 10_000))

        def dying(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                if next(calls) == moment:
                    os._exit(9)
                return real(*arguments, **options)

            return call

        for name in ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir"):
            setattr(os, name, dying(getattr(os, name)))
        work()

    code = exit_code(in_child(until))
    assert code in (0, 9)
    return code == 9


BEFORE = {"mrpc": "mrpc", "x": "old"}


@pytest.mark.parametrize(
    ("name", "options", "allowed"),
    [
        ("x", {"name": "x"}, [{}, {"x": "new"}]),  # the first
        ("y", {"name": "y"}, [BEFORE, {**BEFORE, "y": "new"}]),  # and sweeping what others left who were killed
        ("x", {"name": "x", "overwrite": True}, [BEFORE, {**BEFORE, "x": "new"}]),
        ("x", None, [BEFORE, {"mrpc": "mrpc"}]),  # removing
    ],
)
def test_a_kill_at_any_moment_leaves_the_store_readable(
    tmp_path: Path, base: nn.Module, name: str, options: dict[str, Any] | None, allowed: list[dict[str, str]]
) -> None:
    deltas = {task: named(base, task) for task in ("mrpc", "old", "new")}
    is_first, before = allowed[0] == {}, tmp_path / "before"
    if not is_first:
        DeltaStore(before).add(deltas["mrpc"])
        DeltaStore(before).add(deltas["old"], name="x")
    if name == "y":
        for end in ("new", "old"):
            deltas["old"].save(before / f".y.0123456789abcdef.{end}")
    for moment in count(1):
        store = DeltaStore(tmp_path / str(moment))
        if not is_first:
            shutil.copytree(before, store.path)
        act = partial(store.remove, name) if options is None else partial(store.add, deltas["new"], **options)
        if not killed(act, moment):
            break
        try:
            found = {name: store[name] for name in store.names}
        except DeltaFormatError:
            assert is_first and not (store.path / "store.json").exists()
            found = {}
        assert found in [{name: deltas[task] for name, task in state.items()} for state in allowed]
        assert is_first or store.list().strangers == ()  # no half-made folder holds a name
        # The next writer is not hindered, and clears up.
        store.add(deltas["old"], name="next")
        assert store["next"] == deltas["old"] and store.verify().faults == ()
        assert hidden(store.path) == {".lock"}
        shutil.rmtree(store.path)
    assert moment > 8
    assert not any(".new" in name or ".old" in name for name in contents(store.path))
