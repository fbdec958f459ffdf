"""The paper's figures, drawn from records."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from supermask.errors import ConfigurationError
from supermask.report.drawing import figure_bytes, save_figure
from supermask.report.figures.by_block import distances_by_block, sparsity_by_block
from supermask.report.figures.distance_steps import distance_over_steps
from supermask.report.figures.figure import StudyFigure, points_csv, write_study_figure
from supermask.report.figures.overlap_grid import overlap_grid
from supermask.report.figures.pruned_magnitudes import pruned_magnitudes
from supermask.report.figures.scores import low_sparsity, score_over_sparsity
from supermask.report.figures.sparsity_drift import sparsity_drift
from supermask.report.results import StudyResults

__all__ = [
    "FIGURES",
    "StudyFigure",
    "figure_bytes",
    "points_csv",
    "save_figure",
    "study_figure",
    "write_study_figure",
]

FIGURES: Mapping[str, Callable[[StudyResults], StudyFigure]] = {
    "figure2": distances_by_block,
    "figure3": score_over_sparsity,
    "figure4": sparsity_by_block,
    "figure5": pruned_magnitudes,
    "figure6": low_sparsity,
    "figure7": overlap_grid,
    "figure8": score_over_sparsity,
    "figure9": sparsity_drift,
    "figure10": distance_over_steps,
}
"""The paper's figures by the name of their study."""


def study_figure(results: StudyResults) -> StudyFigure:
    """The figure of a study: the paper's where it is one of these, else scores over sparsity.

    Raises:
        ConfigurationError: if the study is a table.
    """
    if results.study.shows != "figure":
        name = results.study.name
        raise ConfigurationError(f"{name} is a table, not a figure; it is shown by: supermask study table {name}")
    return FIGURES.get(results.study.name, score_over_sparsity)(results)
