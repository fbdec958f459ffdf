"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from supermask.errors import OutputError

__all__ = ["flush_folder", "sweep", "write_atomically", "write_through"]

_HOUR = 3600.0


def write_atomically(path: Path, *pieces: bytes) -> None:
    """Write a file beside its place, flush it to the disk, and move it there in one step.

    Whatever happens in between, a reader sees the old file or the new one; an error leaves no half-written file behind.

    Args:
        path: where the file goes; its folder is made if it is missing.
        pieces: the content, piece after piece.

    Raises:
        OutputError: if the file cannot be written: no permission, no space.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_through(partial, pieces)
            partial.replace(path)
            flush_folder(path.parent)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, ValueError) as error:  # a ValueError for names that no system knows
        raise OutputError(
            f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}; free some space, or choose "
            "another place that you may write to"
        ) from error


def write_through(place: Path, pieces: Iterable[bytes]) -> None:
    """Write a new file and wait until it is on the disk.

    Args:
        place: where; nothing may be there yet.
        pieces: the content, piece after piece.

    Raises:
        OSError: as the system says.
    """
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(path: Path) -> None:
    """Delete what killed writers of a file left beside it, an hour ago or earlier: what is younger may be at work.

    Args:
        path: of the file, as it was given to `write_atomically`.
    """
    litter = re.compile(re.escape(f".{path.name}.") + "[0-9a-f]{16}[.]part")
    for entry in path.parent.iterdir():
        if litter.fullmatch(entry.name):
            with contextlib.suppress(OSError):
                if time.time() - entry.stat().st_mtime > _HOUR:
                    entry.unlink()


def flush_folder(folder: Path) -> None:
    """Make renames last through a power cut; Windows cannot open folders and needs no such thing."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
