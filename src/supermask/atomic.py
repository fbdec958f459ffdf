"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from supermask.errors import OutputError

__all__ = ["write_atomically"]


def write_atomically(path: Path, *pieces: bytes | memoryview) -> None:
    """Write a file beside its place, flush it to the disk, and move it there in one step.

    Whatever happens in between, a reader sees the old file or the new one, and no half-written file is left behind.

    Args:
        path: where the file goes; its folder is made if it is missing.
        pieces: the content, piece after piece.

    Raises:
        OutputError: if the file cannot be written: no permission, no space.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp gives only the owner access; a result is as readable as any file the user makes.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        os.replace(temporary, path)  # noqa: PTH105 (the call whose atomicity this function is about)
        temporary = None
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{path}: cannot be written: {reason}; free some space, or choose another place that you may write to"
        ) from error
    finally:
        # Not for errors of the disk alone: an interrupt must not leave half a file behind either.
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
