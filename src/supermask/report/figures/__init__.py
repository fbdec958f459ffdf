"""Figures: where a delta's zeros are, and the paper's figures drawn from records."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supermask.report.figures.figure_value import StudyFigure, points_csv, write_study_figure
    from supermask.report.figures.files import figure_bytes, save_figure
    from supermask.report.figures.study_figures import FIGURES, study_figure
    from supermask.report.figures.zeros import zeros_figure

# Imported when first used: `train` draws zeros and needs no study.
_HOMES = {
    "FIGURES": "study_figures",
    "StudyFigure": "figure_value",
    "figure_bytes": "files",
    "points_csv": "figure_value",
    "save_figure": "files",
    "study_figure": "study_figures",
    "write_study_figure": "figure_value",
    "zeros_figure": "zeros",
}

__all__ = [
    "FIGURES",
    "StudyFigure",
    "figure_bytes",
    "points_csv",
    "save_figure",
    "study_figure",
    "write_study_figure",
    "zeros_figure",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'supermask.report.figures' has no attribute {name!r}")
    return getattr(importlib.import_module(f"supermask.report.figures.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
