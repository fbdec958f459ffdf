"""Figure 10: how far fine-tuning goes, over the number of its steps."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from supermask.report.figures.style import MUTED, key, new_figure, say_missing, series_colour, series_marker, tidy
from supermask.report.observation import display_name, observe, subset_note
from supermask.report.results import StudyResults
from supermask.report.tables.table2 import attention_matrices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DistancePoint", "distance_points", "draw_distances"]


@final
@dataclass(frozen=True, kw_only=True)
class DistancePoint:
    """One arm on one task: distances from the base, over the self-attention matrices of all blocks and all seeds.

    Args:
        task: the runs'.
        arm: of the study.
        label: of the arm.
        steps: optimizer steps, the mean over the seeds.
        angular: mean angle between θ and θ̃, in units of π.
        angular_lowest: of the matrices.
        angular_highest: of the matrices.
        l1: mean of ‖θ - θ̃‖₁ / √n.
        l1_lowest: of the matrices.
        l1_highest: of the matrices.
        seeds: how many.
        is_subset: whether the task's data are a part of the official ones.
    """

    task: str
    arm: str
    label: str
    steps: float
    angular: float
    angular_lowest: float
    angular_highest: float
    l1: float
    l1_lowest: float
    l1_highest: float
    seeds: int
    is_subset: bool


def distance_points(results: StudyResults) -> tuple[DistancePoint, ...]:
    """Steps and distances of every arm on every task that was measured.

    Args:
        results: of a study.
    """
    found = []
    for arm in results.study.arms:
        for task in results.study.tasks:
            measured = observe(results, arm.name, task).measured()
            matrices = [one for _, measures in measured for one in attention_matrices(measures)]
            angles = [one.angular for one in matrices if one.angular is not None]
            if not angles:
                continue
            lengths = [one.l1 for one in matrices]
            found.append(
                DistancePoint(
                    task=task,
                    arm=arm.name,
                    label=arm.label,
                    steps=statistics.fmean(cell.record.steps for cell, _ in measured if cell.record is not None),
                    angular=statistics.fmean(angles),
                    angular_lowest=min(angles),
                    angular_highest=max(angles),
                    l1=statistics.fmean(lengths),
                    l1_lowest=min(lengths),
                    l1_highest=max(lengths),
                    seeds=len(measured),
                    is_subset=subset_note(results, task) is not None,
                )
            )
    return tuple(found)


def draw_distances(points: Sequence[DistancePoint], tasks: Sequence[str]) -> Figure:
    """Angle above, L1 distance below, over the steps on a logarithmic axis; bars reach over the matrices.

    Args:
        points: of all tasks and arms; the first arm's are filled.
        tasks: in the order of their colours.
    """
    arms = list(dict.fromkeys((point.arm, point.label) for point in points))
    with new_figure(4.1) as figure:
        above, below = figure.subplots(2, 1, sharex=True)
        if not points:
            say_missing(above, "nothing measured")
            say_missing(below, "nothing measured")
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
        ticks = [
            tick
            for tick in (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
            if min(steps) / 2 < tick < 2 * max(steps)
        ]
        below.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        below.minorticks_off()
        below.set_xlabel("optimizer steps")
        handles, labels = above.get_legend_handles_labels()
        once = dict(zip(labels, handles, strict=True))
        figure.legend(list(once.values()), list(once), loc="outside upper left", ncols=4)
        looks = ("full", "none")
        key(
            figure,
            [
                (text, {"marker": "o", "linestyle": "none", "fillstyle": look})
                for (_, text), look in zip(arms, looks, strict=False)
            ]
            + [("smallest to largest matrix", {"linestyle": "-", "linewidth": 0.7})],
            columns=1,
        )
    return figure


def _point(axes: Axes, point: DistancePoint, measure: str, index: int, *, filled: bool) -> None:
    value, low, high = (getattr(point, f"{measure}{end}") for end in ("", "_lowest", "_highest"))
    colour = series_colour(index)
    axes.vlines(point.steps, low, high, color=MUTED, linewidth=0.6, zorder=2)
    axes.plot(
        [point.steps],
        [value],
        linestyle="none",
        marker=series_marker(index),
        color=colour,
        markersize=5,
        fillstyle="full" if filled else "none",
        label=display_name(point.task) + (" (subset)" if point.is_subset else "") if filled else "_",
        zorder=3,
    )
