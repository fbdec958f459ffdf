"""The paper's figures, drawn from records."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from supermask.errors import ConfigurationError
from supermask.report.figures.by_block import DISTANCES_BY_BLOCK, SPARSITY_BY_BLOCK
from supermask.report.figures.distance_steps import DISTANCE_OVER_STEPS
from supermask.report.figures.figure import Plot, StudyFigure, points_csv, write_study_figure
from supermask.report.figures.overlap_grid import OVERLAP_GRID
from supermask.report.figures.pruned_magnitudes import PRUNED_MAGNITUDES
from supermask.report.figures.scores import LOW_SPARSITY, SCORE_OVER_SPARSITY
from supermask.report.figures.sparsity_drift import SPARSITY_DRIFT
from supermask.report.results import StudyResults
from supermask.report.wording import frame, missing_in_words

__all__ = ["FIGURES", "StudyFigure", "points_csv", "study_figure", "write_study_figure"]

FIGURES: Mapping[str, Plot] = {
    "figure2": DISTANCES_BY_BLOCK,
    "figure3": SCORE_OVER_SPARSITY,
    "figure4": SPARSITY_BY_BLOCK,
    "figure5": PRUNED_MAGNITUDES,
    "figure6": LOW_SPARSITY,
    "figure7": OVERLAP_GRID,
    "figure8": SCORE_OVER_SPARSITY,
    "figure9": SPARSITY_DRIFT,
    "figure10": DISTANCE_OVER_STEPS,
}
"""The paper's figures by the name of their study."""


def study_figure(results: StudyResults) -> StudyFigure:
    """The figure of a study: the paper's where it is one of these, else scores over sparsity.

    Raises:
        ConfigurationError: if the study is a table.
    """
    name = results.study.name
    if results.study.shows != "figure":
        raise ConfigurationError(f"{name} is a table, not a figure; it is shown by: supermask study table {name}")
    plot = FIGURES.get(name, SCORE_OVER_SPARSITY)
    points = tuple(plot.points(results))
    unmeasured = (cell for cell in results.cells if plot.measured and cell.record and cell.measures is None)
    absent = [f"{phrase}, not measured" for phrase in missing_in_words(unmeasured)]
    told = "; ".join(plot.phrases(points))
    return StudyFigure(
        **frame(results, plot.notes(results, points), (*absent, *plot.missing(results, points))),
        caption=plot.caption,
        alt=f"{told}." if told else "No data.",
        points=points,
        draw=functools.partial(plot.draw, points, results.study.tasks),
        records=results.paths,
    )
