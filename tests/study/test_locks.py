from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from supermask.errors import OutputError
from supermask.study.locks import claimed, holders, is_claimed, lock_path

HOLD = """
import sys, time
from pathlib import Path
from supermask.study.locks import claimed
with claimed(Path(sys.argv[1]), {"run": "mrpc/full-seed0"}) as ours:
    print(ours, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock_path(tmp_path, "abc"))], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_process_holds_a_lock_and_a_killed_one_lets_it_go(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    path = lock_path(tmp_path, "abc")
    assert is_claimed(path)
    assert holders(tmp_path) == {"abc": {"run": "mrpc/full-seed0"}}
    with claimed(path) as ours:
        assert not ours
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert not is_claimed(path)
    assert holders(tmp_path) == {}
    with claimed(path) as ours:
        assert ours and is_claimed(path)
    assert not is_claimed(path)


def test_a_lock_that_was_never_made_is_free(tmp_path: Path) -> None:
    assert not is_claimed(lock_path(tmp_path, "never"))
    assert holders(tmp_path / "nowhere") == {}


def test_damaged_notes_are_no_trouble(tmp_path: Path) -> None:
    path = lock_path(tmp_path, "a")
    with claimed(path):
        path.write_bytes(b"[1]")
        assert holders(tmp_path) == {"a": {}}
        path.write_bytes(b"\xff{")
        assert holders(tmp_path) == {"a": {}}


def test_a_place_that_cannot_be_locked_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"), claimed(tmp_path / "file" / "a.lock"):
        pass
    target = tmp_path / "elsewhere"
    target.touch()
    (tmp_path / "link.lock").symlink_to(target)
    with pytest.raises(OutputError, match="cannot be made"), claimed(tmp_path / "link.lock"):
        pass
