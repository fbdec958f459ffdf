"""Figures as files: whole or not at all, and the same bytes for the same figure."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supermask.atomic import write_atomically
from supermask.errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure_bytes", "save_figure"]

_FORMATS = ("png", "svg", "pdf")
# Left to itself, matplotlib writes the time and its own version into the file.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_PIXELS_PER_INCH = 200


def figure_bytes(figure: Figure, kind: str, *, transparent: bool = False) -> bytes:
    """A figure as the content of a file; the same figure gives the same bytes with the same matplotlib.

    Args:
        figure: what to write.
        kind: png, svg or pdf.
        transparent: leave the ground out, so that the page's shows through.

    Raises:
        ConfigurationError: if the kind is none of these.
    """
    if kind not in _FORMATS:
        raise ConfigurationError(f"a figure is written as {', '.join(_FORMATS)}; received {kind!r}")
    import matplotlib.style

    content = io.BytesIO()
    with matplotlib.style.context(["default", {"svg.hashsalt": "supermask", "svg.fonttype": "none"}]):
        figure.savefig(
            content, format=kind, dpi=_PIXELS_PER_INCH, metadata=_METADATA[kind], transparent=transparent or None
        )
    return content.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all; the name's ending says whether as PNG, SVG or PDF.

    Raises:
        ConfigurationError: if the ending is none of these.
        OutputError: if the file cannot be written.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in _FORMATS:
        raise ConfigurationError(
            f"{path}: a figure is written as {', '.join(_FORMATS)}; received the ending {path.suffix!r}"
        )
    write_atomically(path, figure_bytes(figure, kind))
