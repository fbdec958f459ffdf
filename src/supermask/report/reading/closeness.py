"""Sections 3.2 and 4.1, Appendix E: steps, and how close fine-tuned models stay to the pretrained one."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from supermask.analysis import PAPER_NORMAL, expected_distances, uniform_law
from supermask.report.figures.by_block import PlacePoint, place_points
from supermask.report.figures.distance_steps import DistancePoint, distance_points
from supermask.report.observation import observe, subset_note
from supermask.report.reading.finding import (
    FEWEST_TASKS,
    Finding,
    by_count,
    names,
    over_tasks,
    plus_minus,
    rank_correlation,
)
from supermask.report.results import StudyResults
from supermask.report.tables.table1 import table1
from supermask.report.tables.table2 import attention_matrices

__all__ = ["closeness_findings"]

_CLEAR_CORRELATION = 0.5


def closeness_findings(results: Mapping[str, StudyResults]) -> Iterator[Finding]:
    """What the records say of steps and distances.

    Args:
        results: of the studies, by name.
    """
    if "table1" in results:
        yield _counts(results["table1"])
    if "table2" in results:
        yield from _distances(results["table2"])
    if "figure2" in results:
        yield from _places(results["figure2"])
    if "figure10" in results:
        yield _steps(results["figure10"])


def _counts(results: StudyResults) -> Finding:
    cells = [cell for row in table1(results).rows for cell in row.cells if cell.paper_value is not None]
    same = sum(cell.value == cell.paper_value for cell in cells)
    official, exact = [], []
    for task in results.study.tasks:
        recorded = [cell for arm in results.study.arms for cell in observe(results, arm.name, task).recorded]
        if recorded and subset_note(results, task) is None:
            official.append(task)
            expected = [e.value for e in results.study.expected if (e.task, e.quantity) == (task, "steps")]
            if expected and all(cell.record is not None and cell.record.steps == expected[0] for cell in recorded):
                exact.append(task)
    return Finding(
        study=results.study.name,
        claim="A task adds at most 2,304 parameters, and fine-tuning takes 234 to 36,816 steps.",
        verdict=by_count(same, len(cells)),
        evidence=f"{same} of {len(cells)} printed counts follow from the tasks. Of {len(official)} tasks recorded "
        f"on the official data, {len(exact)} took the printed number of steps in every run.",
        criterion="Counts computed from outputs, hidden size 768 and 3 · ceil(n / 32) equal the printed ones.",
        records=_paths(results),
    )


def _distances(results: StudyResults) -> Iterator[Finding]:
    claim = "Fine-tuned parameters are L1-close and angular-close: far closer than two random initialisations."
    criterion = (
        "The largest distance of a self-attention matrix is below a third (L1, largest column sum) and below a tenth "
        "(angle) of the smaller expectation between random initialisations of that size. In the paper it is a fifth "
        "and a twentieth."
    )
    for arm in results.study.arms:
        seen = [observe(results, arm.name, task) for task in results.study.tasks]
        matrices = [one for each in seen for _, part in each.measured() for one in attention_matrices(part)]
        sums = [one.largest_column_sum for one in matrices if one.largest_column_sum is not None]
        angles = [one.angular for one in matrices if one.angular is not None]
        if not sums or not angles:
            yield _open(results, claim, criterion, f"{arm.label}: no run was measured.")
            continue
        shape = matrices[0].shape
        laws = (uniform_law(shape[0] ** -0.5), PAPER_NORMAL)
        random = [expected_distances(shape, law).largest_column_sum or 0.0 for law in laws]
        near = (max(sums) < min(random) / 3, max(angles) < 0.5 / 10)
        tasks = [each.task for each in seen if each.measured()]
        yield Finding(
            study=results.study.name,
            claim=claim,
            verdict=by_count(sum(near), 2),
            evidence=f"{arm.label}, over {len(tasks)} tasks: L1 at most {max(sums):.2f} where random "
            f"initialisations are {min(random):.1f} apart, angle at most {max(angles):.4f} where they are at 0.5.",
            criterion=criterion,
            records=tuple(path for each in seen for path in each.paths),
        )


def _places(results: StudyResults) -> Iterator[Finding]:
    points = place_points(results, ("l1", "angular"))
    tasks = list(dict.fromkeys(point.task for point in points))
    claims = {
        "depth": "Deeper blocks are less L1-close and more angular-close than shallow ones.",
        "roles": "Value and attention output matrices change more than query and key matrices.",
    }
    depth = (
        f"On each task, the rank correlation of a block's depth with its mean distance is above "
        f"{_CLEAR_CORRELATION} for L1 and below -{_CLEAR_CORRELATION} for the angle."
    )
    roles = "On each task, their mean L1 distance is larger, over all blocks."
    if not tasks:
        yield _open(results, claims["depth"], depth, "No run was measured.")
        yield _open(results, claims["roles"], roles, "No run was measured.")
        return
    slopes = {task: [_slope(_of(points, task, measure)) for measure in ("l1", "angular")] for task in tasks}
    known = {task: pair for task, pair in slopes.items() if None not in pair}
    held_l1 = [task for task, pair in known.items() if (pair[0] or 0) > _CLEAR_CORRELATION]
    held_angle = [task for task, pair in known.items() if (pair[1] or 0) < -_CLEAR_CORRELATION]
    told = {task: f"{plus_minus(pair[0] or 0)} and {plus_minus(pair[1] or 0)}" for task, pair in known.items()}
    yield Finding(
        study=results.study.name,
        claim=claims["depth"],
        verdict=by_count(len(held_l1) + len(held_angle), 2 * len(known)) if len(known) >= FEWEST_TASKS else "open",
        evidence=f"L1 grows with depth on {len(held_l1)} and the angle shrinks on {len(held_angle)} of {len(known)} "
        f"tasks; correlations of L1 and angle: {names(known, told)}.",
        criterion=depth,
        records=_paths(results),
    )
    ratios = {
        task: _mean(_of(points, task, "l1"), ("value", "attention_output"))
        / _mean(_of(points, task, "l1"), ("query", "key"))
        for task in tasks
    }
    more = [task for task in tasks if ratios[task] > 1]
    yield Finding(
        study=results.study.name,
        claim=claims["roles"],
        verdict=over_tasks(len(more), len(tasks)),
        evidence=f"They do on {len(more)} of {len(tasks)} tasks, by a factor of "
        f"{names(tasks, {task: f'{ratio:.2f}' for task, ratio in ratios.items()})}.",
        criterion=roles,
        records=_paths(results),
    )


def _steps(results: StudyResults) -> Finding:
    claim = "Distance grows with the number of fine-tuning steps."
    criterion = "Of four tasks or more, the rank correlation of steps with the mean angle is above 0.8, for every arm."
    correlations: dict[str, float] = {}
    counts: dict[str, int] = {}
    points = distance_points(results)
    for arm in results.study.arms:
        own: list[DistancePoint] = [point for point in points if point.arm == arm.name]
        correlation = rank_correlation((point.steps, point.angular) for point in own)
        counts[arm.label] = len(own)
        if correlation is not None and len(own) >= 4:
            correlations[arm.label] = correlation
    if not correlations:
        return _open(results, claim, criterion, f"Measured tasks: {max(counts.values(), default=0)}.")
    told = "; ".join(
        f"{label}: {plus_minus(value)} over {counts[label]} tasks" for label, value in correlations.items()
    )
    return Finding(
        study=results.study.name,
        claim=claim,
        verdict=by_count(sum(value > 0.8 for value in correlations.values()), len(correlations)),
        evidence=f"Rank correlation of steps and angle: {told}.",
        criterion=criterion,
        records=_paths(results),
    )


def _slope(points: Sequence[PlacePoint]) -> float | None:
    blocks = sorted({point.block for point in points})
    return rank_correlation(
        (block, statistics.fmean(point.value for point in points if point.block == block)) for block in blocks
    )


def _mean(points: Sequence[PlacePoint], roles: tuple[str, ...]) -> float:
    return statistics.fmean(point.value for point in points if point.role in roles)


def _of(points: Sequence[PlacePoint], task: str, measure: str) -> list[PlacePoint]:
    return [point for point in points if point.task == task and point.measure == measure]


def _open(results: StudyResults, claim: str, criterion: str, why: str) -> Finding:
    return Finding(study=results.study.name, claim=claim, verdict="open", evidence=why, criterion=criterion)


def _paths(results: StudyResults) -> tuple[str, ...]:
    return tuple(cell.path for cell in results.cells if cell.path is not None)
