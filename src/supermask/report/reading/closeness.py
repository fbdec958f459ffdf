"""Sections 3.2 and 4.1, Appendix E: steps, and how close fine-tuned models stay to the pretrained one."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from supermask.analysis import PAPER_NORMAL, expected_distances, uniform_law
from supermask.report.figures.by_block import PlacePoint, place_points
from supermask.report.figures.distance_steps import distance_points
from supermask.report.reading.finding import Finding, by_count, finding, task_finding
from supermask.report.results import StudyResults
from supermask.report.statistics import rank_correlation
from supermask.report.tables.distances import attention_matrices
from supermask.report.tables.layouts import table1
from supermask.report.wording import names, signed

__all__ = ["CLOSENESS", "depth_correlation", "mean_of_roles"]

_CLEAR_CORRELATION = 0.5


def _counts(results: StudyResults) -> Iterator[Finding]:
    cells = [cell for _, _, cell in table1(results).placed() if cell.paper_value is not None]
    same = sum(cell.value == cell.paper_value for cell in cells)
    steps: dict[str, list[int]] = {}
    for cell in results.cells:
        if cell.record is not None and results.subset(cell.spec.task) is None:
            steps.setdefault(cell.spec.task, []).append(cell.record.steps)
    printed = {number.task: number.value for number in results.study.expected if number.quantity == "steps"}
    exact = [task for task, taken in steps.items() if task in printed and set(taken) == {printed[task]}]
    yield finding(
        results,
        "A task adds at most 2,304 parameters, and fine-tuning takes 234 to 36,816 steps.",
        "Counts computed from outputs, hidden size 768 and 3 · ceil(n / 32) equal the printed ones.",
        by_count(same, len(cells)),
        f"{same} of {len(cells)} printed counts follow from the tasks. Of {len(steps)} tasks recorded "
        f"on the official data, {len(exact)} took the printed number of steps in every run.",
    )


def _distances(results: StudyResults) -> Iterator[Finding]:
    claim = "Fine-tuned parameters are L1-close and angular-close: far closer than two random initialisations."
    criterion = (
        "The largest distance of a self-attention matrix is below a third (L1, largest column sum) and below a tenth "
        "(angle) of the smaller expectation between random initialisations of that size. In the paper it is a fifth "
        "and a twentieth."
    )
    for arm in results.study.arms:
        seen = results.over_tasks(arm.name)
        matrices = attention_matrices(seen)
        sums = [one.largest_column_sum for one in matrices if one.largest_column_sum is not None]
        angles = [one.angular for one in matrices if one.angular is not None]
        if not sums or not angles:
            yield finding(results, claim, criterion, "open", f"{arm.label}: no run was measured.", records=())
            continue
        shape = matrices[0].shape
        laws = (uniform_law(shape[0] ** -0.5), PAPER_NORMAL)
        random = min(expected_distances(shape, law).largest_column_sum or 0.0 for law in laws)
        yield finding(
            results,
            claim,
            criterion,
            by_count((max(sums) < random / 3) + (max(angles) < 0.5 / 10), 2),
            f"{arm.label}, over {sum(bool(one.measured()) for one in seen)} tasks: L1 at most {max(sums):.2f} where "
            f"random initialisations are {random:.1f} apart, angle at most {max(angles):.4f} where they are at 0.5.",
            records=(path for one in seen for path in one.paths),
        )


def _places(results: StudyResults) -> Iterator[Finding]:
    points = place_points(results, ("l1", "angular"))
    tasks = tuple(dict.fromkeys(point.task for point in points))
    of = {(point.task, point.measure): [] for point in points}  # type: dict[tuple[str, str], list[PlacePoint]]
    for point in points:
        of[point.task, point.measure].append(point)
    slopes = {task: (depth_correlation(of[task, "l1"]), depth_correlation(of[task, "angular"])) for task in tasks}
    known = {task: (l1, angle) for task, (l1, angle) in slopes.items() if l1 is not None and angle is not None}
    deeper = sum(l1 > _CLEAR_CORRELATION for l1, _ in known.values())
    turned = sum(angle < -_CLEAR_CORRELATION for _, angle in known.values())
    told = {task: f"{signed(l1, 2)} and {signed(angle, 2)}" for task, (l1, angle) in known.items()}
    yield finding(
        results,
        "Deeper blocks are less L1-close and more angular-close than shallow ones.",
        f"On each task, the rank correlation of a block's depth with its mean distance is above "
        f"{_CLEAR_CORRELATION} for L1 and below -{_CLEAR_CORRELATION} for the angle.",
        by_count(deeper + turned, 2 * len(known)) if len(known) > 1 else "open",
        f"L1 grows with depth on {deeper} and the angle shrinks on {turned} of {len(known)} "
        f"tasks; correlations of L1 and angle: {names(told, told)}."
        if tasks
        else "No run was measured.",
        records=None if tasks else (),
    )
    ratios = {
        task: mean_of_roles(of[task, "l1"], "value", "attention_output") / mean_of_roles(of[task, "l1"], "query", "key")
        for task in tasks
    }
    yield task_finding(
        results,
        "Value and attention output matrices change more than query and key matrices.",
        "On each task, their mean L1 distance is larger, over all blocks.",
        {task: ratio > 1 for task, ratio in ratios.items()},
        "They do on {held} of {all} tasks, by a factor of {names}.",
        {task: f"{ratio:.2f}" for task, ratio in ratios.items()},
        otherwise="No run was measured.",
        records=None if tasks else (),
    )


def _steps(results: StudyResults) -> Iterator[Finding]:
    points = tuple(distance_points(results))
    correlations: dict[str, tuple[float, int]] = {}
    for arm in results.study.arms:
        own = [(point.steps, point.angular) for point in points if point.arm == arm.name]
        correlation = rank_correlation(own) if len(own) >= 4 else None
        if correlation is not None:
            correlations[arm.label] = correlation, len(own)
    told = (f"{label}: {signed(value, 2)} over {tasks} tasks" for label, (value, tasks) in correlations.items())
    most = max((sum(point.arm == arm.name for point in points) for arm in results.study.arms), default=0)
    yield finding(
        results,
        "Distance grows with the number of fine-tuning steps.",
        "Of four tasks or more, the rank correlation of steps with the mean angle is above 0.8, for every arm.",
        by_count(sum(value > 0.8 for value, _ in correlations.values()), len(correlations)),
        f"Rank correlation of steps and angle: {'; '.join(told)}." if correlations else f"Measured tasks: {most}.",
        records=None if correlations else (),
    )


def depth_correlation(points: Sequence[PlacePoint]) -> float | None:
    """Rank correlation of a block's depth with the mean value of its matrices."""
    blocks = sorted({point.block for point in points})
    return rank_correlation((b, statistics.fmean(point.value for point in points if point.block == b)) for b in blocks)


def mean_of_roles(points: Sequence[PlacePoint], *roles: str) -> float:
    """Mean value of some kinds of matrices, over all blocks; 0 without any."""
    values = [point.value for point in points if point.role in roles]
    return statistics.fmean(values) if values else 0.0


CLOSENESS: Final[tuple[tuple[str, Callable[[StudyResults], Iterator[Finding]]], ...]] = (
    ("table1", _counts),
    ("table2", _distances),
    ("figure2", _places),
    ("figure10", _steps),
)
"""The readers of studies, by their names."""
