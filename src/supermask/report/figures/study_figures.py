"""The figures of the studies: which points, which words, which drawing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping

from supermask.errors import ConfigurationError
from supermask.report.figures.by_block import Measure, PlacePoint, draw_places, place_points
from supermask.report.figures.distance_steps import distance_points, draw_distances
from supermask.report.figures.figure_value import StudyFigure
from supermask.report.figures.low_sparsity import draw_low_sparsity
from supermask.report.figures.overlap_grid import OverlapPoint, draw_overlap, overlap_points
from supermask.report.figures.pruned_magnitudes import draw_magnitudes, magnitude_points
from supermask.report.figures.score_sparsity import ScorePoint, draw_scores, score_points
from supermask.report.figures.sparsity_drift import draw_drift, drift_points
from supermask.report.observation import display_name, missing_in_words, observe, subset_note
from supermask.report.results import StudyResults

__all__ = ["FIGURES", "study_figure"]


def score_over_sparsity(results: StudyResults) -> StudyFigure:
    """Figures 3 and 8: score over sparsity."""
    points, tasks = score_points(results), results.study.tasks
    return _figure(
        results,
        points=points,
        draw=functools.partial(draw_scores, points, tasks),
        caption="Above, all tasks on one scale: the mean over the drawn masks (or the pruned model), with full "
        "fine-tuning at the left end of each curve. Below, each task on its own scale: bars are the standard deviation "
        "over the draws of a run, small dots single seeds, hollow markers the thresholded mask at its own sparsity.",
        alt=_scores_in_words(points),
    )


def low_sparsity(results: StudyResults) -> StudyFigure:
    """Figure 6: low-sparsity supermasks beside the baseline."""
    points, tasks = score_points(results), results.study.tasks
    return _figure(
        results,
        points=points,
        draw=functools.partial(draw_low_sparsity, points, tasks),
        caption="Left, scores; right, how far each lies from the baseline, in points. Filled: mean over drawn "
        "masks, with the standard deviation over the draws of a run. Hollow: the thresholded mask.",
        alt=_scores_in_words(points),
    )


def distances_by_block(results: StudyResults) -> StudyFigure:
    """Figure 2: distances by kind of matrix and block."""
    measures: tuple[Measure, ...] = ("l1", "angular")
    points = place_points(results, measures)
    return _figure(
        results,
        points=points,
        draw=functools.partial(draw_places, points, measures),
        measured=True,
        caption="Distance of each fine-tuned matrix from the pretrained one: L1 distance divided by the square root of "
        "the number of weights, so that matrices of different size compare, and angle in units of π.",
        alt=_places_in_words(points),
        notes=_shown_arms(points, results),
    )


def sparsity_by_block(results: StudyResults) -> StudyFigure:
    """Figure 4: sparsity by kind of matrix and block."""
    measures: tuple[Measure, ...] = ("sparsity",)
    points = place_points(results, measures)
    return _figure(
        results,
        points=points,
        draw=functools.partial(draw_places, points, measures),
        measured=True,
        caption="Zeros of the thresholded mask in each matrix. Filled markers and full lines: the three kinds that the "
        "paper finds sparser. The pooler, which is masked too, lies outside the blocks and is not drawn.",
        alt=_places_in_words(points),
    )


def magnitude_distributions(results: StudyResults) -> StudyFigure:
    """Figure 5: magnitudes of zeroed weights."""
    points, tasks = magnitude_points(results), results.study.tasks
    shown = sorted({display_name(point.task) for point in points})
    return _figure(
        results,
        points=points,
        draw=functools.partial(draw_magnitudes, points, tasks),
        measured=True,
        caption="How the magnitudes of zeroed weights are distributed: by the thresholded supermask, and by magnitude "
        "pruning of as many weights, all matrices ranked together. Dotted: all weights that could be zeroed, which is "
        "what zeros at random would show. Four bins an octave.",
        alt=f"Histograms of {', '.join(shown)}: magnitude pruning ends where supermasks hardly begin."
        if shown
        else "No data.",
    )


def overlap(results: StudyResults) -> StudyFigure:
    """Figure 7: zeros shared between tasks."""
    points, tasks = overlap_points(results), results.study.tasks
    there = {frozenset((point.task, point.other)) for point in points}
    masked = [task for task in tasks if any(observe(results, arm.name, task).recorded for arm in results.study.arms)]
    unmeasured = [
        f"{display_name(first)} with {display_name(second)} (overlap not measured)"
        for index, first in enumerate(masked)
        for second in masked[index + 1 :]
        if frozenset((first, second)) not in there
    ]
    return _figure(
        results,
        points=points,
        draw=functools.partial(draw_overlap, points, tasks),
        missing=unmeasured,
        caption="Of the zeros of one task's thresholded mask (across), the percentage that another task's mask "
        "(down) has, too; on the right, what zeros at random within each matrix would give. A cell on the diagonal "
        "compares two seeds of one task.",
        alt=_overlap_in_words(points),
    )


def initial_and_final(results: StudyResults) -> StudyFigure:
    """Figure 9: initial and final sparsity."""
    points, tasks = drift_points(results), results.study.tasks
    moved = {
        direction: sum(1 for point in points if point.mask == "thresholded" and point.change_points * sign > 0)
        for direction, sign in (("sparser", 1), ("denser", -1))
    }
    return _figure(
        results,
        points=points,
        draw=functools.partial(draw_drift, points, tasks),
        caption="Zeros before and after training, above on the whole scale, below as the change. Filled: expected in a "
        "draw, where an untouched mask starts at 0.67 %. Hollow: thresholded.",
        alt=f"Of {sum(moved.values())} thresholded masks that changed, {moved['sparser']} got sparser and "
        f"{moved['denser']} denser."
        if points
        else "No data.",
    )


def distance_over_steps(results: StudyResults) -> StudyFigure:
    """Figure 10: distance over the number of steps."""
    points, tasks = distance_points(results), results.study.tasks
    told = "; ".join(f"{display_name(p.task)} {p.steps:,.0f} steps, {p.angular:.4f}" for p in points)
    return _figure(
        results,
        points=points,
        draw=functools.partial(draw_distances, points, tasks),
        measured=True,
        caption="Mean distance over the self-attention matrices, a marker a task; lines reach from the smallest to the "
        "largest matrix.",
        alt=f"Mean angle in units of π: {told}." if told else "No data.",
    )


FIGURES: Mapping[str, Callable[[StudyResults], StudyFigure]] = {
    "figure2": distances_by_block,
    "figure3": score_over_sparsity,
    "figure4": sparsity_by_block,
    "figure5": magnitude_distributions,
    "figure6": low_sparsity,
    "figure7": overlap,
    "figure8": score_over_sparsity,
    "figure9": initial_and_final,
    "figure10": distance_over_steps,
}
"""The paper's figures by the name of their study."""


def study_figure(results: StudyResults) -> StudyFigure:
    """The figure of a study: the paper's where it is one of these, else scores over sparsity.

    Args:
        results: what is recorded of the study.

    Raises:
        ConfigurationError: if the study is a table.
    """
    if results.study.shows != "figure":
        name = results.study.name
        raise ConfigurationError(f"{name} is a table, not a figure; it is shown by: supermask study table {name}")
    return FIGURES.get(results.study.name, score_over_sparsity)(results)


def _figure(
    results: StudyResults,
    *,
    points: tuple[object, ...],
    draw: Callable[[], object],
    caption: str,
    alt: str,
    measured: bool = False,
    missing: Iterable[str] = (),
    notes: tuple[str, ...] = (),
) -> StudyFigure:
    study = results.study
    recorded = [cell for cell in results.cells if cell.record is not None and cell.record.status == "completed"]
    there = {id(cell) for cell in recorded}
    absent = missing_in_words(cell for cell in results.cells if id(cell) not in there)
    unmeasured = missing_in_words(cell for cell in recorded if cell.measures is None) if measured else ()
    subsets = [f"{note}." for task in study.tasks if (note := subset_note(results, task))]
    return StudyFigure(
        name=study.name,
        title=study.title if study.paper == "ours" else f"{study.paper}. {study.title}",
        caption=caption,
        alt=alt,
        points=points,
        draw=draw,  # type: ignore[arg-type]
        records=tuple(cell.path for cell in recorded if cell.path is not None),
        missing=(*absent, *(f"{phrase}, not measured" for phrase in unmeasured), *missing),
        notes=(*notes, *subsets, *([study.notes] if study.notes else [])),
        command=f"supermask study run {study.name}",
    )


def _scores_in_words(points: tuple[ScorePoint, ...]) -> str:
    phrases = []
    for task in dict.fromkeys(point.task for point in points):
        means = [
            point for point in points if point.task == task and point.seed is None and point.curve != "thresholded"
        ]
        told = ", ".join(f"{point.score_percent:.1f} at {point.sparsity_percent:.1f} % zeros" for point in means)
        phrases.append(f"{display_name(task)}: {told}")
    return "; ".join(phrases) + "." if phrases else "No data."


def _places_in_words(points: tuple[PlacePoint, ...]) -> str:
    phrases = []
    for task, measure in dict.fromkeys((point.task, point.measure) for point in points):
        own = [point for point in points if (point.task, point.measure) == (task, measure)]
        least, most = min(own, key=lambda point: point.value), max(own, key=lambda point: point.value)
        phrases.append(
            f"{display_name(task)}, {measure}: from {least.value:.3g} ({least.role}, block {least.block}) to "
            f"{most.value:.3g} ({most.role}, block {most.block})"
        )
    return "; ".join(phrases) + "." if phrases else "No data."


def _overlap_in_words(points: tuple[OverlapPoint, ...]) -> str:
    phrases = []
    for place in dict.fromkeys(point.place for point in points):
        ratios = [p.ratio for p in points if p.place == place and p.ratio is not None and p.task != p.other]
        if ratios:
            phrases.append(f"{place}: {min(ratios):.2f} to {max(ratios):.2f} times chance")
    return "; ".join(phrases) + "." if phrases else "No data."


def _shown_arms(points: tuple[PlacePoint, ...], results: StudyResults) -> tuple[str, ...]:
    arms = dict.fromkeys(point.arm for point in points)
    return tuple(f"Shown: {results.study.arm(arm).label}." for arm in arms)
