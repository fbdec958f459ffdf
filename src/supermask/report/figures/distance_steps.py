"""Figure 10: how far fine-tuning goes, over the number of its steps."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from supermask.report.drawing import MUTED, key, new_figure, say_missing, series_look, tidy
from supermask.report.figures.figure import Plot
from supermask.report.results import StudyResults
from supermask.report.tables.distances import attention_matrices
from supermask.report.wording import display_name, task_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DISTANCE_OVER_STEPS", "DistancePoint", "distance_points"]

_TICKS = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)


@final
@dataclass(frozen=True)
class DistancePoint:
    """One arm on one task: distances from the base, over the self-attention matrices of all blocks and all seeds."""

    task: str
    arm: str
    label: str
    steps: float  # mean over the seeds
    angular: float  # mean angle between θ and θ̃, in units of π
    angular_lowest: float
    angular_highest: float
    l1: float  # mean of ‖θ - θ̃‖₁ / √n
    l1_lowest: float
    l1_highest: float
    seeds: int
    is_subset: bool  # whether the task's data are a part of the official ones


def distance_points(results: StudyResults) -> Iterator[DistancePoint]:
    """Steps and distances of every arm on every task that was measured."""
    for arm in results.study.arms:
        for seen in results.over_tasks(arm.name):
            matrices = attention_matrices([seen])
            angles, lengths = [one.angular for one in matrices if one.angular is not None], [one.l1 for one in matrices]
            if angles:
                steps = statistics.fmean(cell.record.steps for cell, _ in seen.measured() if cell.record is not None)
                angular, l1 = ((statistics.fmean(values), min(values), max(values)) for values in (angles, lengths))
                subset = results.subset(seen.task) is not None
                yield DistancePoint(seen.task, arm.name, arm.label, steps, *angular, *l1, len(seen.measured()), subset)


def _in_words(points: Sequence[DistancePoint]) -> Iterator[str]:
    if points:
        told = (f"{display_name(point.task)} {point.steps:,.0f} steps, {point.angular:.4f}" for point in points)
        yield f"Mean angle in units of π: {'; '.join(told)}"


def _draw(points: Sequence[DistancePoint], tasks: Sequence[str]) -> Figure:
    """Angle above, L1 distance below, over the steps on a logarithmic axis; the first arm's markers are filled."""
    arms = list(dict.fromkeys((point.arm, point.label) for point in points))
    with new_figure(4.1) as figure:
        above, below = figure.subplots(2, 1, sharex=True)
        if not points:
            say_missing(above, below, text="nothing measured")
            return figure
        for axes, measure, label in ((above, "angular", "angle / π"), (below, "l1", "L1 distance / √n")):
            tidy(axes)
            axes.set_xscale("log")
            for point in points:
                _point(axes, point, measure, tasks.index(point.task), filled=point.arm == arms[0][0])
            axes.set_ylim(bottom=0)
            axes.margins(x=0.1)
            axes.set_ylabel(label)
        steps = [point.steps for point in points]
        ticks = [tick for tick in _TICKS if min(steps) / 2 < tick < 2 * max(steps)]
        below.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        below.minorticks_off()
        below.set_xlabel("optimizer steps")
        handles, labels = above.get_legend_handles_labels()
        once = dict(zip(labels, handles, strict=True))
        figure.legend(list(once.values()), list(once), loc="outside upper left", ncols=4)
        looks = zip(arms, ("full", "none"), strict=False)
        signs = [(text, {"marker": "o", "linestyle": "none", "fillstyle": look}) for (_, text), look in looks]
        key(figure, [*signs, ("smallest to largest matrix", {"linestyle": "-", "linewidth": 0.7})], columns=1)
    return figure


def _point(axes: Axes, point: DistancePoint, measure: str, index: int, *, filled: bool) -> None:
    value, low, high = (getattr(point, f"{measure}{end}") for end in ("", "_lowest", "_highest"))
    axes.vlines(point.steps, low, high, color=MUTED, linewidth=0.6, zorder=2)
    axes.plot(
        [point.steps],
        [value],
        **{**series_look(index, hollow=not filled), "linestyle": "none"},
        markersize=5,
        label=task_label(point.task, subset=point.is_subset) if filled else "_",
        zorder=3,
    )


DISTANCE_OVER_STEPS: Final = Plot(
    points=distance_points,
    draw=_draw,
    measured=True,
    caption="Mean distance over the self-attention matrices, a marker a task; lines reach from the smallest to the "
    "largest matrix.",
    phrases=_in_words,
)
"""Figure 10."""
