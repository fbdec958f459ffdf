from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from deltas.store.store_deltas import exit_code, in_child
from supermask.deltas.store.lock import LOCK_FILE, locked
from supermask.errors import OutputError


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with locked(tmp_path):
            order.append("second")

    with locked(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_patience_ends(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(OutputError, match=r"another process has been writing .* for 0 seconds"),
        locked(tmp_path, patience_seconds=0.05),
    ):
        pass
    with locked(tmp_path, patience_seconds=0.0):
        pass


def test_an_error_lets_go(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path, patience_seconds=0.0):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process that dies at a chosen moment")
def test_death_lets_go(tmp_path: Path) -> None:
    def die() -> None:
        with locked(tmp_path):
            os._exit(9)

    assert exit_code(in_child(die)) == 9
    with locked(tmp_path, patience_seconds=0.0):
        pass


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    store = tmp_path / "store"
    store.mkdir()
    (store / LOCK_FILE).symlink_to(precious)
    with pytest.raises(OutputError, match="cannot be locked"), locked(store):
        pass
    (store / LOCK_FILE).unlink()
    (store / LOCK_FILE).symlink_to(tmp_path / "made")
    with pytest.raises(OutputError, match="cannot be locked"), locked(store):
        pass
    assert precious.read_text() == "keep" and not (tmp_path / "made").exists()


def test_a_place_that_cannot_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="No such file or directory"), locked(tmp_path / "missing"):
        pass
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(OutputError, match="Is a directory"), locked(tmp_path):
        pass
    (tmp_path / LOCK_FILE).rmdir()
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(OutputError, match=r"this disk has no locks .* another disk"), locked(tmp_path):
        pass
