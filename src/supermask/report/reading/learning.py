"""Sections 4.2 and 4.3, Appendices A to C: how well constrained models learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from supermask.report.figures.score_sparsity import ScorePoint, score_points
from supermask.report.observation import Observation, Seeded, display_name, metric_name, observe
from supermask.report.reading.constant_answers import has_room, without_room
from supermask.report.reading.finding import (
    CLOSE_POINTS,
    Finding,
    by_count,
    names,
    over_tasks,
    plus_minus,
    rank_correlation,
)
from supermask.report.results import StudyResults
from supermask.report.tables.arms_table import answers_one_class
from supermask.report.tables.cells import compare, signed

__all__ = ["learning_findings"]

_FEW_SEEDS = 3
_NEAR_POINTS = 12.0
_ROOM = "Counted are tasks whose baseline is farther than that above the best constant answer."


def learning_findings(results: Mapping[str, StudyResults]) -> Iterator[Finding]:
    """What the records say of scores.

    Args:
        results: of the studies, by name.
    """
    if "table3" in results:
        yield _excluded(results["table3"])
    if "figure3" in results:
        yield from _over_sparsity(results["figure3"])
    if "table5" in results:
        yield from _low_sparsity(results["table5"])
    if "table6" in results:
        yield _learning_rate(results["table6"])
    if "figure8" in results:
        yield from _pruning(results["figure8"], results.get("figure3"))
    if "appendix-a" in results:
        yield _head_only(results["appendix-a"])
    if "conventions" in results:
        yield _conventions(results["conventions"])


def _excluded(results: StudyResults) -> Finding:
    arms = results.study.arms
    task = results.study.tasks[0]
    baseline = observe(results, arms[0].name, task)
    worse, told, enough = [], [], bool(baseline.recorded)
    compared = [arm for arm in arms[1:] if arm.method["kind"] == "freezing"]
    for arm in compared:
        seen = observe(results, arm.name, task)
        comparison, scores = compare(seen, baseline, results), seen.score()
        if comparison is None or scores is None:
            enough = False
            continue
        common = set(scores.values) & {cell.spec.seed for cell in baseline.recorded}
        enough = enough and len(common) >= _FEW_SEEDS
        told.append(f"{arm.label}: {signed(comparison.difference)}")
        if comparison.distinguishable and comparison.difference < 0:
            worse.append(arm.label)
    return Finding(
        study=results.study.name,
        claim="Keeping keys, the two deepest blocks or the word embeddings fixed, or all three, does not significantly "
        "degrade the score.",
        verdict="differs" if worse else "agrees" if enough else "open",
        evidence=f"Points of {metric_name(task)} on {display_name(task)} from the baseline: "
        f"{'; '.join(told) or 'no runs'}. "
        + (
            f"Worse beyond the spread: {', '.join(worse)}."
            if worse
            else "None is worse beyond the spread between seeds."
        ),
        criterion=f"No arm lies below the baseline by an interval that excludes 0, with at least {_FEW_SEEDS} seeds in "
        "common; with fewer the question stays open.",
        records=tuple(path for arm in arms for path in observe(results, arm.name, task).paths),
    )


def _over_sparsity(results: StudyResults) -> Iterator[Finding]:
    points = score_points(results)
    drops, idle = _drops(points, results.study.tasks, low=30.0, high=50.0)
    kept = [task for task, drop in drops.items() if drop <= CLOSE_POINTS]
    yield Finding(
        study=results.study.name,
        claim="There is little loss between 1 % and 40 % zeros.",
        verdict=over_tasks(len(kept), len(drops)),
        evidence=_drops_told(drops, f"With 30 to 50 % zeros the loss is small on {len(kept)} of {len(drops)} tasks")
        + without_room(idle),
        criterion=f"The mean over drawn masks lies at most {CLOSE_POINTS} points below full fine-tuning at the paper's "
        f"learning rate: the largest loss in the paper's Table 5. {_ROOM}",
        records=_paths(results),
    )
    late, idle = _drops(points, results.study.tasks, low=55.0, high=100.0)
    fallen = [task for task, drop in late.items() if drop > CLOSE_POINTS]
    yield Finding(
        study=results.study.name,
        claim="Beyond 40 % zeros the score falls.",
        verdict=over_tasks(len(fallen), len(late)),
        evidence=_drops_told(
            late,
            f"At the most zeros recorded, above 55 %, {len(fallen)} of {len(late)} tasks lie far below the baseline",
        )
        + without_room(idle),
        criterion=f"The sparsest mask of a task lies more than {CLOSE_POINTS} points below full fine-tuning. {_ROOM}",
        records=_paths(results),
    )


def _drops(
    points: tuple[ScorePoint, ...], tasks: tuple[str, ...], *, low: float, high: float, curve: str = "sampled"
) -> tuple[dict[str, float], list[str]]:
    """How far below its first baseline each task is at its sparsest point within the range; and tasks without room."""
    found, idle = {}, []
    for task in tasks:
        means = [point for point in points if point.task == task and point.seed is None]
        base = next((point for point in means if point.curve == "baseline"), None)
        there = [p for p in means if p.curve == curve and low <= p.sparsity_percent <= high]
        if base is None or not there:
            continue
        if has_room(task, base.score_percent):
            sparsest = max(there, key=lambda point: point.sparsity_percent)
            found[task] = base.score_percent - sparsest.score_percent
        else:
            idle.append(task)
    return found, idle


def _drops_told(drops: Mapping[str, float], head: str) -> str:
    if not drops:
        return "No task has both a baseline with room to lose and a model of that sparsity."
    told = {task: signed(-drop) for task, drop in drops.items()}
    return f"{head}; points from the baseline: {names(drops, told)}."


def _low_sparsity(results: StudyResults) -> Iterator[Finding]:
    tasks = results.study.tasks
    masks = {task: observe(results, "supermask", task) for task in tasks}
    for arm in (arm for arm in results.study.arms if arm.method["kind"] == "freezing"):
        gaps, told, clear, idle = {}, {}, [], []
        for task in tasks:
            theirs = observe(results, arm.name, task)
            comparison, score = compare(masks[task], theirs, results), theirs.score()
            if comparison is None or score is None:
                continue
            if not has_room(task, score.mean):
                idle.append(task)
                continue
            gaps[task] = comparison.difference
            told[task] = signed(comparison.difference)
            if comparison.distinguishable:
                clear.append(task)
        near = [task for task, gap in gaps.items() if gap >= -CLOSE_POINTS]
        yield Finding(
            study=results.study.name,
            claim="Masks that start dense learn all tasks without significant loss from the baseline.",
            verdict=over_tasks(len(near), len(gaps)),
            evidence=f"Against “{arm.label}”, {len(near)} of {len(gaps)} tasks lie at most {CLOSE_POINTS} points "
            f"below; differences: {names(gaps, told)}. Beyond the spread between seeds: {names(clear) or 'none'}."
            + without_room(idle)
            if gaps
            else f"No task has both a supermask and “{arm.label}” with room to lose.{without_room(idle)}",
            criterion=f"The mean over drawn masks lies at most {CLOSE_POINTS} points below, the largest loss in the "
            f"paper. {_ROOM}",
            records=tuple(
                path for task in tasks for path in (*masks[task].paths, *observe(results, arm.name, task).paths)
            ),
        )
    yield _zeros_and_steps(results, masks)
    yield _few_zeros(results, masks)


def _zeros_and_steps(results: StudyResults, masks: Mapping[str, Observation]) -> Finding:
    pairs: dict[str, tuple[Seeded, Seeded]] = {}
    for task, seen in masks.items():
        steps, zeros = seen.steps(), seen.sampled_sparsity()
        if steps is not None and zeros is not None:
            pairs[task] = (steps, zeros)
    correlation = rank_correlation((steps.mean, zeros.mean) for steps, zeros in pairs.values())
    known = correlation is not None and len(pairs) >= 4
    return Finding(
        study=results.study.name,
        claim="Final sparsity rises with the length of training: from 1.0 % on RTE to 12.9 % on MNLI.",
        verdict=by_count(int((correlation or 0) > 0.8), 1) if known else "open",
        evidence=(
            "" if correlation is None else f"Rank correlation of steps and sampled zeros {plus_minus(correlation)}: "
        )
        + names(pairs, {task: f"{s.mean:,.0f} steps, {z.mean:.1f} %" for task, (s, z) in pairs.items()})
        + ".",
        criterion="Of four tasks or more, the rank correlation of steps with sampled zeros is above 0.8.",
        records=tuple(path for seen in masks.values() for path in seen.paths),
    )


def _few_zeros(results: StudyResults, masks: Mapping[str, Observation]) -> Finding:
    small = [task for task in ("cola", "stsb", "mrpc", "rte") if task in masks]
    zeros = {task: value.mean for task in small if (value := masks[task].sampled_sparsity()) is not None}
    few = [task for task, value in zeros.items() if value < 3.0]
    return Finding(
        study=results.study.name,
        claim="For several tasks less than 3 % zeros suffice: CoLA, STS-B, MRPC and RTE.",
        verdict=over_tasks(len(few), len(zeros)),
        evidence=f"Sampled zeros: {names(zeros, {task: f'{value:.1f} %' for task, value in zeros.items()})}."
        if zeros
        else "None of these tasks is recorded.",
        criterion="Sampled zeros of the mask that started dense are below 3 %.",
        records=tuple(path for task in small for path in masks[task].paths),
    )


def _learning_rate(results: StudyResults) -> Finding:
    task = results.study.tasks[0]
    arms = sorted(results.study.arms, key=lambda arm: -float(arm.method.get("learning_rate", 0.2)))
    scores = {arm.label: observe(results, arm.name, task).sampled_score() for arm in arms}
    known = {label: score.mean for label, score in scores.items() if score is not None}
    first = next(iter(scores))
    below = [label for label in known if label != first and known[first] - known[label] > 0] if first in known else []
    others = len(known) - 1
    return Finding(
        study=results.study.name,
        claim="Masks need a learning rate of 2e-1; at smaller ones the score falls.",
        verdict=by_count(len(below), others) if first in known and others > 1 else "open",
        evidence=f"{metric_name(task)} on {display_name(task)}, drawn masks: "
        + ", ".join(f"{value:.1f} at {label}" for label, value in known.items())
        + ".",
        criterion="Every smaller learning rate that is recorded, two at least, scores lower than the largest.",
        records=_paths(results),
    )


def _pruning(results: StudyResults, masks: StudyResults | None) -> Iterator[Finding]:
    points = score_points(results)
    drops, idle = _drops(points, results.study.tasks, low=45.0, high=52.0, curve="pruned")
    kept = [task for task, drop in drops.items() if drop <= CLOSE_POINTS]
    yield Finding(
        study=results.study.name,
        claim="Iterative pruning holds the score up to 50 % zeros.",
        verdict=over_tasks(len(kept), len(drops)),
        evidence=_drops_told(drops, f"At 50 % zeros it does on {len(kept)} of {len(drops)} tasks") + without_room(idle),
        criterion=f"The pruned model lies at most {CLOSE_POINTS} points below full fine-tuning at the same learning "
        f"rate. {_ROOM}",
        records=_paths(results),
    )
    gaps = _against_masks(points, score_points(masks), results.study.tasks) if masks is not None else {}
    better = [task for task, gap in gaps.items() if gap > 0]
    yield Finding(
        study=results.study.name,
        claim="At high sparsity, iterative pruning does better than supermasks.",
        verdict=over_tasks(len(better), len(gaps)),
        evidence=f"Above 60 % zeros it does on {len(better)} of {len(gaps)} tasks; points above the supermask of "
        f"nearest sparsity: {names(gaps, {task: signed(gap) for task, gap in gaps.items()})}."
        if gaps
        else "No task has a pruned model and a supermask of like sparsity above 60 %.",
        criterion=f"Of points above 60 % zeros that lie within {_NEAR_POINTS:.0f} points of sparsity, the pruned "
        "model scores higher, the mean over such pairs of a task.",
        records=(*_paths(results), *(_paths(masks) if masks is not None else ())),
    )


def _against_masks(
    pruned: tuple[ScorePoint, ...], masked: tuple[ScorePoint, ...], tasks: tuple[str, ...]
) -> dict[str, float]:
    found = {}
    for task in tasks:
        ours = [
            p for p in masked if p.task == task and p.curve == "sampled" and p.seed is None and p.sparsity_percent > 60
        ]
        theirs = [
            p for p in pruned if p.task == task and p.curve == "pruned" and p.seed is None and p.sparsity_percent > 60
        ]
        gaps = []
        for point in ours:
            near = min(theirs, key=lambda other: abs(other.sparsity_percent - point.sparsity_percent), default=None)
            if near is not None and abs(near.sparsity_percent - point.sparsity_percent) <= _NEAR_POINTS:
                gaps.append(near.score_percent - point.score_percent)
        if gaps:
            found[task] = sum(gaps) / len(gaps)
    return found


def _head_only(results: StudyResults) -> Finding:
    task, arm = results.study.tasks[0], results.study.arms[0]
    seen = observe(results, arm.name, task)
    score = seen.score()
    expected = next((e for e in results.study.expected if (e.arm, e.task) == (arm.name, task)), None)
    constant = [answers_one_class(cell.record) for cell in seen.recorded if cell.record is not None]
    held = sum(bool(verdict) for verdict in constant)
    near = score is not None and expected is not None and abs(score.mean - 100 * expected.value) < 0.1
    return Finding(
        study=results.study.name,
        claim="Training the head alone fails: on MRPC the model answers 1 to everything, an F1 of 81.2.",
        verdict="open" if score is None else by_count(int(near) + int(held == len(constant)), 2),
        evidence="No run is recorded."
        if score is None
        else f"F1 {score.mean:.1f}, the mean of {len(constant)} runs; {held} of them answer 1 to everything.",
        criterion="The F1 is 81.2 to within 0.1, and every run's F1 is that of answering 1 to all, given its accuracy.",
        records=seen.paths,
    )


def _conventions(results: StudyResults) -> Finding:
    task = results.study.tasks[0]
    zeros, scores = {}, {}
    for arm in results.study.arms:
        seen = observe(results, arm.name, task)
        sparsity, score = seen.sparsity(), seen.sampled_score()
        if sparsity is not None and score is not None:
            zeros[arm.label], scores[arm.label] = sparsity.mean, score.mean
    if len(zeros) < 2:
        evidence = f"{len(zeros)} of {len(results.study.arms)} settings are recorded."
    else:
        least, most = min(zeros, key=lambda label: zeros[label]), max(zeros, key=lambda label: zeros[label])
        best, worst = max(scores, key=lambda label: scores[label]), min(scores, key=lambda label: scores[label])
        evidence = (
            f"Over {len(zeros)} of {len(results.study.arms)} settings on {display_name(task)}, thresholded zeros go "
            f"from {zeros[least]:.2f} % ({least}) to {zeros[most]:.2f} % ({most}), and scores of drawn masks from "
            f"{scores[worst]:.1f} ({worst}) to {scores[best]:.1f} ({best})."
        )
    return Finding(
        study=results.study.name,
        claim="The paper states neither where the straight-through gradient stops nor Adam's epsilon. How much do "
        "they decide?",
        verdict="ours",
        evidence=evidence,
        criterion="No claim of the paper: ranges over the settings that are recorded.",
        records=_paths(results),
    )


def _paths(results: StudyResults) -> tuple[str, ...]:
    return tuple(cell.path for cell in results.cells if cell.path is not None)
