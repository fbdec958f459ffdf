"""Figure 5: how large the weights are that a supermask zeroes, and those that magnitude pruning would zero."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, final

from supermask.analysis import MAGNITUDE_BINS, Magnitudes
from supermask.errors import DataError
from supermask.report.drawing import MUTED, SERIES, key, label_below, new_figure, panel_title, say_missing, tidy
from supermask.report.figures.figure import Plot
from supermask.report.results import StudyResults
from supermask.report.wording import display_name, task_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PRUNED_MAGNITUDES", "MagnitudePoint"]

Drops = Literal["supermask", "magnitude pruning", "all masked weights"]
_LOOKS: Final[dict[Drops, tuple[str, dict[str, Any]]]] = {
    "all masked weights": ("all masked weights", {"color": MUTED, "linewidth": 0.9, "linestyle": (0, (1, 1))}),
    "magnitude pruning": (
        "zeroed by magnitude pruning",
        {"color": SERIES[1], "linewidth": 1.1, "linestyle": (0, (4, 1.5))},
    ),
    "supermask": ("zeroed by the supermask", {"color": SERIES[0], "linewidth": 1.3, "linestyle": "-"}),
}


@final
@dataclass(frozen=True)
class MagnitudePoint:
    """One bin of a histogram of magnitudes |θ̃|, over all seeds."""

    task: str
    weights_of: Drops  # what the thresholded mask zeroes, as many that magnitude pruning would, or all that it might
    low: float  # edge of the bin; 0 for what lies below all edges
    high: float | None  # None for what lies above all edges
    weights: int
    percent: float
    percent_per_octave: float  # divided by the bin's width in octaves; what is drawn, as bins differ in width
    is_subset: bool  # whether the task's data are a part of the official ones


def _points(results: StudyResults) -> Iterator[MagnitudePoint]:
    """The histograms of every task, of the study's first arm with measured masks; magnitude pruning ranks globally."""
    for task in results.study.tasks:
        subset = results.subset(task) is not None
        of_arms = (results.observe(arm.name, task).measured() for arm in results.study.arms)
        of_masks = ([measures for _, measures in found if measures.zeroed] for found in of_arms)
        measured = next((found for found in of_masks if found), [])
        pruned = [one.against_magnitude("global") for one in measured]
        yield from _histogram(task, "all masked weights", [one.masked for one in measured], subset)
        yield from _histogram(task, "magnitude pruning", [one.pruned for one in pruned if one], subset)
        yield from _histogram(task, "supermask", [one.zeroed for one in measured], subset)


def _histogram(
    task: str, weights_of: Drops, parts: Sequence[Magnitudes | None], subset: bool
) -> Iterator[MagnitudePoint]:
    histograms = [part.histogram for part in parts if part is not None and part.weights]
    counts = [sum(column) for column in zip(*histograms, strict=True)]
    if counts and len(counts) != len(MAGNITUDE_BINS) + 1:
        raise DataError(
            f"the measures of {task} have histograms of {len(counts)} bins where there are {len(MAGNITUDE_BINS) + 1}; "
            "measure again: supermask study measure --again"
        )
    total = sum(counts)
    filled = [index for index, count in enumerate(counts) if count]
    edges = (0.0, *MAGNITUDE_BINS)
    for index in range(filled[0], filled[-1] + 1) if filled else ():
        # Bins below and above all edges have no width, and are drawn one octave wide.
        inside = 0 < index < len(MAGNITUDE_BINS)
        octaves = math.log2(MAGNITUDE_BINS[index] / MAGNITUDE_BINS[index - 1]) if inside else 1.0
        high = edges[index + 1] if index + 1 < len(edges) else None
        percent = 100 * counts[index] / total
        yield MagnitudePoint(task, weights_of, edges[index], high, counts[index], percent, percent / octaves, subset)


def _in_words(points: Sequence[MagnitudePoint]) -> Iterator[str]:
    if points:
        shown = ", ".join(sorted({display_name(point.task) for point in points}))
        yield f"Histograms of {shown}: magnitude pruning ends where supermasks hardly begin"


def _draw(points: Sequence[MagnitudePoint], tasks: Sequence[str]) -> Figure:
    """A panel a task: the share of weights per octave of magnitude."""
    rows = -(-len(tasks) // 2)
    with new_figure(1.05 * rows + 0.72) as figure:
        grid = figure.subplots(rows, 2, squeeze=False)
        for index, axes in enumerate(grid.flat):
            if index < len(tasks):
                own = [point for point in points if point.task == tasks[index]]
                _panel(axes, own, tasks[index], lowest=index >= len(tasks) - 2)
            else:
                axes.set_visible(False)
        if points:
            key(figure, [*_LOOKS.values()][::-1])
            figure.supylabel("weights per octave, %", fontsize=7)
    return figure


def _panel(axes: Axes, points: Sequence[MagnitudePoint], task: str, *, lowest: bool) -> None:
    panel_title(axes, task_label(task, subset=any(point.is_subset for point in points)))
    if not points:
        say_missing(axes, text="not measured")
        return
    tidy(axes)
    axes.set_xscale("log")
    for name, (_, look) in _LOOKS.items():
        line = [point for point in points if point.weights_of == name]
        if not line:
            continue
        # What lies below all edges, zeros among them, stands at the left end of a logarithmic axis.
        lows = [max(point.low, MAGNITUDE_BINS[0] / 2) for point in line]
        highs = [point.high or 2 * MAGNITUDE_BINS[-1] for point in line]
        axes.stairs([point.percent_per_octave for point in line], [*lows, highs[-1]], baseline=0, **look)
    axes.set_xlim(3e-6, 10)
    axes.set_xticks([1e-5, 1e-3, 1e-1, 10], ["10⁻⁵", "10⁻³", "0.1", "10"])
    axes.minorticks_off()
    label_below(axes, "weight magnitude", lowest=lowest)


PRUNED_MAGNITUDES: Final = Plot(
    points=_points,
    draw=_draw,
    measured=True,
    caption="How the magnitudes of zeroed weights are distributed: by the thresholded supermask, and by magnitude "
    "pruning of as many weights, all matrices ranked together. Dotted: all weights that could be zeroed, which is "
    "what zeros at random would show. Four bins an octave.",
    phrases=_in_words,
)
"""Figure 5."""
