"""What differs between blocks and between kinds of matrices: distances (Figure 2), sparsity (Figure 4)."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, final

from supermask.report.drawing import MUTED, SERIES, label_below, new_figure, panel_title, say_missing, tidy
from supermask.report.figures.figure import Plot
from supermask.report.results import Observation, StudyResults
from supermask.report.wording import display_name, task_label
from supermask.study.measures import TensorMeasures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DISTANCES_BY_BLOCK", "SPARSITY_BY_BLOCK", "PlacePoint", "place_points"]

Measure = Literal["l1", "angular", "sparsity"]

# The six matrices of a block: first those that the paper finds sparser, in cool colours, with filled markers and full
# lines, then the others.
_LABELS: Final = {
    "query": "query",
    "key": "key",
    "ffn_in": "FFN in",
    "value": "value",
    "attention_output": "attention output",
    "ffn_out": "FFN out",
}
_ROLES: Final = tuple(_LABELS)
_COLOURS: Final = (SERIES[0], SERIES[5], SERIES[2], SERIES[1], SERIES[6], SERIES[4])
_READ: Final[dict[Measure, tuple[str, Callable[[TensorMeasures], float | None]]]] = {
    "l1": ("L1 distance / √n", lambda tensor: tensor.l1),
    "angular": ("angle / π", lambda tensor: tensor.angular),
    "sparsity": ("zeros, %", lambda tensor: None if tensor.sparsity is None else 100 * tensor.sparsity),
}
_LARGE_INCHES = 1.45
_SMALL_INCHES = 0.86


@final
@dataclass(frozen=True)
class PlacePoint:
    """One kind of matrix in one block."""

    task: str
    arm: str
    measure: Measure  # ‖θ - θ̃‖₁ / √n, the angle between θ and θ̃ in units of π, or zeros of the thresholded mask in %
    role: str
    block: int  # from the input and from 0
    value: float  # mean over the seeds
    lowest: float
    highest: float
    seeds: int
    is_subset: bool  # whether the task's data are a part of the official ones


def place_points(results: StudyResults, measures: Sequence[Measure]) -> tuple[PlacePoint, ...]:
    """Values by matrix and block of every task, of the first arm that was measured on it."""
    found: list[PlacePoint] = []
    for task in results.study.tasks:
        every = (results.observe(arm.name, task) for arm in results.study.arms)
        seen = next((one for one in every if one.measured()), None)
        if seen is not None:
            subset = results.subset(task) is not None
            found += (point for measure in measures for point in _points(seen, measure, subset))
    return tuple(found)


def _points(seen: Observation, measure: Measure, subset: bool) -> Iterator[PlacePoint]:
    values: dict[tuple[str, int], list[float]] = {}
    for tensor in (tensor for _, measures in seen.measured() for tensor in measures.tensors):
        if tensor.role in _ROLES and tensor.block is not None and len(tensor.shape) > 1:
            value = _READ[measure][1](tensor)
            if value is not None:
                values.setdefault((tensor.role, tensor.block), []).append(value)
    for role, block in sorted(values, key=lambda place: (_ROLES.index(place[0]), place[1])):
        here = values[role, block]
        ends = statistics.fmean(here), min(here), max(here)
        yield PlacePoint(seen.task, seen.arm, measure, role, block, *ends, len(here), subset)


def _in_words(points: Sequence[PlacePoint]) -> Iterator[str]:
    for task, measure in dict.fromkeys((point.task, point.measure) for point in points):
        own = _of(points, task, measure)
        least, most = (of(own, key=lambda point: point.value) for of in (min, max))
        yield (
            f"{display_name(task)}, {measure}: from {least.value:.3g} ({least.role}, block {least.block}) to "
            f"{most.value:.3g} ({most.role}, block {most.block})"
        )


def _shown(results: StudyResults, points: Sequence[PlacePoint]) -> list[str]:
    return [f"Shown: {results.study.arm(arm).label}." for arm in dict.fromkeys(point.arm for point in points)]


def _draw(points: Sequence[PlacePoint], _: Sequence[str], measures: Sequence[Measure]) -> Figure:
    """A panel a task and measure, blocks across: the first task large, as the paper shows one, the others small."""
    tasks = list(dict.fromkeys(point.task for point in points))
    rest = [(task, measure) for task in tasks[1:] for measure in measures]
    heights = [*[_LARGE_INCHES] * len(measures), *[_SMALL_INCHES] * -(-len(rest) // 2)]
    with new_figure(sum(heights) + 0.6) as figure:
        grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
        if not tasks:
            say_missing(figure.add_subplot(grid[:, :]), text="nothing measured")
            return figure
        for index, measure in enumerate(measures):
            axes = figure.add_subplot(grid[index, :])
            _panel(axes, _of(points, tasks[0], measure), measure, titled=not index, lowest=index == len(measures) - 1)
            axes.set_ylabel(_READ[measure][0])
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
        for index, (task, measure) in enumerate(rest):
            axes = figure.add_subplot(grid[len(measures) + index // 2, index % 2])
            _panel(axes, _of(points, task, measure), measure, titled=True, lowest=index >= len(rest) - 2, small=True)
    return figure


def _panel(
    axes: Axes, points: Sequence[PlacePoint], measure: Measure, *, titled: bool, lowest: bool, small: bool = False
) -> None:
    tidy(axes)
    if titled:
        subset = any(point.is_subset for point in points) and not small
        panel_title(axes, task_label(points[0].task, subset=subset), note=_READ[measure][0] if small else "")
    for index, (role, label) in enumerate(_LABELS.items()):
        line = [point for point in points if point.role == role]
        if not line:
            continue
        blocks, warm = [point.block for point in line], index >= 3
        axes.plot(
            blocks,
            [point.value for point in line],
            label=label,
            color=_COLOURS[index],
            marker="os^"[index % 3],
            fillstyle="none" if warm else "full",
            linestyle=(0, (3, 1)) if warm else "-",
            markersize=2.4 if small else 3.5,
            linewidth=0.9 if small else 1.2,
        )
        if any(point.seeds > 1 for point in line):
            low, high = [point.lowest for point in line], [point.highest for point in line]
            axes.vlines(blocks, low, high, color=_COLOURS[index], linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.03)
    axes.locator_params(axis="x", integer=True)
    label_below(axes, "block, from the input", lowest=lowest)
    axes.spines["bottom"].set_color(MUTED)


def _of(points: Sequence[PlacePoint], task: str, measure: Measure) -> list[PlacePoint]:
    return [point for point in points if point.task == task and point.measure == measure]


def _plot(measures: tuple[Measure, ...], caption: str, **more: Any) -> Plot:
    points, draw = functools.partial(place_points, measures=measures), functools.partial(_draw, measures=measures)
    return Plot(points=points, draw=draw, measured=True, caption=caption, phrases=_in_words, **more)


DISTANCES_BY_BLOCK: Final = _plot(
    ("l1", "angular"),
    "Distance of each fine-tuned matrix from the pretrained one: L1 distance divided by the square root of "
    "the number of weights, so that matrices of different size compare, and angle in units of π.",
    notes=_shown,
)
"""Figure 2."""

SPARSITY_BY_BLOCK: Final = _plot(
    ("sparsity",),
    "Zeros of the thresholded mask in each matrix. Filled markers and full lines: the three kinds that the "
    "paper finds sparser. The pooler, which is masked too, lies outside the blocks and is not drawn.",
)
"""Figure 4."""
