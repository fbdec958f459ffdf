"""A figure of a study: how it comes from records, and what is plotted, in numbers and in words."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from supermask.atomic import write_atomically
from supermask.report.drawing import figure_bytes
from supermask.report.results import StudyResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Plot", "StudyFigure", "points_csv", "write_study_figure"]


@final
@dataclass(frozen=True, kw_only=True)
class Plot:
    """How a figure comes from records."""

    points: Callable[[StudyResults], Iterable[Any]]  # frozen dataclasses of one class
    draw: Callable[[Sequence[Any], Sequence[str]], Figure]  # the points, given the study's tasks, too
    caption: str  # how to read it: what lines, points and bars are
    phrases: Callable[[Sequence[Any]], Iterable[str]]  # what there is to see
    measured: bool = False  # whether it is of measures, and not of records alone
    notes: Callable[[StudyResults, Sequence[Any]], Iterable[str]] = lambda results, points: ()
    missing: Callable[[StudyResults, Sequence[Any]], Iterable[str]] = lambda results, points: ()


@final
@dataclass(frozen=True, kw_only=True)
class StudyFigure:
    """A figure before it is drawn."""

    name: str  # of the study
    title: str
    caption: str
    alt: str  # what there is to see, for those who cannot
    points: tuple[Any, ...]  # what is plotted; the drawing has no other source
    draw: Callable[[], Figure]
    records: tuple[str, ...]  # paths of the records that the points came from, relative to their store
    missing: tuple[str, ...]  # what belongs into it and is not there, in words
    notes: tuple[str, ...]
    command: str  # what makes the records


def points_csv(points: tuple[Any, ...]) -> str:
    """Plotted points, instances of one dataclass, as CSV: a column a field, a line a point; what is None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if points:
        writer.writerow([field.name for field in dataclasses.fields(points[0])])
        # repr gives the shortest text that reads back as the same number.
        for values in map(dataclasses.astuple, points):
            writer.writerow(["" if v is None else repr(v) if isinstance(v, float) else v for v in values])
    return text.getvalue()


def write_study_figure(figure: StudyFigure, folder: Path) -> tuple[Path, ...]:
    """Write a figure as SVG and PNG, and what it plots as CSV: three files in a folder that is made if it is missing.

    Raises:
        MissingDependencyError: if matplotlib is not installed.
        OutputError: if a file cannot be written.
    """
    drawn = figure.draw()
    contents = {kind: figure_bytes(drawn, kind) for kind in ("svg", "png")}
    contents["csv"] = points_csv(figure.points).encode()
    paths = tuple(folder / f"{figure.name}.{kind}" for kind in contents)
    for path, content in zip(paths, contents.values(), strict=True):
        write_atomically(path, content)
    return paths
