"""Sections 4.3 to 4.5, Appendix D: what masks look like."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Final

from supermask.analysis import noise_floor
from supermask.report.figures.by_block import place_points
from supermask.report.figures.overlap_grid import PLACES, overlap_points
from supermask.report.figures.sparsity_drift import drift_points
from supermask.report.reading.closeness import depth_correlation, mean_of_roles
from supermask.report.reading.finding import Finding, Verdict, by_count, finding, task_finding
from supermask.report.results import StudyResults
from supermask.report.wording import names, signed

__all__ = ["MASKS"]

_NEAR_CHANCE, _FAR_FROM_CHANCE = 1.25, 2.0
_SPARSER = ("query", "key", "ffn_in")
_DENSER = ("value", "attention_output", "ffn_out")
_UNMEASURED = "No mask was measured."


def _places(results: StudyResults) -> Iterator[Finding]:
    points = place_points(results, ("sparsity",))
    of = {task: [point for point in points if point.task == task] for task in dict.fromkeys(p.task for p in points)}
    means = {task: (mean_of_roles(own, *_SPARSER), mean_of_roles(own, *_DENSER)) for task, own in of.items()}
    yield task_finding(
        results,
        "Query, key and feed-forward-in matrices are sparser than value, attention output and feed-forward-out ones.",
        "On each task, the mean thresholded sparsity of the former three, over all blocks, is higher.",
        {task: sparser > denser for task, (sparser, denser) in means.items()},
        "They are on {held} of {all} tasks; mean zeros of the former and the latter: {names}.",
        {task: f"{sparser:.2f} and {denser:.2f} %" for task, (sparser, denser) in means.items()},
        otherwise=_UNMEASURED,
    )
    slopes = {task: slope for task, own in of.items() if (slope := depth_correlation(own)) is not None}
    yield task_finding(
        results,
        "Shallow blocks are sparser than deep ones.",
        "On each task, the rank correlation of a block's depth with its mean sparsity is below -0.5.",
        {task: slope < -0.5 for task, slope in slopes.items()},
        "They are on {held} of {all} tasks; rank correlation of depth and zeros: {names}.",
        {task: signed(slope, 2) for task, slope in slopes.items()},
        otherwise=_UNMEASURED,
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
        otherwise=_UNMEASURED,
    )
    yield task_finding(
        results,
        "Few of a supermask's zeros are among the smallest weights: 0.7 to 11.1 %.",
        "The overlap with magnitude pruning is at most twice the sparsity, which chance would give.",
        {task: overlap <= 2 * sparsity for task, (overlap, sparsity) in shares.items()},
        "Overlap against what zeros at random would give: {names}.",
        {task: f"{100 * overlap:.1f} against {100 * sparsity:.1f} %" for task, (overlap, sparsity) in shares.items()},
        otherwise=_UNMEASURED,
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
        yield finding(
            results,
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
    yield finding(
        results,
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
    yield finding(
        results,
        "How much of the printed sparsity was learnt? An untouched mask already drops 0.67 % of weights in a draw.",
        "No claim of the paper: both statistics of the same masks, side by side.",
        "ours",
        f"Sampled less thresholded zeros, in points: {names(gaps, gaps)}; the floor is {100 * noise_floor():.2f}. The "
        "paper's 1.0 % on RTE would then be about 0.33 % learnt, its 1.3 % on MRPC 0.63 %."
        if gaps
        else "No supermask is recorded.",
        records=(path for task in gaps for path in seen[task].paths),
    )


MASKS: Final[tuple[tuple[str, Callable[[StudyResults], Iterator[Finding]]], ...]] = (
    ("figure4", _places),
    ("table4", _magnitudes),
    ("figure7", _overlap),
    ("figure9", _drift),
    ("table5", _noise_floor),
)
"""The readers of studies, by their names."""
