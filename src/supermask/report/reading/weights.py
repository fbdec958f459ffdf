"""Sections 3.2, 4.1, 4.3 to 4.5, Appendices D and E: how far weights move, and where zeros are."""

from __future__ import annotations

import collections
import statistics
from collections.abc import Iterator, Sequence
from typing import Final

from supermask.analysis import PAPER_NORMAL, expected_distances, noise_floor, uniform_law
from supermask.report.figures.by_block import Measure, PlacePoint, place_points
from supermask.report.figures.distance_steps import distance_points
from supermask.report.figures.overlap_grid import PLACES, overlap_points
from supermask.report.figures.sparsity_drift import drift_points
from supermask.report.reading.finding import Finding, Reader, Verdict, by_count, task_finding
from supermask.report.results import StudyResults
from supermask.report.statistics import rank_correlation
from supermask.report.tables.distances import attention_matrices
from supermask.report.tables.layouts import table1
from supermask.report.wording import names, signed

__all__ = ["CLOSENESS", "MASKS"]

_CLEAR_CORRELATION = 0.5
_NEAR_CHANCE, _FAR_FROM_CHANCE = 1.25, 2.0
_SPARSER = ("query", "key", "ffn_in")
_DENSER = ("value", "attention_output", "ffn_out")
_NO_RUN, _NO_MASK = "No run was measured.", "No mask was measured."


def _counts(results: StudyResults) -> Iterator[Finding]:
    cells = [cell for _, _, cell in table1(results).placed() if cell.paper_value is not None]
    same = sum(cell.value == cell.paper_value for cell in cells)
    steps: dict[str, set[float]] = {}
    for cell in results.cells:
        if cell.record is not None and results.subset(cell.spec.task) is None:
            steps.setdefault(cell.spec.task, set()).add(cell.record.steps)
    printed = {number.task: {number.value} for number in results.study.expected if number.quantity == "steps"}
    exact = [task for task, taken in steps.items() if printed.get(task) == taken]
    yield Finding(
        results.study.name,
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
            yield Finding(results.study.name, claim, criterion, "open", f"{arm.label}: no run was measured.")
            continue
        shape = matrices[0].shape
        laws = (uniform_law(shape[0] ** -0.5), PAPER_NORMAL)
        random = min(expected_distances(shape, law).largest_column_sum or 0.0 for law in laws)
        yield Finding(
            results.study.name,
            claim,
            criterion,
            by_count((max(sums) < random / 3) + (max(angles) < 0.5 / 10), 2),
            f"{arm.label}, over {sum(bool(one.measured()) for one in seen)} tasks: L1 at most {max(sums):.2f} where "
            f"random initialisations are {random:.1f} apart, angle at most {max(angles):.4f} where they are at 0.5.",
        )


def _places(results: StudyResults) -> Iterator[Finding]:
    lengths, angles = (_by_task(results, measure) for measure in ("l1", "angular"))
    slopes = {task: (_depth_correlation(own), _depth_correlation(angles[task])) for task, own in lengths.items()}
    known = {task: (l1, angle) for task, (l1, angle) in slopes.items() if l1 is not None and angle is not None}
    deeper = sum(l1 > _CLEAR_CORRELATION for l1, _ in known.values())
    turned = sum(angle < -_CLEAR_CORRELATION for _, angle in known.values())
    told = {task: f"{signed(l1, 2)} and {signed(angle, 2)}" for task, (l1, angle) in known.items()}
    yield Finding(
        results.study.name,
        "Deeper blocks are less L1-close and more angular-close than shallow ones.",
        f"On each task, the rank correlation of a block's depth with its mean distance is above "
        f"{_CLEAR_CORRELATION} for L1 and below -{_CLEAR_CORRELATION} for the angle.",
        by_count(deeper + turned, 2 * len(known)) if len(known) > 1 else "open",
        f"L1 grows with depth on {deeper} and the angle shrinks on {turned} of {len(known)} "
        f"tasks; correlations of L1 and angle: {names(told, told)}."
        if lengths
        else _NO_RUN,
    )
    values, keys = ("value", "attention_output"), ("query", "key")
    ratios = {task: _mean_of_roles(own, *values) / _mean_of_roles(own, *keys) for task, own in lengths.items()}
    yield task_finding(
        results,
        "Value and attention output matrices change more than query and key matrices.",
        "On each task, their mean L1 distance is larger, over all blocks.",
        {task: ratio > 1 for task, ratio in ratios.items()},
        "They do on {held} of {all} tasks, by a factor of {names}.",
        {task: f"{ratio:.2f}" for task, ratio in ratios.items()},
        otherwise=_NO_RUN,
    )


def _steps(results: StudyResults) -> Iterator[Finding]:
    points = tuple(distance_points(results))
    of = {arm.label: [(p.steps, p.angular) for p in points if p.arm == arm.name] for arm in results.study.arms}
    every = {label: rank_correlation(own) if len(own) >= 4 else None for label, own in of.items()}
    known = {label: correlation for label, correlation in every.items() if correlation is not None}
    told = (f"{label}: {signed(value, 2)} over {len(of[label])} tasks" for label, value in known.items())
    yield Finding(
        results.study.name,
        "Distance grows with the number of fine-tuning steps.",
        "Of four tasks or more, the rank correlation of steps with the mean angle is above 0.8, for every arm.",
        by_count(sum(value > 0.8 for value in known.values()), len(known)),
        f"Rank correlation of steps and angle: {'; '.join(told)}."
        if known
        else f"Measured tasks: {max(map(len, of.values()))}.",
    )


def _by_task(results: StudyResults, measure: Measure) -> dict[str, list[PlacePoint]]:
    of: dict[str, list[PlacePoint]] = collections.defaultdict(list)
    for point in place_points(results, (measure,)):
        of[point.task].append(point)
    return of


def _depth_correlation(points: Sequence[PlacePoint]) -> float | None:
    blocks = sorted({point.block for point in points})
    return rank_correlation((b, statistics.fmean(point.value for point in points if point.block == b)) for b in blocks)


def _mean_of_roles(points: Sequence[PlacePoint], *roles: str) -> float:
    values = [point.value for point in points if point.role in roles]
    return statistics.fmean(values) if values else 0.0


def _zeros(results: StudyResults) -> Iterator[Finding]:
    of = _by_task(results, "sparsity")
    means = {task: (_mean_of_roles(own, *_SPARSER), _mean_of_roles(own, *_DENSER)) for task, own in of.items()}
    yield task_finding(
        results,
        "Query, key and feed-forward-in matrices are sparser than value, attention output and feed-forward-out ones.",
        "On each task, the mean thresholded sparsity of the former three, over all blocks, is higher.",
        {task: sparser > denser for task, (sparser, denser) in means.items()},
        "They are on {held} of {all} tasks; mean zeros of the former and the latter: {names}.",
        {task: f"{sparser:.2f} and {denser:.2f} %" for task, (sparser, denser) in means.items()},
        otherwise=_NO_MASK,
    )
    slopes = {task: slope for task, own in of.items() if (slope := _depth_correlation(own)) is not None}
    yield task_finding(
        results,
        "Shallow blocks are sparser than deep ones.",
        "On each task, the rank correlation of a block's depth with its mean sparsity is below -0.5.",
        {task: slope < -0.5 for task, slope in slopes.items()},
        "They are on {held} of {all} tasks; rank correlation of depth and zeros: {names}.",
        {task: signed(slope, 2) for task, slope in slopes.items()},
        otherwise=_NO_MASK,
    )


def _magnitudes(results: StudyResults) -> Iterator[Finding]:
    magnitudes, shares = {}, {}
    for seen in results.over_tasks(results.study.arms[0].name):
        for _, measures in seen.measured():
            against = measures.against_magnitude("global")
            if measures.zeroed is not None and against is not None and measures.zeroed.weights:
                magnitudes[seen.task] = measures.zeroed.mean, against.pruned.max
                if against.overlap is not None and measures.sparsity is not None:
                    shares[seen.task] = against.overlap, measures.sparsity
                break
    yield task_finding(
        results,
        "What supermasks zero is far larger than what magnitude pruning would zero.",
        "The mean magnitude of zeroed weights is above the largest that global magnitude pruning of as many zeroes.",
        {task: mean > largest for task, (mean, largest) in magnitudes.items()},
        "On {held} of {all} tasks the mean of the former exceeds the largest of the latter: {names}.",
        {task: f"{mean:.3f} against {largest:.4f}" for task, (mean, largest) in magnitudes.items()},
        otherwise=_NO_MASK,
    )
    yield task_finding(
        results,
        "Few of a supermask's zeros are among the smallest weights: 0.7 to 11.1 %.",
        "The overlap with magnitude pruning is at most twice the sparsity, which chance would give.",
        {task: overlap <= 2 * sparsity for task, (overlap, sparsity) in shares.items()},
        "Overlap against what zeros at random would give: {names}.",
        {task: f"{100 * overlap:.1f} against {100 * sparsity:.1f} %" for task, (overlap, sparsity) in shares.items()},
        otherwise=_NO_MASK,
    )


def _overlap(results: StudyResults) -> Iterator[Finding]:
    points = [point for point in overlap_points(results) if point.task != point.other]
    for place in PLACES:
        here = [point for point in points if point.place == place]
        ratios = [point.ratio for point in here if point.ratio is not None]
        given = [point.rows_and_columns_ratio for point in here if point.rows_and_columns_ratio is not None]
        verdict: Verdict = "open"
        evidence = "No pair of masks was measured."
        if ratios:
            middle = statistics.median(ratios)
            verdict = "agrees" if middle <= _NEAR_CHANCE else "differs" if middle >= _FAR_FROM_CHANCE else "mixed"
            evidence = (
                f"Shared zeros are {min(ratios):.2f} to {max(ratios):.2f} times chance, the median "
                f"{middle:.2f}, over {len(here) // 2} pairs of tasks"
                + (f"; {statistics.median(given):.2f} times what rows and columns account for." if given else ".")
            )
        yield Finding(
            results.study.name,
            f"Masks of different tasks overlap not substantially more than by chance ({place}).",
            f"The median ratio to chance is at most {_NEAR_CHANCE}; from {_FAR_FROM_CHANCE:.0f} on it "
            "differs. With millions of weights every ratio but 1 is significant, so its size is judged.",
            verdict,
            evidence,
        )


def _drift(results: StudyResults) -> Iterator[Finding]:
    points = [point for point in drift_points(results) if point.mask == "thresholded"]
    low = [point.change_points > 0 for point in points if point.initial_percent < 30]
    high = [point.change_points < 0 for point in points if point.initial_percent > 60]
    yield Finding(
        results.study.name,
        "Masks that start dense get sparser, and masks that start sparse get denser.",
        "Thresholded zeros rise from initial sparsities below 30 % and fall from those above 60 %, on "
        "every task; both are recorded.",
        by_count(sum(low) + sum(high), len(low) + len(high)) if low and high else "open",
        f"Of {len(low)} masks that started below 30 % zeros, {sum(low)} got sparser; of {len(high)} that "
        f"started above 60 %, {sum(high)} got denser."
        if points
        else "No mask is recorded.",
    )


def _noise_floor(results: StudyResults) -> Iterator[Finding]:
    seen = {one.task: one for one in results.over_tasks("supermask")}
    both = {task: (one.sampled_sparsity(), one.sparsity()) for task, one in seen.items()}
    gaps = {task: f"{drawn.mean - kept.mean:.2f}" for task, (drawn, kept) in both.items() if drawn and kept}
    yield Finding(
        results.study.name,
        "How much of the printed sparsity was learnt? An untouched mask already drops 0.67 % of weights in a draw.",
        "No claim of the paper: both statistics of the same masks, side by side.",
        "ours",
        f"Sampled less thresholded zeros, in points: {names(gaps, gaps)}; the floor is {100 * noise_floor():.2f}. The "
        "paper's 1.0 % on RTE would then be about 0.33 % learnt, its 1.3 % on MRPC 0.63 %."
        if gaps
        else "No supermask is recorded.",
    )


CLOSENESS: Final[tuple[Reader, ...]] = (
    ("table1", _counts),
    ("table2", _distances),
    ("figure2", _places),
    ("figure10", _steps),
)
MASKS: Final[tuple[Reader, ...]] = (
    ("figure4", _zeros),
    ("table4", _magnitudes),
    ("figure7", _overlap),
    ("figure9", _drift),
    ("table5", _noise_floor),
)
