"""Where the delta is that a verb was given."""

from __future__ import annotations

from pathlib import Path

from supermask.hub import resolve_delta

__all__ = ["delta_path"]


def delta_path(given: str) -> Path:
    """The delta's own folder or file, where the folder of a run or a place on the hub may be given instead.

    Raises:
        SupermaskError: if there is none, or it cannot be fetched from the hub.
    """
    folder = Path(given)
    inside = folder / "delta"
    if inside.is_dir() and not (folder / "delta.safetensors").exists():
        return inside
    return resolve_delta(given)
