"""Locks: one process holds one, and a killed one lets it go."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from supermask.errors import OutputError
from supermask.study.orders import claimed, holders, is_claimed, lock_path

HOLD = "import sys, time, filelock as f; k = f.FileLock(sys.argv[1]); k.acquire(); print(1, flush=True); time.sleep(60)"


def test_one_process_holds_a_lock_and_a_killed_one_lets_it_go(tmp_path: Path) -> None:
    path = lock_path(tmp_path, "abc")
    path.parent.mkdir()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None and holder.stdout.readline()
        with claimed(path, {"run": "not this one"}) as ours:
            assert not ours
        assert is_claimed(path) and holders(tmp_path) == {"abc": {}}
        os.kill(holder.pid, signal.SIGKILL)
    assert not is_claimed(path) and holders(tmp_path) == {}
    with claimed(path, {"run": "mrpc/full-seed0"}) as ours:
        assert ours and is_claimed(path)
        assert holders(tmp_path) == {"abc": {"run": "mrpc/full-seed0"}}
    assert not is_claimed(path)


def test_a_lock_that_was_never_made_is_free_and_damaged_notes_are_no_trouble(tmp_path: Path) -> None:
    assert not is_claimed(lock_path(tmp_path, "never")) and holders(tmp_path / "nowhere") == {}
    path = lock_path(tmp_path, "a")
    with claimed(path):
        assert holders(tmp_path) == {"a": {}}
        for damaged in (b"[1]", b"\xff{"):
            path.with_suffix(".json").write_bytes(damaged)
            assert holders(tmp_path) == {"a": {}}


def test_a_place_that_cannot_be_locked_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "target").touch()
    (tmp_path / "link.lock").symlink_to(tmp_path / "target")
    for path in (tmp_path / "file" / "a.lock", tmp_path / "link.lock"):
        with pytest.raises(OutputError, match="cannot be locked: "), claimed(path):
            pass
        assert not is_claimed(path)
