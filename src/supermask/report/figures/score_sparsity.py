"""Score against sparsity, task by task: Figure 3 for supermasks, Figure 8 for iterative pruning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

from supermask.report.figures.style import (
    INK,
    MUTED,
    key,
    new_figure,
    panel_title,
    say_missing,
    series_colour,
    series_marker,
    tidy,
    widen,
)
from supermask.report.observation import Observation, Seeded, display_name, metric_name, observe, subset_note
from supermask.report.results import StudyResults
from supermask.study.spec import Arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ScorePoint", "draw_scores", "score_points"]

Curve = Literal["baseline", "sampled", "thresholded", "pruned"]
_OVERVIEW_INCHES = 2.15
_PANEL_INCHES = 1.02
_LEAST_SPAN_POINTS = 6.0
_DASHED = (0, (2, 1.5))
_BASELINE_STYLES = ((0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (6, 2)))


@final
@dataclass(frozen=True, kw_only=True)
class ScorePoint:
    """One point of a curve.

    Args:
        task: of the curve.
        curve: `baseline` is full fine-tuning; `sampled` is the mean over the draws, at the expected zeros of a draw;
            `thresholded` and `pruned` are of the one deterministic mask.
        arm: of the study.
        label: of the arm.
        seed: of the run; None for the mean over the seeds.
        sparsity_percent: zeros among the weights that may be zeroed.
        score_percent: primary metric.
        seeds: how many are in the mean.
        seed_sd: standard deviation over them.
        draw_sd: standard deviation over the draws of a run.
        is_subset: whether the task's data are a part of the official ones.
    """

    task: str
    curve: Curve
    arm: str
    label: str
    seed: int | None
    sparsity_percent: float
    score_percent: float
    seeds: int
    seed_sd: float | None
    draw_sd: float | None
    is_subset: bool


def score_points(results: StudyResults) -> tuple[ScorePoint, ...]:
    """All points of a study whose arms are baselines (`freezing`), supermasks or pruning; curves by rising sparsity.

    Args:
        results: of the study.
    """
    found: list[ScorePoint] = []
    for task in results.study.tasks:
        of_task: list[ScorePoint] = []
        subset = subset_note(results, task) is not None
        for arm in results.study.arms:
            of_task += _points(observe(results, arm.name, task), arm, subset)
        order = ("baseline", "sampled", "thresholded", "pruned")
        found += sorted(
            of_task, key=lambda point: (order.index(point.curve), point.seed is not None, point.sparsity_percent)
        )
    return tuple(found)


def _points(seen: Observation, arm: Arm, subset: bool) -> Iterator[ScorePoint]:
    kind = arm.method["kind"]
    if kind == "freezing":
        yield from _curve(seen, arm, "baseline", seen.score(), Seeded(dict.fromkeys(_seeds(seen), 0.0)), None, subset)
    elif kind == "pruning":
        yield from _curve(seen, arm, "pruned", seen.score(), seen.sparsity(), None, subset)
    else:
        yield from _curve(seen, arm, "sampled", seen.sampled_score(), seen.sampled_sparsity(), seen.draw_sd(), subset)
        yield from _curve(seen, arm, "thresholded", seen.score(), seen.sparsity(), None, subset)


def _seeds(seen: Observation) -> list[int]:
    return [cell.spec.seed for cell in seen.recorded]


def _curve(
    seen: Observation,
    arm: Arm,
    curve: Curve,
    score: Seeded | None,
    zeros: Seeded | None,
    draw_sd: float | None,
    subset: bool,
) -> Iterator[ScorePoint]:
    both = {seed: value for seed, value in score.values.items() if seed in zeros.values} if score and zeros else {}
    if not both or zeros is None:
        return
    mean, sparsity = Seeded(both), Seeded({seed: zeros.values[seed] for seed in both})

    def point(seed: int | None, x: float, y: float, seed_sd: float | None, sd: float | None) -> ScorePoint:
        return ScorePoint(
            task=seen.task,
            curve=curve,
            arm=arm.name,
            label=arm.label,
            seed=seed,
            sparsity_percent=x,
            score_percent=y,
            seeds=len(both),
            seed_sd=seed_sd,
            draw_sd=sd,
            is_subset=subset,
        )

    yield point(None, sparsity.mean, mean.mean, mean.sd, draw_sd)
    for seed, value in both.items():
        yield point(seed, sparsity.values[seed], value, None, None)


def draw_scores(points: Sequence[ScorePoint], tasks: Sequence[str]) -> Figure:
    """All tasks on one scale, as in the paper, and below it each task on its own scale, where a point can be seen.

    Above: the mean of the draws (or the pruned model), full fine-tuning at the left end. Below also the thresholded
    mask (hollow, dashed), the draws' standard deviation (bars) and every seed (small dots).

    Args:
        points: of all tasks.
        tasks: one panel each, whether there are points or not.
    """
    rows = -(-len(tasks) // 2)
    signs = _signs(points)
    with new_figure(_OVERVIEW_INCHES + _PANEL_INCHES * rows + 0.32 + 0.14 * len(signs) / 2) as figure:
        grid = figure.add_gridspec(1 + rows, 2, height_ratios=[_OVERVIEW_INCHES, *[_PANEL_INCHES] * rows])
        _overview(figure.add_subplot(grid[0, :]), points, tasks)
        for index, task in enumerate(tasks):
            axes = figure.add_subplot(grid[1 + index // 2, index % 2])
            own = [point for point in points if point.task == task]
            _panel(axes, own, task, index, _baseline_styles(points), lowest=index >= len(tasks) - 2)
        if signs:
            key(figure, signs)
    return figure


def _signs(points: Sequence[ScorePoint]) -> list[tuple[str, dict[str, Any]]]:
    """What the signs in the panels mean, those that are there."""
    curves = {point.curve for point in points}
    signs: list[tuple[str, dict[str, Any]]] = [
        (label, {"linestyle": style, "linewidth": 0.9}) for label, style in _baseline_styles(points).items()
    ]
    if "sampled" in curves:
        signs.append(("sampled masks, ± sd of draws", {"marker": "o"}))
    if "thresholded" in curves:
        signs.append(("thresholded mask", {"marker": "o", "fillstyle": "none", "linestyle": _DASHED}))
    if "pruned" in curves:
        signs.append(("pruned", {"marker": "o"}))
    if any(point.seeds > 1 for point in points):
        signs.append(("one seed", {"marker": ".", "linestyle": "none", "color": INK, "markersize": 3}))
    return signs


def _overview(axes: Axes, points: Sequence[ScorePoint], tasks: Sequence[str]) -> None:
    drawn = False
    for index, task in enumerate(tasks):
        line = [p for p in points if p.task == task and p.seed is None and p.curve in ("sampled", "pruned")]
        base = _baseline(points, task)
        path = [*([base] if base is not None else []), *line]
        if not path:
            continue
        drawn = True
        colour, marker = series_colour(index), series_marker(index)
        xs, ys = [p.sparsity_percent for p in path], [p.score_percent for p in path]
        axes.plot(xs, ys, color=colour, marker=marker, label=display_name(task))
    if not drawn:
        say_missing(axes)
        return
    tidy(axes)
    axes.set_xlim(-2, 100)
    axes.set_xlabel("zeros, %")
    axes.set_ylabel("score, %")
    figure = axes.get_figure()
    assert figure is not None
    figure.legend(loc="outside upper left", ncols=4)


def _panel(
    axes: Axes, points: Sequence[ScorePoint], task: str, index: int, styles: Mapping[str, Any], *, lowest: bool
) -> None:
    subset = any(point.is_subset for point in points)
    panel_title(axes, display_name(task) + (" (subset)" if subset else ""), note=metric_name(task))
    if not points:
        say_missing(axes)
        return
    tidy(axes)
    colour, marker = series_colour(index), series_marker(index)
    for point in (p for p in points if p.curve == "baseline" and p.seed is None):
        axes.axhline(point.score_percent, color=MUTED, linewidth=0.9, linestyle=styles[point.label], zorder=1)
    base = _baseline(points, task)
    for curve in ("thresholded", "sampled", "pruned"):
        line = [p for p in points if p.curve == curve and p.seed is None]
        hollow = curve == "thresholded"
        path = [*([base] if base is not None and line and not hollow else []), *line]
        axes.plot(
            [p.sparsity_percent for p in path],
            [p.score_percent for p in path],
            color=colour,
            marker=marker,
            fillstyle="none" if hollow else "full",
            linestyle=_DASHED if hollow else "-",
            linewidth=0.8 if hollow else 1.1,
            zorder=3,
        )
        spread = [p for p in line if p.draw_sd is not None]
        axes.errorbar(
            [p.sparsity_percent for p in spread],
            [p.score_percent for p in spread],
            yerr=[p.draw_sd or 0.0 for p in spread],
            color=colour,
            linestyle="none",
            elinewidth=0.9,
            capsize=1.8,
            capthick=0.9,
            zorder=2,
        )
    several = [p for p in points if p.seed is not None and p.seeds > 1 and p.curve != "thresholded"]
    xs, ys = [p.sparsity_percent for p in several], [p.score_percent for p in several]
    axes.plot(xs, ys, linestyle="none", marker=".", markersize=3, color=INK, zorder=4)
    axes.set_xlim(-4, 100)
    axes.set_xticks([0, 50, 100])
    if lowest:
        axes.set_xlabel("zeros, %")
    else:
        axes.tick_params(labelbottom=False)
    axes.margins(y=0.12)
    widen(axes, _LEAST_SPAN_POINTS, highest=100.0)


def _baseline(points: Sequence[ScorePoint], task: str) -> ScorePoint | None:
    """The first baseline of the study: full fine-tuning at the paper's learning rate."""
    return next((p for p in points if p.task == task and p.curve == "baseline" and p.seed is None), None)


def _baseline_styles(points: Sequence[ScorePoint]) -> dict[str, Any]:
    """A line style for each kind of full fine-tuning, by its label."""
    labels = dict.fromkeys(point.label for point in points if point.curve == "baseline")
    return {label: _BASELINE_STYLES[index % len(_BASELINE_STYLES)] for index, label in enumerate(labels)}
