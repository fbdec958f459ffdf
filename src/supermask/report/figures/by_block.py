"""What differs between blocks and between kinds of matrices: distances (Figure 2), sparsity (Figure 4)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, final

from supermask.report.figures.style import (
    MUTED,
    SERIES,
    new_figure,
    panel_title,
    say_missing,
    tidy,
)
from supermask.report.observation import Observation, display_name, observe, subset_note
from supermask.report.results import StudyResults
from supermask.study.measures import TensorMeasures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MATRIX_ROLES", "Measure", "PlacePoint", "draw_places", "place_points"]

Measure = Literal["l1", "angular", "sparsity"]

MATRIX_ROLES: Final = ("query", "key", "ffn_in", "value", "attention_output", "ffn_out")
"""The six matrices of a block: first those that the paper finds sparser, then the others."""

_LABELS = ("query", "key", "FFN in", "value", "attention output", "FFN out")
# Cool colours and filled markers for the first three, warm ones and hollow markers for the others.
_COLOURS = (SERIES[0], SERIES[5], SERIES[2], SERIES[1], SERIES[6], SERIES[4])
_MARKERS = ("o", "s", "^", "o", "s", "^")
_READ: dict[Measure, tuple[str, Callable[[TensorMeasures], float | None]]] = {
    "l1": ("L1 distance / √n", lambda tensor: tensor.l1),
    "angular": ("angle / π", lambda tensor: tensor.angular),
    "sparsity": ("zeros, %", lambda tensor: None if tensor.sparsity is None else 100 * tensor.sparsity),
}


_LARGE_INCHES = 1.45
_SMALL_INCHES = 0.86


@final
@dataclass(frozen=True, kw_only=True)
class PlacePoint:
    """One kind of matrix in one block.

    Args:
        task: the run's.
        arm: of the study.
        measure: `l1` is ‖θ - θ̃‖₁ / √n, `angular` the angle between θ and θ̃ in units of π, `sparsity` the percentage of
            zeros of the thresholded mask.
        role: which matrix.
        block: which block, from the input and from 0.
        value: mean over the seeds.
        lowest: over the seeds.
        highest: over the seeds.
        seeds: how many.
        is_subset: whether the task's data are a part of the official ones.
    """

    task: str
    arm: str
    measure: Measure
    role: str
    block: int
    value: float
    lowest: float
    highest: float
    seeds: int
    is_subset: bool


def place_points(results: StudyResults, measures: Sequence[Measure]) -> tuple[PlacePoint, ...]:
    """Values by matrix and block of every task, of the first arm that was measured on it.

    Args:
        results: of a study.
        measures: which values.
    """
    found = []
    for task in results.study.tasks:
        seen = next(
            (one for one in (observe(results, arm.name, task) for arm in results.study.arms) if one.measured()), None
        )
        if seen is not None:
            for measure in measures:
                found += _points(seen, measure, subset_note(results, task) is not None)
    return tuple(found)


def _points(seen: Observation, measure: Measure, subset: bool) -> list[PlacePoint]:
    values: dict[tuple[str, int], list[float]] = {}
    for _, measures in seen.measured():
        for tensor in measures.tensors:
            if tensor.role in MATRIX_ROLES and tensor.block is not None and len(tensor.shape) > 1:
                value = _READ[measure][1](tensor)
                if value is not None:
                    values.setdefault((tensor.role, tensor.block), []).append(value)
    order = sorted(values, key=lambda place: (MATRIX_ROLES.index(place[0]), place[1]))
    return [
        PlacePoint(
            task=seen.task,
            arm=seen.arm,
            measure=measure,
            role=role,
            block=block,
            value=statistics.fmean(values[role, block]),
            lowest=min(values[role, block]),
            highest=max(values[role, block]),
            seeds=len(values[role, block]),
            is_subset=subset,
        )
        for role, block in order
    ]


def draw_places(points: Sequence[PlacePoint], measures: Sequence[Measure]) -> Figure:
    """A panel a task and measure: blocks across, a line for each kind of matrix.

    The first task with points stands large, as the paper shows one; the others follow small.

    Args:
        points: of all tasks.
        measures: the values to draw; of two, each has a column.
    """
    tasks = list(dict.fromkeys(point.task for point in points))
    rest = [(task, measure) for task in tasks[1:] for measure in measures]
    rows = -(-len(rest) // 2)
    heights = [*[_LARGE_INCHES] * len(measures), *[_SMALL_INCHES] * rows]
    with new_figure(sum(heights) + 0.6) as figure:
        grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
        if not tasks:
            say_missing(figure.add_subplot(grid[:, :]), "nothing measured")
            return figure
        for index, measure in enumerate(measures):
            axes = figure.add_subplot(grid[index, :])
            _panel(axes, _of(points, tasks[0], measure), measure, titled=not index, labelled=index == len(measures) - 1)
            axes.set_ylabel(_READ[measure][0])
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
        for index, (task, measure) in enumerate(rest):
            axes = figure.add_subplot(grid[len(measures) + index // 2, index % 2])
            _panel(axes, _of(points, task, measure), measure, titled=True, labelled=index >= len(rest) - 2, small=True)
    return figure


def _panel(
    axes: Axes, points: Sequence[PlacePoint], measure: Measure, *, titled: bool, labelled: bool, small: bool = False
) -> None:
    tidy(axes)
    if titled:
        subset = any(point.is_subset for point in points)
        note = _READ[measure][0] if small else ""
        panel_title(axes, display_name(points[0].task) + (" (subset)" if subset and not small else ""), note=note)
    for role, label, colour, marker in zip(MATRIX_ROLES, _LABELS, _COLOURS, _MARKERS, strict=True):
        line = [point for point in points if point.role == role]
        if not line:
            continue
        warm = MATRIX_ROLES.index(role) >= 3
        axes.plot(
            [point.block for point in line],
            [point.value for point in line],
            label=label,
            color=colour,
            marker=marker,
            fillstyle="none" if warm else "full",
            linestyle=(0, (3, 1)) if warm else "-",
            markersize=2.4 if small else 3.5,
            linewidth=0.9 if small else 1.2,
        )
        if any(point.seeds > 1 for point in line):
            axes.vlines(
                [point.block for point in line],
                [point.lowest for point in line],
                [point.highest for point in line],
                color=colour,
                linewidth=0.8,
            )
    axes.set_ylim(bottom=0)
    axes.margins(x=0.03)
    axes.locator_params(axis="x", integer=True)
    if labelled:
        axes.set_xlabel("block, from the input")
    else:
        axes.tick_params(labelbottom=False)
    axes.spines["bottom"].set_color(MUTED)


def _of(points: Sequence[PlacePoint], task: str, measure: Measure) -> list[PlacePoint]:
    return [point for point in points if point.task == task and point.measure == measure]
