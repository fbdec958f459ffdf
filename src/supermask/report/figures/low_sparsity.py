"""Figure 6: low-sparsity supermasks beside the baseline, task by task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from supermask.report.figures.score_sparsity import ScorePoint
from supermask.report.figures.style import INK, MISSING, MUTED, SERIES, key, new_figure, say_missing, tidy
from supermask.report.observation import display_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_low_sparsity"]

_BASELINES: tuple[dict[str, Any], ...] = (
    {"marker": "|", "markersize": 9, "markeredgewidth": 1.6, "color": INK},
    {"marker": "|", "markersize": 7, "markeredgewidth": 1.2, "color": MUTED},
    {"marker": "|", "markersize": 5, "markeredgewidth": 1.2, "color": MUTED},
)
_SAMPLED: dict[str, Any] = {"marker": "o", "markersize": 4, "color": SERIES[0]}
_THRESHOLDED: dict[str, Any] = {"marker": "o", "markersize": 4, "fillstyle": "none", "color": SERIES[0]}


def draw_low_sparsity(points: Sequence[ScorePoint], tasks: Sequence[str]) -> Figure:
    """Scores on the left, and on the right by how much they differ from the first baseline, which its own scale shows.

    Args:
        points: of all tasks; see `score_points`.
        tasks: a row each, whether there are points or not.
    """
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
        for axes in (scores, gaps):
            axes.text(
                0.02,
                row,
                "not recorded",
                transform=axes.get_yaxis_transform(),
                va="center",
                color=MISSING,
                style="italic",
            )
        return
    base = (
        next((p.score_percent for p in points if p.arm == baselines[0] and p.seed is None), None) if baselines else None
    )
    for axes, less in ((scores, 0.0), (gaps, base)):
        if less is None:
            axes.text(
                0.02,
                row,
                "no baseline",
                transform=axes.get_yaxis_transform(),
                va="center",
                color=MISSING,
                style="italic",
            )
            continue
        for arm, look in zip(baselines, _BASELINES, strict=False):
            of_arm = [p.score_percent - less for p in points if p.arm == arm and p.seed is None]
            axes.plot(of_arm, [row] * len(of_arm), linestyle="none", zorder=3, **look)
        for curve, look, shift in (("sampled", _SAMPLED, -0.12), ("thresholded", _THRESHOLDED, 0.16)):
            means = [p for p in points if p.curve == curve and p.seed is None]
            xs, ys = [p.score_percent - less for p in means], [row + shift] * len(means)
            spread = [p.draw_sd or 0.0 for p in means] if curve == "sampled" else None
            axes.errorbar(xs, ys, xerr=spread, linestyle="none", elinewidth=0.9, capsize=1.6, zorder=4, **look)
        several = [p for p in points if p.seed is not None and p.seeds > 1 and p.curve == "sampled"]
        xs = [p.score_percent - less for p in several]
        axes.plot(xs, [row - 0.36] * len(xs), linestyle="none", marker=".", markersize=2.5, color=INK, zorder=5)
