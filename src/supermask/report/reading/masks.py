"""Sections 4.3 to 4.5, Appendix D: what masks look like."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping

from supermask.analysis import noise_floor
from supermask.report.figures.by_block import PlacePoint, place_points
from supermask.report.figures.overlap_grid import overlap_points
from supermask.report.figures.sparsity_drift import drift_points
from supermask.report.observation import observe
from supermask.report.reading.finding import Finding, by_count, names, over_tasks, plus_minus, rank_correlation
from supermask.report.results import StudyResults

__all__ = ["mask_findings"]

_NEAR_CHANCE, _FAR_FROM_CHANCE = 1.25, 2.0
_SPARSER = ("query", "key", "ffn_in")
_DENSER = ("value", "attention_output", "ffn_out")


def mask_findings(results: Mapping[str, StudyResults]) -> Iterator[Finding]:
    """What the records say of where zeros are.

    Args:
        results: of the studies, by name.
    """
    if "figure4" in results:
        yield from _places(results["figure4"])
    if "table4" in results:
        yield from _magnitudes(results["table4"])
    if "figure7" in results:
        yield from _overlap(results["figure7"])
    if "figure9" in results:
        yield _drift(results["figure9"])
    if "table5" in results:
        yield _noise_floor(results["table5"])


def _places(results: StudyResults) -> Iterator[Finding]:
    points = place_points(results, ("sparsity",))
    tasks = list(dict.fromkeys(point.task for point in points))
    means = {task: [_mean(points, task, roles) for roles in (_SPARSER, _DENSER)] for task in tasks}
    held = [task for task, (sparser, denser) in means.items() if sparser > denser]
    yield Finding(
        study=results.study.name,
        claim="Query, key and feed-forward-in matrices are sparser than value, attention output and "
        "feed-forward-out ones.",
        verdict=over_tasks(len(held), len(tasks)),
        evidence=f"They are on {len(held)} of {len(tasks)} tasks; mean zeros of the former and the latter: "
        f"{names(tasks, {task: f'{first:.2f} and {second:.2f} %' for task, (first, second) in means.items()})}."
        if tasks
        else "No mask was measured.",
        criterion="On each task, the mean thresholded sparsity of the former three, over all blocks, is higher.",
        records=_paths(results),
    )
    slopes = {task: slope for task in tasks if (slope := _slope(points, task)) is not None}
    falling = [task for task, slope in slopes.items() if slope < -0.5]
    yield Finding(
        study=results.study.name,
        claim="Shallow blocks are sparser than deep ones.",
        verdict=over_tasks(len(falling), len(slopes)),
        evidence=f"They are on {len(falling)} of {len(slopes)} tasks; rank correlation of depth and zeros: "
        f"{names(slopes, {task: plus_minus(slope) for task, slope in slopes.items()})}."
        if slopes
        else "No mask was measured.",
        criterion="On each task, the rank correlation of a block's depth with its mean sparsity is below -0.5.",
        records=_paths(results),
    )


def _mean(points: tuple[PlacePoint, ...], task: str, roles: tuple[str, ...]) -> float:
    values = [point.value for point in points if point.task == task and point.role in roles]
    return statistics.fmean(values) if values else 0.0


def _slope(points: tuple[PlacePoint, ...], task: str) -> float | None:
    own = [point for point in points if point.task == task]
    blocks = sorted({point.block for point in own})
    return rank_correlation((b, statistics.fmean(point.value for point in own if point.block == b)) for b in blocks)


def _magnitudes(results: StudyResults) -> Iterator[Finding]:
    arm = results.study.arms[0].name
    larger, told, below, shares = [], {}, [], {}
    for task in results.study.tasks:
        for _, measures in observe(results, arm, task).measured():
            against = measures.against_magnitude("global")
            if measures.zeroed is None or against is None or not measures.zeroed.weights:
                continue
            told[task] = f"{measures.zeroed.mean:.3f} against {against.pruned.max:.4f}"
            if measures.zeroed.mean > against.pruned.max:
                larger.append(task)
            overlap, sparsity = against.overlap, measures.sparsity
            if overlap is not None and sparsity is not None:
                shares[task] = f"{100 * overlap:.1f} against {100 * sparsity:.1f} %"
                if overlap <= 2 * sparsity:
                    below.append(task)
            break
    yield Finding(
        study=results.study.name,
        claim="What supermasks zero is far larger than what magnitude pruning would zero.",
        verdict=over_tasks(len(larger), len(told)),
        evidence=f"On {len(larger)} of {len(told)} tasks the mean of the former exceeds the largest of the latter: "
        f"{names(told, told)}."
        if told
        else "No mask was measured.",
        criterion="The mean magnitude of zeroed weights is above the largest that global magnitude pruning of as "
        "many zeroes.",
        records=_paths(results),
    )
    yield Finding(
        study=results.study.name,
        claim="Few of a supermask's zeros are among the smallest weights: 0.7 to 11.1 %.",
        verdict=over_tasks(len(below), len(shares)),
        evidence=f"Overlap against what zeros at random would give: {names(shares, shares)}."
        if shares
        else "No mask was measured.",
        criterion="The overlap with magnitude pruning is at most twice the sparsity, which chance would give.",
        records=_paths(results),
    )


def _overlap(results: StudyResults) -> Iterator[Finding]:
    points = [point for point in overlap_points(results) if point.task != point.other]
    for place in ("first block's value matrix", "all masked weights"):
        here = [point for point in points if point.place == place]
        ratios = [point.ratio for point in here if point.ratio is not None]
        given = [point.rows_and_columns_ratio for point in here if point.rows_and_columns_ratio is not None]
        middle = statistics.median(ratios) if ratios else None
        yield Finding(
            study=results.study.name,
            claim=f"Masks of different tasks overlap not substantially more than by chance ({place}).",
            verdict="open"
            if middle is None
            else "agrees"
            if middle <= _NEAR_CHANCE
            else "differs"
            if middle >= _FAR_FROM_CHANCE
            else "mixed",
            evidence=f"Shared zeros are {min(ratios):.2f} to {max(ratios):.2f} times chance, the median "
            f"{middle:.2f}, over {len(here) // 2} pairs of tasks"
            + (f"; {statistics.median(given):.2f} times what rows and columns account for." if given else ".")
            if middle is not None
            else "No pair of masks was measured.",
            criterion=f"The median ratio to chance is at most {_NEAR_CHANCE}; from {_FAR_FROM_CHANCE:.0f} on it "
            "differs. With millions of weights every ratio but 1 is significant, so its size is judged.",
            records=_paths(results),
        )


def _drift(results: StudyResults) -> Finding:
    points = [point for point in drift_points(results) if point.mask == "thresholded"]
    low = [point for point in points if point.initial_percent < 30]
    high = [point for point in points if point.initial_percent > 60]
    rising = sum(point.change_points > 0 for point in low)
    falling = sum(point.change_points < 0 for point in high)
    return Finding(
        study=results.study.name,
        claim="Masks that start dense get sparser, and masks that start sparse get denser.",
        verdict=by_count(rising + falling, len(low) + len(high)) if low and high else "open",
        evidence=f"Of {len(low)} masks that started below 30 % zeros, {rising} got sparser; of {len(high)} that "
        f"started above 60 %, {falling} got denser."
        if points
        else "No mask is recorded.",
        criterion="Thresholded zeros rise from initial sparsities below 30 % and fall from those above 60 %, on "
        "every task; both are recorded.",
        records=_paths(results),
    )


def _noise_floor(results: StudyResults) -> Finding:
    floor = 100 * noise_floor()
    gaps = {}
    for task in results.study.tasks:
        seen = observe(results, "supermask", task)
        sampled, thresholded = seen.sampled_sparsity(), seen.sparsity()
        if sampled is not None and thresholded is not None:
            gaps[task] = sampled.mean - thresholded.mean
    return Finding(
        study=results.study.name,
        claim="How much of the printed sparsity was learnt? An untouched mask already drops 0.67 % of weights in a "
        "draw.",
        verdict="ours",
        evidence=f"Sampled less thresholded zeros, in points: "
        f"{names(gaps, {task: f'{gap:.2f}' for task, gap in gaps.items()})}; "
        f"the floor is {floor:.2f}. The paper's 1.0 % on RTE would then be about 0.33 % learnt, its 1.3 % on MRPC "
        f"0.63 %."
        if gaps
        else "No supermask is recorded.",
        criterion="No claim of the paper: both statistics of the same masks, side by side.",
        records=tuple(path for task in gaps for path in observe(results, "supermask", task).paths),
    )


def _paths(results: StudyResults) -> tuple[str, ...]:
    return tuple(cell.path for cell in results.cells if cell.path is not None)
