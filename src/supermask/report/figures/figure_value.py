"""A figure of a study as a value: what is plotted, in numbers and in words, and how to draw it."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from supermask.atomic import write_atomically
from supermask.report.figures.files import figure_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["StudyFigure", "points_csv", "write_study_figure"]


@final
@dataclass(frozen=True, kw_only=True)
class StudyFigure:
    """A figure before it is drawn.

    Args:
        name: the study's name.
        title: what it shows.
        caption: how to read it: what lines, points and bars are.
        alt: what there is to see, for those who cannot.
        points: what is plotted, frozen dataclasses of one class; the drawing has no other source.
        draw: draws them.
        records: paths of the records they came from, relative to their store.
        missing: what belongs into it and is not there, in words.
        notes: sentences to stand below it.
        command: what makes the records.
    """

    name: str
    title: str
    caption: str
    alt: str
    points: tuple[Any, ...]
    draw: Callable[[], Figure]
    records: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""


def points_csv(points: tuple[Any, ...]) -> str:
    """Plotted points as CSV: a column a field, a line a point; what is None is empty.

    Args:
        points: instances of one dataclass, or none.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if points:
        names = [field.name for field in dataclasses.fields(points[0])]
        writer.writerow(names)
        for point in points:
            writer.writerow([_plain(getattr(point, name)) for name in names])
    return text.getvalue()


def write_study_figure(figure: StudyFigure, folder: Path) -> tuple[Path, ...]:
    """Write a figure as SVG and PNG, and what it plots as CSV.

    Args:
        figure: the figure.
        folder: where to; it is made if it is missing.

    Returns:
        The three files.

    Raises:
        MissingDependencyError: if matplotlib is not installed.
        OutputError: if a file cannot be written.
    """
    drawn = figure.draw()
    contents = {
        "svg": figure_bytes(drawn, "svg"),
        "png": figure_bytes(drawn, "png"),
        "csv": points_csv(figure.points).encode(),
    }
    paths = tuple(folder / f"{figure.name}.{kind}" for kind in contents)
    for path, content in zip(paths, contents.values(), strict=True):
        write_atomically(path, content)
    return paths


def _plain(value: Any) -> Any:
    # repr gives the shortest text that reads back as the same number.
    return "" if value is None else repr(value) if isinstance(value, float) else value
