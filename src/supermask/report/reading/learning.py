"""Sections 4.2 and 4.3, Appendices A to C: how well constrained models learn."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from supermask.report.figures.scores import ScorePoint, score_points
from supermask.report.reading.finding import Finding, Reader, by_count, task_finding
from supermask.report.results import Observation, StudyResults
from supermask.report.statistics import rank_correlation
from supermask.report.tables.cells import answers_one_class, compare
from supermask.report.wording import display_name, metric_name, names, signed

__all__ = ["CLOSE_POINTS", "CONSTANT_ANSWER_PERCENT", "LEARNING", "higher_sparsity"]

CLOSE_POINTS: Final = 4.4
"""How many points below the baseline still count as little: the largest drop in the paper's own Table 5 (CoLA)."""

CONSTANT_ANSWER_PERCENT: Final[Mapping[str, float]] = {
    "mnli": 35.4,  # entailment, of dev_matched
    "qqp": 53.8,  # F1 of answering 1 to all
    "qnli": 50.5,
    "sst2": 50.9,
    "cola": 0.0,
    "stsb": 0.0,
    "mrpc": 81.2,  # F1 of answering 1 to all
    "rte": 52.7,
}
"""Primary metric in percent of the best constant answer on the official development files; below, nothing is learnt."""

_FEW_SEEDS = 3
_NEAR_POINTS = 12.0
_ROOM = "Counted are tasks whose baseline is farther than that above the best constant answer."


def _excluded(results: StudyResults) -> Iterator[Finding]:
    task, (base, *others) = results.study.tasks[0], results.study.arms
    baseline = results.observe(base.name, task)
    worse, told, enough = [], [], bool(baseline.records)
    for arm in (arm for arm in others if arm.method["kind"] == "freezing"):
        seen = baseline.beside(arm.name)
        comparison = compare(seen, baseline)
        enough = enough and comparison is not None and len(seen.records.keys() & baseline.records) >= _FEW_SEEDS
        if comparison is not None:
            told.append(f"{arm.label}: {signed(comparison.difference)}")
            worse += [arm.label] if comparison.distinguishable and comparison.difference < 0 else []
    clear = f"Worse beyond the spread: {', '.join(worse)}" if worse else "None is worse beyond the spread between seeds"
    yield Finding(
        results.study.name,
        "Keeping keys, the two deepest blocks or the word embeddings fixed, or all three, does not significantly "
        "degrade the score.",
        f"No arm lies below the baseline by an interval that excludes 0, with at least {_FEW_SEEDS} seeds in "
        "common; with fewer the question stays open.",
        "differs" if worse else "agrees" if enough else "open",
        f"Points of {metric_name(task)} on {display_name(task)} from the baseline: {'; '.join(told) or 'no runs'}. "
        f"{clear}.",
    )


def _over_sparsity(results: StudyResults) -> Iterator[Finding]:
    yield _drop_finding(
        results,
        "There is little loss between 1 % and 40 % zeros.",
        f"The mean over drawn masks lies at most {CLOSE_POINTS} points below full fine-tuning at the paper's "
        f"learning rate: the largest loss in the paper's Table 5. {_ROOM}",
        "With 30 to 50 % zeros the loss is small on {held} of {all} tasks",
        within=(30.0, 50.0),
    )
    yield _drop_finding(
        results,
        "Beyond 40 % zeros the score falls.",
        f"The sparsest mask of a task lies more than {CLOSE_POINTS} points below full fine-tuning. {_ROOM}",
        "At the most zeros recorded, above 55 %, {held} of {all} tasks lie far below the baseline",
        within=(55.0, 100.0),
        falls=True,
    )


def _pruning(results: StudyResults) -> Iterator[Finding]:
    yield _drop_finding(
        results,
        "Iterative pruning holds the score up to 50 % zeros.",
        f"The pruned model lies at most {CLOSE_POINTS} points below full fine-tuning at the same learning "
        f"rate. {_ROOM}",
        "At 50 % zeros it does on {held} of {all} tasks",
        within=(45.0, 52.0),
        curve="pruned",
    )


def _drop_finding(
    results: StudyResults,
    claim: str,
    criterion: str,
    head: str,
    *,
    within: tuple[float, float],
    curve: str = "sampled",
    falls: bool = False,
) -> Finding:
    """Whether each task stays near its first baseline, or falls from it, at its sparsest point within a range."""
    drops, idle = {}, []
    for task, means in _means(results).items():
        base = next((point.score_percent for point in means if point.curve == "baseline"), None)
        there = [p for p in means if p.curve == curve and within[0] <= p.sparsity_percent <= within[1]]
        if base is None or not there:
            continue
        if has_room(task, base):
            drops[task] = base - max(there, key=lambda point: point.sparsity_percent).score_percent
        else:
            idle.append(task)
    return task_finding(
        results,
        claim,
        criterion,
        {task: (drop > CLOSE_POINTS) == falls for task, drop in drops.items()},
        f"{head}; points from the baseline: {{names}}.",
        {task: signed(-drop) for task, drop in drops.items()},
        otherwise="No task has both a baseline with room to lose and a model of that sparsity.",
        after=_without_room(idle),
    )


def higher_sparsity(results: StudyResults, masks: StudyResults | None) -> Finding:
    """The study of pruning against that of supermasks, at like sparsity."""
    pruned, masked = _means(results), {} if masks is None else _means(masks)
    gaps = {}
    for task in results.study.tasks:
        theirs = [p for p in pruned.get(task, ()) if p.curve == "pruned" and p.sparsity_percent > 60]
        found = []
        for point in (p for p in masked.get(task, ()) if p.curve == "sampled" and p.sparsity_percent > 60):
            zeros = point.sparsity_percent
            near = min(theirs, key=lambda other: abs(other.sparsity_percent - zeros), default=None)
            if near is not None and abs(near.sparsity_percent - zeros) <= _NEAR_POINTS:
                found.append(near.score_percent - point.score_percent)
        if found:
            gaps[task] = statistics.fmean(found)
    return task_finding(
        results,
        "At high sparsity, iterative pruning does better than supermasks.",
        f"Of points above 60 % zeros that lie within {_NEAR_POINTS:.0f} points of sparsity, the pruned "
        "model scores higher, the mean over such pairs of a task.",
        {task: gap > 0 for task, gap in gaps.items()},
        "Above 60 % zeros it does on {held} of {all} tasks; points above the supermask of nearest sparsity: {names}.",
        {task: signed(gap) for task, gap in gaps.items()},
        otherwise="No task has a pruned model and a supermask of like sparsity above 60 %.",
    )


def _means(results: StudyResults) -> dict[str, Sequence[ScorePoint]]:
    points = [point for point in score_points(results) if point.seed is None]
    return {task: [point for point in points if point.task == task] for task in results.study.tasks}


def _low_sparsity(results: StudyResults) -> Iterator[Finding]:
    masks = {seen.task: seen for seen in results.over_tasks("supermask")}
    for arm in (arm for arm in results.study.arms if arm.method["kind"] == "freezing"):
        gaps, clear, idle = {}, [], []
        for theirs in results.over_tasks(arm.name):
            comparison, score = compare(masks[theirs.task], theirs), theirs.score()
            if comparison is None or score is None:
                continue
            if not has_room(theirs.task, score.mean):
                idle.append(theirs.task)
                continue
            gaps[theirs.task] = comparison.difference
            clear += [theirs.task] if comparison.distinguishable else []
        yield task_finding(
            results,
            "Masks that start dense learn all tasks without significant loss from the baseline.",
            f"The mean over drawn masks lies at most {CLOSE_POINTS} points below, the largest loss in the "
            f"paper. {_ROOM}",
            {task: gap >= -CLOSE_POINTS for task, gap in gaps.items()},
            f"Against “{arm.label}”, {{held}} of {{all}} tasks lie at most {CLOSE_POINTS} points below; differences: "
            f"{{names}}. Beyond the spread between seeds: {names(clear) or 'none'}.",
            {task: signed(gap) for task, gap in gaps.items()},
            otherwise=f"No task has both a supermask and “{arm.label}” with room to lose.",
            after=_without_room(idle),
        )
    yield _zeros_and_steps(results, masks)
    yield _few_zeros(results, masks)


def _zeros_and_steps(results: StudyResults, masks: Mapping[str, Observation]) -> Finding:
    both = {task: (seen.steps(), seen.sampled_sparsity()) for task, seen in masks.items()}
    means = {task: (steps.mean, zeros.mean) for task, (steps, zeros) in both.items() if steps and zeros}
    correlation = rank_correlation(means.values())
    head = "" if correlation is None else f"Rank correlation of steps and sampled zeros {signed(correlation, 2)}: "
    told = {task: f"{steps:,.0f} steps, {zeros:.1f} %" for task, (steps, zeros) in means.items()}
    return Finding(
        results.study.name,
        "Final sparsity rises with the length of training: from 1.0 % on RTE to 12.9 % on MNLI.",
        "Of four tasks or more, the rank correlation of steps with sampled zeros is above 0.8.",
        by_count(int(correlation > 0.8), 1) if correlation is not None and len(means) >= 4 else "open",
        f"{head}{names(told, told)}.",
    )


def _few_zeros(results: StudyResults, masks: Mapping[str, Observation]) -> Finding:
    both = {task: masks[task].sampled_sparsity() for task in ("cola", "stsb", "mrpc", "rte") if task in masks}
    zeros = {task: value.mean for task, value in both.items() if value is not None}
    return task_finding(
        results,
        "For several tasks less than 3 % zeros suffice: CoLA, STS-B, MRPC and RTE.",
        "Sampled zeros of the mask that started dense are below 3 %.",
        {task: value < 3.0 for task, value in zeros.items()},
        "Sampled zeros: {names}.",
        {task: f"{value:.1f} %" for task, value in zeros.items()},
        otherwise="None of these tasks is recorded.",
    )


def _learning_rate(results: StudyResults) -> Iterator[Finding]:
    task = results.study.tasks[0]
    arms = sorted(results.study.arms, key=lambda arm: -float(arm.method.get("learning_rate", 0.2)))
    scores = {arm.label: results.observe(arm.name, task).sampled_score() for arm in arms}
    known = {label: score.mean for label, score in scores.items() if score is not None}
    largest = known.get(arms[0].label)
    others = [mean for label, mean in known.items() if label != arms[0].label]
    told = ", ".join(f"{mean:.1f} at {label}" for label, mean in known.items())
    yield Finding(
        results.study.name,
        "Masks need a learning rate of 2e-1; at smaller ones the score falls.",
        "Every smaller learning rate that is recorded, two at least, scores lower than the largest.",
        by_count(sum(mean < largest for mean in others), len(others))
        if largest is not None and len(others) > 1
        else "open",
        f"{metric_name(task)} on {display_name(task)}, drawn masks: {told or 'no runs'}.",
    )


def _head_only(results: StudyResults) -> Iterator[Finding]:
    seen = results.observe(results.study.arms[0].name, results.study.tasks[0])
    score, expected = seen.score(), seen.expected("score")
    constant = [bool(answers_one_class(record)) for record in seen.records.values()]
    near = score is not None and expected is not None and abs(score.mean - 100 * expected.value) < 0.1
    yield Finding(
        results.study.name,
        "Training the head alone fails: on MRPC the model answers 1 to everything, an F1 of 81.2.",
        "The F1 is 81.2 to within 0.1, and every run's F1 is that of answering 1 to all, given its accuracy.",
        "open" if score is None else by_count(near + all(constant), 2),
        "No run is recorded."
        if score is None
        else f"F1 {score.mean:.1f}, the mean of {len(constant)} runs; {sum(constant)} of them answer 1 to everything.",
    )


def _conventions(results: StudyResults) -> Iterator[Finding]:
    task, arms = results.study.tasks[0], results.study.arms
    seen = {arm.label: results.observe(arm.name, task) for arm in arms}
    both = ((label, one.sparsity(), one.sampled_score()) for label, one in seen.items())
    known = {label: (sparsity.mean, score.mean) for label, sparsity, score in both if sparsity and score}
    zeros, scores = ({label: means[index] for label, means in known.items()} for index in (0, 1))
    evidence = f"{len(zeros)} of {len(arms)} settings are recorded."
    if len(zeros) > 1:
        (least, fewest), *_, (most, largest) = sorted(zeros.items(), key=lambda item: item[1])
        (worst, lowest), *_, (best, highest) = sorted(scores.items(), key=lambda item: item[1])
        evidence = (
            f"Over {len(zeros)} of {len(arms)} settings on {display_name(task)}, thresholded zeros go "
            f"from {fewest:.2f} % ({least}) to {largest:.2f} % ({most}), and scores of drawn masks from "
            f"{lowest:.1f} ({worst}) to {highest:.1f} ({best})."
        )
    yield Finding(
        results.study.name,
        "The paper states neither where the straight-through gradient stops nor Adam's epsilon. How much do "
        "they decide?",
        "No claim of the paper: ranges over the settings that are recorded.",
        "ours",
        evidence,
    )


def has_room(task: str, baseline_percent: float) -> bool:
    """Whether a baseline lies so far above the best constant answer that a constrained model had something to lose.

    Example:
        >>> has_room("mrpc", 90.7), has_room("mrpc", 84.4)
        (True, False)
    """
    return baseline_percent - CONSTANT_ANSWER_PERCENT.get(task, 0.0) > CLOSE_POINTS


def _without_room(tasks: Sequence[str]) -> str:
    told = {task: f"{CONSTANT_ANSWER_PERCENT.get(task, 0.0):.1f}" for task in tasks}
    within = f"Not counted, as the baseline itself is within {CLOSE_POINTS} points of a constant answer"
    return f" {within}: {names(told, told)}." if told else ""


LEARNING: Final[tuple[Reader, ...]] = (
    ("table3", _excluded),
    ("figure3", _over_sparsity),
    ("table5", _low_sparsity),
    ("table6", _learning_rate),
    ("figure8", _pruning),
    ("appendix-a", _head_only),
    ("conventions", _conventions),
)
