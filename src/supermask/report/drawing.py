"""How figures look and are written: one column wide, colours that colour-blind readers tell apart, the same bytes."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from supermask.atomic import write_atomically
from supermask.errors import ConfigurationError, MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    *("CELL_DARK", "CELL_LIGHT", "COLUMN_INCHES", "DASHED", "GRID", "INK", "MISSING", "MUTED", "SERIES"),
    *("figure_bytes", "key", "label_below", "new_figure", "panel_title", "require_matplotlib", "save_figure"),
    *("say_missing", "series_look", "tidy", "widen"),
]

COLUMN_INCHES: Final = 3.3
"""Width of one column of a two-column page."""

# Each of these is a colour of its own, so that a page can put its own in their place: see `supermask.report.html`.
INK: Final = "#1b1e23"
MUTED: Final = "#5e646e"
GRID: Final = "#dfe2e6"
MISSING: Final = "#b3261e"
CELL_DARK: Final = "#000000"
CELL_LIGHT: Final = "#ffffff"

SERIES: Final = ("#0067a8", "#c2500a", "#007a5a", "#a04387", "#8f6b00", "#3b3f9e", "#a3263a", "#4f6672")
"""Blue, vermilion, green, purple, ochre, indigo, red, slate: after Okabe and Ito, darkened to 4.5:1 on white."""

DASHED: Final = (0, (2, 1.5))
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "p")

_SETTINGS: Final[dict[str, Any]] = {
    "font.family": ["DejaVu Sans"],
    **dict.fromkeys(("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 7.0),
    "axes.titlesize": 7.5,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), MUTED),
    "grid.color": GRID,
    **dict.fromkeys(("grid.linewidth", "axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 2.5),
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "figure.facecolor": "#ffffff",
    "axes.facecolor": "none",
    "mathtext.default": "regular",
    "svg.fonttype": "none",
    "axes.unicode_minus": True,
}


def require_matplotlib() -> None:
    """Raise MissingDependencyError if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingDependencyError("figures need matplotlib; install it: pip install 'supermask[figures]'") from None


@contextlib.contextmanager
def new_figure(height_inches: float) -> Iterator[Figure]:
    """A figure one column wide; what is drawn inside the `with` block has the house's look."""
    require_matplotlib()
    import matplotlib.style
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Not the reader's own matplotlibrc: the same records give the same figure everywhere.
    with matplotlib.style.context(["default", _SETTINGS]):
        layout = ConstrainedLayoutEngine(w_pad=2 / 72, h_pad=2 / 72, wspace=0.03, hspace=0.03)
        yield Figure(figsize=(COLUMN_INCHES, height_inches), layout=layout)


def tidy(axes: Axes, *, grid: Literal["x", "y", "both"] = "y") -> None:
    """Take away what carries no information, and put a faint grid behind the rest."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, axis=grid)
    axes.set_axisbelow(True)


def panel_title(axes: Axes, text: str, *, note: str = "") -> None:
    """A panel's title, flush left, and flush right a quieter note."""
    axes.set_title(text, loc="left", pad=3)
    if note:
        axes.set_title(note, loc="right", pad=3, color=MUTED, fontsize=7)


def label_below(axes: Axes, text: str, *, lowest: bool) -> None:
    """The horizontal axis' label and numbers, under the lowest panel of a column alone."""
    if lowest:
        axes.set_xlabel(text)
    else:
        axes.tick_params(labelbottom=False)


def widen(axes: Axes, least: float, *, highest: float) -> None:
    """Let the vertical axis span at least so much, so that a small difference does not look large."""
    low, high = axes.get_ylim()
    missing = least - (high - low)
    if missing > 0:
        low, high = low - missing / 2, high + missing / 2
    if high > highest:
        low, high = max(0.0, low - (high - highest)) if missing > 0 else low, highest
    axes.set_ylim(low, high)


def key(figure: Figure, signs: Sequence[tuple[str, Mapping[str, Any]]], *, columns: int = 2) -> None:
    """What signs mean, below everything: each a text and the look of a line, as matplotlib's `Line2D` takes it."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **{"color": MUTED, **look}) for _, look in signs]
    figure.legend(handles, [text for text, _ in signs], loc="outside lower left", ncols=columns, labelcolor=INK)


def say_missing(*panels: Axes, text: str = "not recorded") -> None:
    """Leave panels empty, visibly: their frames stay, and they say why."""
    for axes in panels:
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MISSING, style="italic")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_linestyle((0, (3, 3)))


def series_look(index: int, *, hollow: bool = False) -> dict[str, Any]:
    """The n-th series: a colour and a marker, so that colour is never the only sign; hollow for thresholded masks."""
    look = {"color": SERIES[index % len(SERIES)], "marker": _MARKERS[index % len(_MARKERS)]}
    return {**look, "fillstyle": "none" if hollow else "full", "linestyle": DASHED if hollow else "-"}


# Left to itself, matplotlib writes the time and its own version into the file.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_PIXELS_PER_INCH = 200
_CLIP = re.compile(rb"\bp[0-9a-f]{10}\b")


def figure_bytes(figure: Figure, kind: str, *, transparent: bool = False) -> bytes:
    """A figure as a png, svg or pdf file, if transparent without its ground; the same figure gives the same bytes."""
    import matplotlib.style

    content = io.BytesIO()
    with matplotlib.style.context(["default", {"svg.hashsalt": "supermask", "svg.fonttype": "none"}]):
        figure.savefig(
            content, format=kind, dpi=_PIXELS_PER_INCH, metadata=_METADATA[kind], transparent=transparent or None
        )
    written = content.getvalue()
    if kind != "svg":
        return written
    # Clip paths are named after coordinates to the last bit, which the layout's solver does not always reproduce.
    names: dict[bytes, bytes] = {}
    return _CLIP.sub(lambda found: names.setdefault(found[0], b"clip%d" % len(names)), written)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all; the name's ending says whether as PNG, SVG or PDF.

    Raises:
        ConfigurationError: if the ending is none of these.
        OutputError: if the file cannot be written.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in _METADATA:
        known = ", ".join(_METADATA)
        raise ConfigurationError(f"{path}: a figure is written as {known}; received the ending {path.suffix!r}")
    write_atomically(path, figure_bytes(figure, kind))
