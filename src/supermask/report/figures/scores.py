"""Scores, task by task: over sparsity (Figures 3 and 8), and of low-sparsity supermasks beside baselines (Figure 6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, final

from supermask.report import drawing
from supermask.report.drawing import DASHED, INK, MUTED, SERIES, say_missing, series_look, tidy
from supermask.report.figures.figure import Plot
from supermask.report.results import Seeded, StudyResults
from supermask.report.wording import display_name, metric_name, task_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LOW_SPARSITY", "SCORE_OVER_SPARSITY", "ScorePoint", "score_points"]

Curve = Literal["baseline", "sampled", "thresholded", "pruned"]
_CURVES: Final[tuple[Curve, ...]] = ("baseline", "sampled", "thresholded", "pruned")
_OVERVIEW_INCHES = 2.15
_PANEL_INCHES = 1.02
_LEAST_SPAN_POINTS = 6.0
_BASELINE_STYLES = ((0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (6, 2)))


_MARKS: tuple[dict[str, Any], ...] = (
    {"marker": "|", "markersize": 9, "markeredgewidth": 1.6, "color": INK},
    {"marker": "|", "markersize": 7, "markeredgewidth": 1.2, "color": MUTED},
    {"marker": "|", "markersize": 5, "markeredgewidth": 1.2, "color": MUTED},
)
_SAMPLED: dict[str, Any] = {"marker": "o", "markersize": 4, "color": SERIES[0]}
_THRESHOLDED: dict[str, Any] = {"marker": "o", "markersize": 4, "fillstyle": "none", "color": SERIES[0]}


@final
@dataclass(frozen=True)
class ScorePoint:
    """One point of a curve."""

    task: str
    curve: Curve  # `baseline` is full fine-tuning; `sampled` the mean over draws, at the expected zeros of a draw
    arm: str
    label: str
    seed: int | None  # None for the mean over the seeds
    sparsity_percent: float  # zeros among the weights that may be zeroed
    score_percent: float  # primary metric
    seeds: int  # that are in the mean
    seed_sd: float | None
    draw_sd: float | None  # over the draws of a run
    is_subset: bool  # whether the task's data are a part of the official ones


def score_points(results: StudyResults) -> tuple[ScorePoint, ...]:
    """All points of a study whose arms are baselines (`freezing`), supermasks or pruning; curves by rising sparsity."""
    found: list[ScorePoint] = []
    for task in results.study.tasks:
        of_task = (point for arm in results.study.arms for point in _points(results, arm.name, task))
        found += sorted(of_task, key=lambda p: (_CURVES.index(p.curve), p.seed is not None, p.sparsity_percent))
    return tuple(found)


def _points(results: StudyResults, name: str, task: str) -> Iterator[ScorePoint]:
    arm, seen = results.study.arm(name), results.observe(name, task)
    kind, subset = arm.method["kind"], results.subset(task) is not None
    curves: dict[Curve, tuple[Seeded | None, Seeded | None, float | None]] = {}
    if kind == "freezing":
        curves["baseline"] = seen.score(), Seeded(dict.fromkeys(seen.records, 0.0)), None
    elif kind == "pruning":
        curves["pruned"] = seen.score(), seen.sparsity(), None
    else:
        curves["sampled"] = seen.sampled_score(), seen.sampled_sparsity(), seen.draw_sd()
        curves["thresholded"] = seen.score(), seen.sparsity(), None
    for curve, (scores, zeros, draw_sd) in curves.items():
        if scores is None or zeros is None:
            continue
        both = {seed: value for seed, value in scores.values.items() if seed in zeros.values}
        if not both:
            continue
        score, sparsity = Seeded(both), Seeded({seed: zeros.values[seed] for seed in both})
        mean = (None, sparsity.mean, score.mean, score.sd, draw_sd)
        for seed, x, y, sd, spread in (mean, *((seed, sparsity.values[seed], both[seed], None, None) for seed in both)):
            yield ScorePoint(task, curve, name, arm.label, seed, x, y, len(both), sd, spread, subset)


def _in_words(points: Sequence[ScorePoint]) -> Iterator[str]:
    """What there is to see, task by task."""
    for task in dict.fromkeys(point.task for point in points):
        means = [p for p in points if p.task == task and p.seed is None and p.curve != "thresholded"]
        told = ", ".join(f"{point.score_percent:.1f} at {point.sparsity_percent:.1f} % zeros" for point in means)
        yield f"{display_name(task)}: {told}"


def _draw(points: Sequence[ScorePoint], tasks: Sequence[str]) -> Figure:
    """All tasks on one scale, as in the paper, and below it each task on its own scale, where a point can be seen."""
    rows = -(-len(tasks) // 2)
    labels = dict.fromkeys(point.label for point in points if point.curve == "baseline")
    styles = {label: _BASELINE_STYLES[index % len(_BASELINE_STYLES)] for index, label in enumerate(labels)}
    signs = _signs(points, styles)
    with drawing.new_figure(_OVERVIEW_INCHES + _PANEL_INCHES * rows + 0.32 + 0.14 * len(signs) / 2) as figure:
        grid = figure.add_gridspec(1 + rows, 2, height_ratios=[_OVERVIEW_INCHES, *[_PANEL_INCHES] * rows])
        if _overview(figure.add_subplot(grid[0, :]), points, tasks):
            figure.legend(loc="outside upper left", ncols=4)
        for index, task in enumerate(tasks):
            axes = figure.add_subplot(grid[1 + index // 2, index % 2])
            own = [point for point in points if point.task == task]
            _panel(axes, own, task, index, styles, lowest=index >= len(tasks) - 2)
        if signs:
            drawing.key(figure, signs)
    return figure


def _signs(points: Sequence[ScorePoint], styles: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What the signs in the panels mean, those that are there."""
    curves = {point.curve for point in points}
    signs: list[tuple[str, dict[str, Any]]] = [
        (label, {"linestyle": style, "linewidth": 0.9}) for label, style in styles.items()
    ]
    if "sampled" in curves:
        signs.append(("sampled masks, ± sd of draws", {"marker": "o"}))
    if "thresholded" in curves:
        signs.append(("thresholded mask", {"marker": "o", "fillstyle": "none", "linestyle": DASHED}))
    if "pruned" in curves:
        signs.append(("pruned", {"marker": "o"}))
    if any(point.seeds > 1 for point in points):
        signs.append(("one seed", {"marker": ".", "linestyle": "none", "color": INK, "markersize": 3}))
    return signs


def _overview(axes: Axes, points: Sequence[ScorePoint], tasks: Sequence[str]) -> bool:
    if not points:
        say_missing(axes)
        return False
    for index, task in enumerate(tasks):
        means = [point for point in points if point.task == task and point.seed is None]
        path = [*_baseline(means), *(point for point in means if point.curve in ("sampled", "pruned"))]
        if path:
            axes.plot(*_places(path), **series_look(index), label=display_name(task))
    tidy(axes)
    axes.set_xlim(-2, 100)
    axes.set_xlabel("zeros, %")
    axes.set_ylabel("score, %")
    return True


def _panel(
    axes: Axes, points: Sequence[ScorePoint], task: str, index: int, styles: Mapping[str, Any], *, lowest: bool
) -> None:
    subset = any(point.is_subset for point in points)
    drawing.panel_title(axes, task_label(task, subset=subset), note=metric_name(task))
    if not points:
        say_missing(axes)
        return
    tidy(axes)
    means = [point for point in points if point.seed is None]
    for point in (point for point in means if point.curve == "baseline"):
        axes.axhline(point.score_percent, color=MUTED, linewidth=0.9, linestyle=styles[point.label], zorder=1)
    for curve in ("thresholded", "sampled", "pruned"):
        line = [point for point in means if point.curve == curve]
        hollow = curve == "thresholded"
        look = series_look(index, hollow=hollow)
        path = [*(_baseline(means) if line and not hollow else []), *line]
        axes.plot(*_places(path), **look, linewidth=0.8 if hollow else 1.1, zorder=3)
        spread = [point for point in line if point.draw_sd is not None]
        axes.errorbar(
            *_places(spread),
            yerr=[point.draw_sd or 0.0 for point in spread],
            color=look["color"],
            linestyle="none",
            elinewidth=0.9,
            capsize=1.8,
            capthick=0.9,
            zorder=2,
        )
    several = [p for p in points if p.seed is not None and p.seeds > 1 and p.curve != "thresholded"]
    axes.plot(*_places(several), linestyle="none", marker=".", markersize=3, color=INK, zorder=4)
    axes.set_xlim(-4, 100)
    axes.set_xticks([0, 50, 100])
    drawing.label_below(axes, "zeros, %", lowest=lowest)
    axes.margins(y=0.12)
    drawing.widen(axes, _LEAST_SPAN_POINTS, highest=100.0)


def _places(points: Sequence[ScorePoint]) -> tuple[list[float], list[float]]:
    return [point.sparsity_percent for point in points], [point.score_percent for point in points]


def _baseline(means: Sequence[ScorePoint]) -> list[ScorePoint]:
    """The first baseline of the study, if it is there: full fine-tuning at the paper's learning rate."""
    return [point for point in means if point.curve == "baseline"][:1]


def _draw_low(points: Sequence[ScorePoint], tasks: Sequence[str]) -> Figure:
    """Scores on the left, and on the right, on a scale of its own, how much they differ from the first baseline."""
    baselines = list(dict.fromkeys((p.arm, p.label) for p in points if p.curve == "baseline"))
    with drawing.new_figure(0.27 * len(tasks) + 1.05) as figure:
        scores, gaps = figure.subplots(1, 2, sharey=True)
        if not points:
            say_missing(scores, gaps)
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
        signs = [(label, {**look, "linestyle": "none"}) for (_, label), look in zip(baselines, _MARKS, strict=False)]
        signs += [
            ("Sampled, ± sd of draws", {**_SAMPLED, "linestyle": "-", "linewidth": 0.9}),
            ("Thresholded", {**_THRESHOLDED, "linestyle": "none"}),
        ]
        if any(point.seeds > 1 for point in points):
            signs.append(("One seed", {"marker": ".", "markersize": 3, "linestyle": "none", "color": INK}))
        if subset:
            signs.append(("* Subset of the data", {"linestyle": "none"}))
        drawing.key(figure, signs, columns=2)
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
        for arm, look in zip(baselines, _MARKS, strict=False):
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
    axes.text(0.02, row, text, transform=place, va="center", color=drawing.MISSING, style="italic")


SCORE_OVER_SPARSITY: Final = Plot(
    points=score_points,
    draw=_draw,
    caption="Above, all tasks on one scale: the mean over the drawn masks (or the pruned model), with full "
    "fine-tuning at the left end of each curve. Below, each task on its own scale: bars are the standard deviation "
    "over the draws of a run, small dots single seeds, hollow markers the thresholded mask at its own sparsity.",
    phrases=_in_words,
)
"""Figures 3 and 8."""

LOW_SPARSITY: Final = Plot(
    points=score_points,
    draw=_draw_low,
    caption="Left, scores; right, how far each lies from the baseline, in points. Filled: mean over drawn "
    "masks, with the standard deviation over the draws of a run. Hollow: the thresholded mask.",
    phrases=_in_words,
)
"""Figure 6."""
