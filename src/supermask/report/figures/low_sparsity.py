"""Figure 6: low-sparsity supermasks beside the baseline, task by task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from supermask.report.drawing import INK, MISSING, MUTED, SERIES, key, new_figure, say_missing, tidy
from supermask.report.figures.figure import StudyFigure, figure_of
from supermask.report.figures.score_sparsity import ScorePoint, score_points, scores_in_words
from supermask.report.results import StudyResults
from supermask.report.wording import display_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["low_sparsity"]

_BASELINES: tuple[dict[str, Any], ...] = (
    {"marker": "|", "markersize": 9, "markeredgewidth": 1.6, "color": INK},
    {"marker": "|", "markersize": 7, "markeredgewidth": 1.2, "color": MUTED},
    {"marker": "|", "markersize": 5, "markeredgewidth": 1.2, "color": MUTED},
)
_SAMPLED: dict[str, Any] = {"marker": "o", "markersize": 4, "color": SERIES[0]}
_THRESHOLDED: dict[str, Any] = {"marker": "o", "markersize": 4, "fillstyle": "none", "color": SERIES[0]}


def low_sparsity(results: StudyResults) -> StudyFigure:
    """Figure 6: low-sparsity supermasks beside the baseline."""
    points = score_points(results)
    return figure_of(
        results,
        points,
        _draw,
        caption="Left, scores; right, how far each lies from the baseline, in points. Filled: mean over drawn "
        "masks, with the standard deviation over the draws of a run. Hollow: the thresholded mask.",
        phrases=scores_in_words(points),
    )


def _draw(points: Sequence[ScorePoint], tasks: Sequence[str]) -> Figure:
    """Scores on the left, and on the right, on a scale of its own, how much they differ from the first baseline."""
    baselines = list(dict.fromkeys((p.arm, p.label) for p in points if p.curve == "baseline"))
    with new_figure(0.27 * len(tasks) + 1.05) as figure:
        scores, gaps = figure.subplots(1, 2, sharey=True)
        if not points:
            say_missing(scores)
            say_missing(gaps)
            return figure
        for row, task in enumerate(tasks):
            _row(scores, gaps, [point for point in points if point.task == task], row, [arm for arm, _ in baselines])
        for axes, label in ((scores, "score, %"), (gaps, "less baseline, points")):
            tidy(axes, grid="x")
            axes.set_xlabel(label)
            axes.tick_params(axis="y", length=0)
        gaps.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
        subset = {point.task for point in points if point.is_subset}
        scores.set_yticks(range(len(tasks)), [display_name(task) + ("*" if task in subset else "") for task in tasks])
        scores.set_ylim(len(tasks) - 0.5, -0.5)
        low, high = gaps.get_xlim()
        gaps.set_xlim(min(low, -3.0), max(high, 3.0))
        signs = [
            (label, {**look, "linestyle": "none"}) for (_, label), look in zip(baselines, _BASELINES, strict=False)
        ]
        signs += [
            ("Sampled, ± sd of draws", {**_SAMPLED, "linestyle": "-", "linewidth": 0.9}),
            ("Thresholded", {**_THRESHOLDED, "linestyle": "none"}),
        ]
        if any(point.seeds > 1 for point in points):
            signs.append(("One seed", {"marker": ".", "markersize": 3, "linestyle": "none", "color": INK}))
        if subset:
            signs.append(("* Subset of the data", {"linestyle": "none"}))
        key(figure, signs, columns=2)
    return figure


def _row(scores: Axes, gaps: Axes, points: Sequence[ScorePoint], row: int, baselines: Sequence[str]) -> None:
    if not points:
        _say(scores, row, "not recorded")
        _say(gaps, row, "not recorded")
        return
    means = [point for point in points if point.seed is None]
    base = next((point.score_percent for point in means if point.arm in baselines[:1]), None)
    for axes, less in ((scores, 0.0), (gaps, base)):
        if less is None:
            _say(axes, row, "no baseline")
            continue
        for arm, look in zip(baselines, _BASELINES, strict=False):
            of_arm = [point.score_percent - less for point in means if point.arm == arm]
            axes.plot(of_arm, [row] * len(of_arm), linestyle="none", zorder=3, **look)
        for curve, look, shift in (("sampled", _SAMPLED, -0.12), ("thresholded", _THRESHOLDED, 0.16)):
            line = [point for point in means if point.curve == curve]
            xs, ys = [point.score_percent - less for point in line], [row + shift] * len(line)
            spread = [point.draw_sd or 0.0 for point in line] if curve == "sampled" else None
            axes.errorbar(xs, ys, xerr=spread, linestyle="none", elinewidth=0.9, capsize=1.6, zorder=4, **look)
        several = [p for p in points if p.seed is not None and p.seeds > 1 and p.curve == "sampled"]
        xs = [point.score_percent - less for point in several]
        axes.plot(xs, [row - 0.36] * len(xs), linestyle="none", marker=".", markersize=2.5, color=INK, zorder=5)


def _say(axes: Axes, row: int, text: str) -> None:
    place = axes.get_yaxis_transform()
    axes.text(0.02, row, text, transform=place, va="center", color=MISSING, style="italic")
