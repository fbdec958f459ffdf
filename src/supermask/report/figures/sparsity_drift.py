"""Figure 9: the sparsity that a supermask starts with and the one it ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

from supermask.analysis import sampled_sparsity
from supermask.methods import Supermask, method_from_description
from supermask.report.figures.style import (
    MUTED,
    key,
    new_figure,
    say_missing,
    series_colour,
    series_marker,
    tidy,
)
from supermask.report.observation import Seeded, display_name, observe, subset_note
from supermask.report.results import StudyResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DriftPoint", "draw_drift", "drift_points"]


@final
@dataclass(frozen=True, kw_only=True)
class DriftPoint:
    """One supermask, the mean over its seeds.

    Args:
        task: the runs'.
        arm: of the study.
        mask: whether zeros are those of the thresholded mask or expected in a draw.
        initial_percent: zeros before training.
        final_percent: zeros after training.
        change_points: final less initial.
        seeds: how many.
        seed_sd: standard deviation of the final zeros over them.
        is_subset: whether the task's data are a part of the official ones.
    """

    task: str
    arm: str
    mask: Literal["sampled", "thresholded"]
    initial_percent: float
    final_percent: float
    change_points: float
    seeds: int
    seed_sd: float | None
    is_subset: bool


def drift_points(results: StudyResults) -> tuple[DriftPoint, ...]:
    """Initial and final zeros of every supermask of a study, by rising initial sparsity.

    The expected zeros of a draw before training are l·σ(ν) + (1-l)·(1-σ(ν)) with the initial sparsity l and ν =
    `init_logit`.

    Args:
        results: of the study.
    """
    found = []
    arms = [(arm.name, method_from_description(arm.method)) for arm in results.study.arms]
    supermasks = [(name, method) for name, method in arms if isinstance(method, Supermask)]
    for task in results.study.tasks:
        for name, method in sorted(supermasks, key=lambda pair: pair[1].initial_sparsity):
            seen = observe(results, name, task)
            start = method.initial_sparsity
            drawn = sampled_sparsity(start, init_logit=method.init_logit, certain=False)
            subset = subset_note(results, task) is not None
            found += _point(task, name, "sampled", 100 * drawn, seen.sampled_sparsity(), subset)
            found += _point(task, name, "thresholded", 100 * start, seen.sparsity(), subset)
    return tuple(found)


def _point(
    task: str,
    arm: str,
    mask: Literal["sampled", "thresholded"],
    initial: float,
    final: Seeded | None,
    subset: bool,
) -> list[DriftPoint]:
    if final is None:
        return []
    return [
        DriftPoint(
            task=task,
            arm=arm,
            mask=mask,
            initial_percent=initial,
            final_percent=final.mean,
            change_points=final.mean - initial,
            seeds=len(final.values),
            seed_sd=final.sd,
            is_subset=subset,
        )
    ]


def draw_drift(points: Sequence[DriftPoint], tasks: Sequence[str]) -> Figure:
    """Above, final over initial zeros, as in the paper; below, the change, as it is small beside the whole scale.

    Args:
        points: of all tasks.
        tasks: in the order of their colours.
    """
    with new_figure(4.5) as figure:
        above, below = figure.subplots(2, 1, height_ratios=[1.25, 1.0], sharex=True)
        if not points:
            say_missing(above)
            say_missing(below)
            return figure
        above.plot([0, 100], [0, 100], color=MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1)
        below.axhline(0, color=MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1)
        for index, task in enumerate(tasks):
            for mask in ("sampled", "thresholded"):
                line = [point for point in points if point.task == task and point.mask == mask]
                _line(above, line, [point.final_percent for point in line], index, label=mask == "sampled")
                _line(below, line, [point.change_points for point in line], index, label=False)
        for axes in (above, below):
            tidy(axes)
            axes.set_xlim(-3, 100)
        above.set_ylim(-3, 100)
        above.set_ylabel("final zeros, %")
        below.set_ylabel("change, points")
        below.set_xlabel("initial zeros, %")
        figure.legend(*above.get_legend_handles_labels(), loc="outside upper left", ncols=4)
        key(
            figure,
            [
                ("expected in a draw", {"marker": "o"}),
                ("thresholded mask", {"marker": "o", "fillstyle": "none", "linestyle": (0, (2, 1.5))}),
                ("no change", {"linestyle": (0, (1, 1.5)), "linewidth": 0.8}),
            ],
        )
    return figure


def _line(axes: Axes, line: Sequence[DriftPoint], values: Sequence[float], index: int, *, label: bool) -> None:
    if not line:
        return
    hollow = line[0].mask == "thresholded"
    name = display_name(line[0].task) + (" (subset)" if line[0].is_subset else "")
    axes.plot(
        [point.initial_percent for point in line],
        values,
        color=series_colour(index),
        marker=series_marker(index),
        fillstyle="none" if hollow else "full",
        linestyle=(0, (2, 1.5)) if hollow else "-",
        linewidth=0.8 if hollow else 1.2,
        label=name if label else None,
    )
