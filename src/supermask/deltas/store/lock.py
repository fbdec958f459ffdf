"""One writer at a time in a store, across processes; readers need no leave."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from supermask.errors import OutputError

__all__ = ["LOCK_FILE", "locked"]

LOCK_FILE: Final = ".lock"
_PAUSE_SECONDS = 0.02


@contextmanager
def locked(folder: Path, *, patience_seconds: float = 60.0) -> Iterator[None]:
    """Hold the store's lock for the time of a `with` block.

    The system lets go of it when the process ends, however it ends. The file stays: taking it away would let two
    processes hold locks on two files of one name.

    Args:
        folder: the store.
        patience_seconds: how long to wait for another writer.

    Raises:
        OutputError: if the folder cannot be written to or locked, or another writer takes longer.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder)):
        ...     os.listdir(folder)
        ['.lock']
    """
    path = folder / LOCK_FILE
    try:
        # A link would let whoever made the folder choose which file is opened for writing.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise OutputError(
            f"{path}: the store cannot be locked for writing: {error.strerror}; choose a store that you may write to"
        ) from error
    try:
        deadline = time.monotonic() + patience_seconds
        while not _taken(descriptor, path):
            if time.monotonic() > deadline:
                raise OutputError(
                    f"{folder}: another process has been writing to this store for {patience_seconds:.0f} seconds; "
                    "wait for it to end, or end it"
                )
            time.sleep(_PAUSE_SECONDS)
        yield
    finally:
        os.close(descriptor)  # which also unlocks


def _taken(descriptor: int, path: Path) -> bool:
    """Take the lock if nobody has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        raise OutputError(
            f"{path}: this disk has no locks ({error.strerror}), so two writers could not be kept apart; "
            "keep the store on another disk"
        ) from error
    return True
