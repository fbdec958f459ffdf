"""Who is at work on a run: a lock file a run, which the system lets go of when its holder ends, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from supermask.errors import OutputError

__all__ = ["LOCKS_FOLDER", "claimed", "holders", "is_claimed", "lock_path"]

LOCKS_FOLDER: Final = ".locks"
_LARGEST_NOTE: Final = 2**16


def lock_path(store: Path, address: str) -> Path:
    """The lock file of a run.

    Args:
        store: the folder of records, which all who work on it have in common.
        address: the run's content address.
    """
    return store / LOCKS_FOLDER / f"{address}.lock"


@contextlib.contextmanager
def claimed(path: Path, note: Mapping[str, Any] | None = None) -> Iterator[bool]:
    """Hold a lock for the time of a `with` block, if nobody else does.

    The file stays: taking it away would let two processes hold locks on two files of one name. A lock of a process that
    has died is free.

    Args:
        path: the lock file; its folder is made if it is missing.
        note: what others may read about the holder, as JSON.

    Yields:
        Whether the lock is held; False if another process has it.

    Raises:
        OutputError: if the file cannot be made or the disk has no locks.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, claimed(Path(folder) / "a.lock") as ours:
        ...     ours, is_claimed(Path(folder) / "a.lock")
        (True, True)
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be made: {error.strerror}; choose a results folder that you may write to"
        ) from error
    try:
        held = _take(descriptor, path)
        if held:
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, json.dumps(dict(note or {})).encode())
        yield held
        if held:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)  # which also unlocks


def is_claimed(path: Path) -> bool:
    """Whether a living process holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _take(descriptor, path)
    finally:
        os.close(descriptor)


def holders(store: Path) -> dict[str, dict[str, Any]]:
    """The runs that are being worked on: content address to what the holder noted."""
    found = {}
    for path in sorted((store / LOCKS_FOLDER).glob("*.lock")):
        if is_claimed(path):
            try:
                note = json.loads(path.read_bytes()[:_LARGEST_NOTE] or b"{}")
            except (OSError, ValueError):
                note = {}
            found[path.stem] = note if isinstance(note, dict) else {}
    return found


def _take(descriptor: int, path: Path) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 2**30, os.SEEK_SET)  # a byte behind the note, so that the note can be read
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        raise OutputError(
            f"{path}: this disk has no locks ({error.strerror}), so two workers could not be kept apart; keep the "
            "results on another disk"
        ) from error
    return True
