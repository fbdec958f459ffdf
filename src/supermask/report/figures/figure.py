"""A figure of a study as a value: what is plotted, in numbers and in words, and how to draw it."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from supermask.atomic import write_atomically
from supermask.report.drawing import figure_bytes
from supermask.report.results import StudyResults
from supermask.report.wording import closing_notes, missing_in_words, study_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["StudyFigure", "figure_of", "points_csv", "write_study_figure"]


@final
@dataclass(frozen=True, kw_only=True)
class StudyFigure:
    """A figure before it is drawn."""

    name: str  # of the study
    title: str
    caption: str  # how to read it: what lines, points and bars are
    alt: str  # what there is to see, for those who cannot
    points: tuple[Any, ...]  # what is plotted, frozen dataclasses of one class; the drawing has no other source
    draw: Callable[[], Figure]
    records: tuple[str, ...]  # paths of the records that the points came from, relative to their store
    missing: tuple[str, ...]  # what belongs into it and is not there, in words
    notes: tuple[str, ...]
    command: str  # what makes the records


def figure_of(
    results: StudyResults,
    points: tuple[Any, ...],
    draw: Callable[..., Figure],
    *,
    caption: str,
    phrases: Iterable[str],
    measured: bool = False,
    missing: Iterable[str] = (),
    notes: Iterable[str] = (),
) -> StudyFigure:
    """A study's figure, with what is missing and how to make that.

    Args:
        results, points, caption, notes: of the figure.
        draw: draws the points, given the study's tasks, too.
        phrases: what there is to see.
        measured: whether it is of measures, and not of records alone.
        missing: what is missing besides runs and their measures.
    """
    unmeasured = (cell for cell in results.cells if cell.record is not None and cell.measures is None)
    absent = [f"{phrase}, not measured" for phrase in missing_in_words(unmeasured)] if measured else []
    told = "; ".join(phrases)
    return StudyFigure(
        name=results.study.name,
        title=study_title(results.study),
        caption=caption,
        alt=f"{told}." if told else "No data.",
        points=points,
        draw=functools.partial(draw, points, results.study.tasks),
        records=results.paths,
        missing=(*missing_in_words(results.missing), *absent, *missing),
        notes=closing_notes(results, *notes),
        command=f"supermask study run {results.study.name}",
    )


def points_csv(points: tuple[Any, ...]) -> str:
    """Plotted points, instances of one dataclass, as CSV: a column a field, a line a point; what is None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if points:
        names = [field.name for field in dataclasses.fields(points[0])]
        writer.writerow(names)
        # repr gives the shortest text that reads back as the same number.
        for point in points:
            values = (getattr(point, name) for name in names)
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
