"""Several processes at one store, and processes that are killed at work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from deltas.store.store_deltas import contents, exit_code, in_child, named
from deltas.tiny_deltas import tiny_model
from supermask.deltas import TaskDelta
from supermask.deltas.store import DeltaStore
from supermask.errors import BaseMismatchError, DeltaFormatError, OutputError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that start in this one's state")

WRITERS = 4


@pytest.fixture(scope="module")
def base() -> nn.Module:
    return tiny_model()


@pytest.fixture(scope="module")
def delta(base: nn.Module) -> TaskDelta:
    return named(base, "mrpc")


def hidden(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.startswith(".")}


def test_adding_at_once_loses_nothing(tmp_path: Path, delta: TaskDelta) -> None:
    store = DeltaStore(tmp_path / "store")

    def add(writer: int) -> None:
        for number in range(4):
            store.add(delta, name=f"w{writer}-{number}")

    children = [in_child(lambda writer=writer: add(writer)) for writer in range(WRITERS)]
    assert [exit_code(child) for child in children] == [0] * WRITERS
    assert len(store.verify().intact) == 4 * WRITERS == len(store)
    assert hidden(store.path) == {".lock"}


def test_of_many_that_want_one_name_one_gets_it(tmp_path: Path, base: nn.Module) -> None:
    store = DeltaStore(tmp_path / "store")
    deltas = [named(base, f"task{writer}") for writer in range(WRITERS)]
    names = ("same", "Same")
    children = [
        in_child(lambda writer=writer: store.add(deltas[writer], name=names[writer % 2]), OutputError)
        for writer in range(WRITERS)
    ]
    codes = [exit_code(child) for child in children]
    assert sorted(codes) == [0, 3, 3, 3]
    assert store[store.names[0]] == deltas[codes.index(0)]


def test_of_two_bases_that_come_first_at_once_one_is_the_stores(tmp_path: Path) -> None:
    deltas = [named(tiny_model(seed=writer % 2), f"task{writer}") for writer in range(WRITERS)]
    for attempt in range(4):
        store = DeltaStore(tmp_path / f"store{attempt}")
        children = [in_child(lambda store=store, one=one: store.add(one), BaseMismatchError) for one in deltas]
        codes = [exit_code(child) for child in children]
        assert sorted(codes) == [0, 0, 3, 3]
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

    children = [in_child(lambda one=one: overwrite(one)) for one in deltas[1:]]
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


@pytest.mark.parametrize("work", ["first", "second", "overwrite", "remove", "sweep"])
def test_a_kill_at_any_moment_leaves_the_store_readable(
    tmp_path: Path, base: nn.Module, delta: TaskDelta, work: str
) -> None:
    old, new = named(base, "old"), named(base, "new")
    before = tmp_path / "before"
    if work != "first":
        DeltaStore(before).add(delta)
        DeltaStore(before).add(old, name="x")
    if work == "sweep":
        old.save(before / ".y.0123456789abcdef.new")
        old.save(before / ".y.0123456789abcdef.old")
    moments = 0
    while True:
        moments += 1
        place = tmp_path / str(moments)
        store = DeltaStore(place)
        if work != "first":
            shutil.copytree(before, place)
        acts: dict[str, Callable[[], object]] = {
            "first": lambda store=store: store.add(new, name="x"),
            "second": lambda store=store: store.add(new, name="y"),
            "sweep": lambda store=store: store.add(new, name="y"),
            "overwrite": lambda store=store: store.add(new, name="x", overwrite=True),
            "remove": lambda store=store: store.remove("x"),
        }
        if not killed(acts[work], moments):
            break
        try:
            found = {name: store[name] for name in store.names}
        except DeltaFormatError:
            assert work == "first" and not (place / "store.json").exists()
            found = {}
        allowed: dict[str, list[dict[str, TaskDelta]]] = {
            "first": [{}, {"x": new}],
            "second": [{"mrpc": delta, "x": old}, {"mrpc": delta, "x": old, "y": new}],
            "sweep": [{"mrpc": delta, "x": old}, {"mrpc": delta, "x": old, "y": new}],
            "overwrite": [{"mrpc": delta, "x": old}, {"mrpc": delta, "x": new}],
            "remove": [{"mrpc": delta, "x": old}, {"mrpc": delta}],
        }
        assert found in allowed[work]
        assert work == "first" or store.list().strangers == ()  # no half-made folder holds a name
        # The next writer is not hindered, and clears up.
        store.add(old, name="next")
        assert store["next"] == old and store.verify().faults == ()
        assert hidden(place) == {".lock"}
        shutil.rmtree(place)
    assert moments > 8
    assert not any(".new" in name or ".old" in name for name in contents(tmp_path / str(moments)))
