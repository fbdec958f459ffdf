"""Figure 9: the sparsity that a supermask starts with and the one it ends with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, final

from supermask.analysis import sampled_sparsity
from supermask.methods import Supermask
from supermask.report.drawing import DASHED, MUTED, key, new_figure, say_missing, series_look, tidy
from supermask.report.figures.figure import Plot
from supermask.report.results import Seeded, StudyResults
from supermask.report.wording import task_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SPARSITY_DRIFT", "DriftPoint", "drift_points"]

_DOTTED = (0, (1, 1.5))


@final
@dataclass(frozen=True)
class DriftPoint:
    """One supermask, the mean over its seeds."""

    task: str
    arm: str
    mask: Literal["sampled", "thresholded"]  # zeros expected in a draw, or those of the thresholded mask
    initial_percent: float
    final_percent: float
    change_points: float
    seeds: int
    seed_sd: float | None  # of the final zeros
    is_subset: bool  # whether the task's data are a part of the official ones


def drift_points(results: StudyResults) -> Iterator[DriftPoint]:
    """Initial and final zeros of every supermask of a study, by rising initial sparsity.

    The expected zeros of a draw before training are l·σ(ν) + (1-l)·(1-σ(ν)) with the initial sparsity l and ν =
    `init_logit`.
    """
    methods = {arm.name: arm.parsed_method for arm in results.study.arms}
    masks = {name: method for name, method in methods.items() if isinstance(method, Supermask)}
    for task in results.study.tasks:
        subset = results.subset(task) is not None
        for name, method in sorted(masks.items(), key=lambda pair: pair[1].initial_sparsity):
            seen, start = results.observe(name, task), method.initial_sparsity
            drawn = sampled_sparsity(start, init_logit=method.init_logit, certain=False)
            ends: dict[Literal["sampled", "thresholded"], tuple[float, Seeded | None]] = {
                "sampled": (100 * drawn, seen.sampled_sparsity()),
                "thresholded": (100 * start, seen.sparsity()),
            }
            for mask, (initial, end) in ends.items():
                if end is not None:
                    change, seeds = end.mean - initial, len(end.values)
                    yield DriftPoint(task, name, mask, initial, end.mean, change, seeds, end.sd, subset)


def _in_words(points: Sequence[DriftPoint]) -> Iterator[str]:
    changes = [point.change_points for point in points if point.mask == "thresholded" and point.change_points]
    sparser = sum(change > 0 for change in changes)
    if points:
        yield (
            f"Of {len(changes)} thresholded masks that changed, {sparser} got sparser and "
            f"{len(changes) - sparser} denser"
        )


def _draw(points: Sequence[DriftPoint], tasks: Sequence[str]) -> Figure:
    """Above, final over initial zeros, as in the paper; below, the change, as it is small beside the whole scale."""
    with new_figure(4.5) as figure:
        above, below = figure.subplots(2, 1, height_ratios=[1.25, 1.0], sharex=True)
        if not points:
            say_missing(above, below)
            return figure
        above.plot([0, 100], [0, 100], color=MUTED, linewidth=0.8, linestyle=_DOTTED, zorder=1)
        below.axhline(0, color=MUTED, linewidth=0.8, linestyle=_DOTTED, zorder=1)
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
        signs: list[tuple[str, dict[str, Any]]] = [
            ("expected in a draw", {"marker": "o"}),
            ("thresholded mask", {"marker": "o", "fillstyle": "none", "linestyle": DASHED}),
            ("no change", {"linestyle": _DOTTED, "linewidth": 0.8}),
        ]
        key(figure, signs)
    return figure


def _line(axes: Axes, line: Sequence[DriftPoint], values: Sequence[float], index: int, *, label: bool) -> None:
    if line:
        hollow = line[0].mask == "thresholded"
        axes.plot(
            [point.initial_percent for point in line],
            values,
            **series_look(index, hollow=hollow),
            linewidth=0.8 if hollow else 1.2,
            label=task_label(line[0].task, subset=line[0].is_subset) if label else None,
        )


SPARSITY_DRIFT: Final = Plot(
    points=drift_points,
    draw=_draw,
    caption="Zeros before and after training, above on the whole scale, below as the change. Filled: expected in a "
    "draw, where an untouched mask starts at 0.67 %. Hollow: thresholded.",
    phrases=_in_words,
)
"""Figure 9."""
