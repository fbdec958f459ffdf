"""Figure 7: which fraction of one task's zeros another task's mask has, too, beside what chance gives."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, final

from supermask.analysis import OverlapCount
from supermask.report.drawing import CELL_DARK, CELL_LIGHT, GRID, MISSING, new_figure, say_missing
from supermask.report.figures.figure import Plot
from supermask.report.results import StudyResults
from supermask.report.wording import display_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["OVERLAP_GRID", "PLACES", "OverlapPoint", "overlap_points"]

Place = Literal["first block's value matrix", "all masked weights"]
PLACES: Final[tuple[Place, ...]] = ("first block's value matrix", "all masked weights")
"""The weights of which overlap is told: those of the paper, and all."""

# Where black and white are equally far from a ground: (L + 0.05)² = 1.05 · 0.05.
_DARK_TEXT_FROM = 0.179


@final
@dataclass(frozen=True)
class OverlapPoint:
    """Zeros of one task's mask that are zeros of another's: a cell of the grid, the mean over pairs of runs."""

    place: Place
    task: str  # whose zeros are counted: the horizontal axis
    other: str  # in whose mask they are looked up: the vertical axis; the same task if two of its seeds are compared
    shared_percent: float  # of the zeros of `task`, those that `other` has, too
    chance_percent: float  # the same if zeros lay at random in every tensor, each mask keeping its number of them there
    ratio: float | None  # of the two; None if chance gives none
    rows_and_columns_ratio: float | None  # to what the numbers of zeros in every row and column lead one to expect
    pairs: int
    is_subset: bool  # whether the data of one of the tasks are a part of the official ones


def overlap_points(results: StudyResults) -> Iterator[OverlapPoint]:
    """All cells of the grid for which pairs were measured."""
    tasks = results.study.tasks
    subsets = {task for task in tasks if results.subset(task) is not None}
    for place in PLACES:
        counts: dict[tuple[str, str], list[OverlapCount]] = {}
        for pair in results.pairs:
            first, second = (label.partition("/")[0] for label in (pair.first, pair.second))
            count = pair.total if place == "all masked weights" else pair.within(role="value", block=0)
            counts.setdefault((first, second), []).append(count)
            # The same overlap, seen from the second mask.
            turned = dataclasses.replace(count, first_zeros=count.second_zeros, second_zeros=count.first_zeros)
            counts.setdefault((second, first), []).append(turned)
        for task, other in itertools.product(tasks, tasks):
            found = [one for one in counts.get((task, other), []) if one.fraction is not None]
            if found:
                shared = 100 * statistics.fmean(one.fraction or 0.0 for one in found)
                chance = 100 * statistics.fmean(one.chance or 0.0 for one in found)
                ratios = _mean([one.ratio for one in found]), _mean([one.ratio_given_rows_and_columns for one in found])
                subset = bool({task, other} & subsets)
                yield OverlapPoint(place, task, other, shared, chance, *ratios, len(found), subset)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _in_words(points: Sequence[OverlapPoint]) -> Iterator[str]:
    for place in PLACES:
        ratios = [p.ratio for p in points if p.place == place and p.ratio is not None and p.task != p.other]
        if ratios:
            yield f"{place}: {min(ratios):.2f} to {max(ratios):.2f} times chance"


def _missing(results: StudyResults, points: Sequence[OverlapPoint]) -> Iterator[str]:
    there = {frozenset((point.task, point.other)) for point in points}
    recorded = {cell.spec.task for cell in results.cells if cell.record is not None}
    for one, other in itertools.combinations((task for task in results.study.tasks if task in recorded), 2):
        if frozenset((one, other)) not in there:
            yield f"{display_name(one)} with {display_name(other)} (overlap not measured)"


def _draw(points: Sequence[OverlapPoint], tasks: Sequence[str]) -> Figure:
    """Learnt masks on the left, chance on the right, on one colour scale; above one matrix, below the whole model."""
    with new_figure(0.4 * len(tasks) + 1.35) as figure:
        if not points:
            say_missing(figure.subplots(), text="no pairs of masks measured")
            return figure
        grid = figure.subplots(2, 2, sharex=True, sharey=True)
        for row, place in enumerate(PLACES):
            here = [point for point in points if point.place == place]
            both = [max(point.shared_percent, point.chance_percent) for point in here if point.task != point.other]
            highest = max(both, default=1.0) or 1.0
            for axes, text, field in zip(grid[row], ("learnt", "by chance"), ("shared", "chance"), strict=True):
                values = {(point.task, point.other): getattr(point, f"{field}_percent") for point in here}
                _heat(axes, values, tasks, highest)
                axes.text(0, 1.02, text, transform=axes.transAxes, va="bottom")
            grid[row][0].set_title(place[:1].upper() + place[1:], loc="left", pad=12)
        figure.supxlabel("of the zeros of this task's mask, % …", fontsize=7)
        figure.supylabel("… are zeros of this one's, too", fontsize=7)
    return figure


def _heat(axes: Axes, values: Mapping[tuple[str, str], float], tasks: Sequence[str], highest: float) -> None:
    import matplotlib
    from matplotlib.patches import Rectangle

    colours = matplotlib.colormaps["cividis"]
    for x, task in enumerate(tasks):
        for y, other in enumerate(tasks):
            value, corner = values.get((task, other)), (x - 0.47, y - 0.47)
            if value is None:
                axes.add_patch(Rectangle(corner, 0.94, 0.94, facecolor="none", edgecolor=GRID, linewidth=0.6))
                if task != other:
                    axes.text(x, y, "–", ha="center", va="center", color=MISSING)
                continue
            colour = colours(min(value / highest, 1.0))
            ground = matplotlib.colors.to_hex(colour)
            axes.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=ground, linewidth=0))
            ink = CELL_DARK if _luminance(colour) > _DARK_TEXT_FROM else CELL_LIGHT
            axes.text(x, y, _short(value), ha="center", va="center", color=ink)
    axes.set_xlim(-0.5, len(tasks) - 0.5)
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    axes.set_xticks(range(len(tasks)), [display_name(task) for task in tasks], rotation=90)
    axes.set_yticks(range(len(tasks)), [display_name(task) for task in tasks])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _luminance(colour: Sequence[float]) -> float:
    """Relative luminance of a colour, red, green and blue in [0, 1]: Web Content Accessibility Guidelines 2.2."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _short(percent: float) -> str:
    """Two digits, such as `.04`, `1.3` or `13`, so that eight fit beside one another."""
    if percent >= 9.95:
        return f"{percent:.0f}"
    return f"{percent:.1f}" if percent >= 0.95 else f"{percent:.2f}".removeprefix("0") if percent >= 0.005 else "0"


OVERLAP_GRID: Final = Plot(
    points=overlap_points,
    draw=_draw,
    caption="Of the zeros of one task's thresholded mask (across), the percentage that another task's mask "
    "(down) has, too; on the right, what zeros at random within each matrix would give. A cell on the diagonal "
    "compares two seeds of one task.",
    phrases=_in_words,
    missing=_missing,
)
"""Figure 7."""
