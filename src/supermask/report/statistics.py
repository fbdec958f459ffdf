"""What a number from a few runs says, and what it does not: seeds, draws, paired differences, and when two arms differ.

Two sources of spread are kept apart. Another *seed* is another training: other batches, dropout, head and masks.
Another *draw* is another mask from the same trained mask logits. Ten draws of one run say nothing about another seed.

What is not here: a bootstrap over the examples of a dev file. It needs every prediction, and records hold scores alone.
`accuracy_standard_error` says how much such a file leaves open by its size: 3 points of accuracy for the 277 of RTE.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

from supermask.errors import ConfigurationError
from supermask.report.intervals import (
    FEWEST_FOR_BOOTSTRAP,
    Interval,
    bootstrap_interval,
    finite_values,
    normal_interval,
    t_interval,
    welch_interval,
)

__all__ = [
    "ArmScores",
    "Comparison",
    "Interval",
    "PairedDifference",
    "Variation",
    "accuracy_standard_error",
    "bootstrap_interval",
    "distinguishable",
    "paired_difference",
    "pooled_seed_sd",
    "t_interval",
    "variation",
]

_KeyT = TypeVar("_KeyT", bound=Hashable)

_FEWEST_PAIRS = 3
_ENOUGH_FOR_BOOTSTRAP = 10


@final
@dataclass(frozen=True, kw_only=True)
class ArmScores:
    """The scores of one arm on one task.

    Args:
        scores: by seed.
        draws: the scores of sampled masks by seed, where the method samples.
    """

    scores: Mapping[int, float]
    draws: Mapping[int, Sequence[float]] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Variation:
    """The spread of an arm's scores, by where it comes from.

    Args:
        seeds: how many runs.
        mean: of their scores.
        seed_sd: sample standard deviation between runs; None for one seed.
        draw_sd: standard deviation between the draws of a run, pooled over runs; None without draws.
        draws: of the run with the fewest; 0 without.
        words: what the spread is of and what it is worth, for a note.
    """

    seeds: int
    mean: float
    seed_sd: float | None
    draw_sd: float | None
    draws: int
    words: str


@final
@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """First minus second, over what both have.

    Args:
        differences: by key, for example by seed or by (task, seed).
        mean: of them.
        interval: Student's t on the differences; None for a single one.
        bootstrap: BCa interval of the mean; None for fewer than 3.
        words: how far they can be relied on.
    """

    differences: Mapping[Hashable, float]
    mean: float
    interval: Interval | None
    bootstrap: Interval | None
    words: str


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Whether two arms can be told apart.

    Args:
        distinguishable: whether the records show a difference.
        difference: mean of the first less mean of the second.
        interval: of the difference; None if the records give none.
        reason: in words, for a note or a reading.
    """

    distinguishable: bool
    difference: float
    interval: Interval | None
    reason: str


def variation(arm: ArmScores) -> Variation:
    """The spread of an arm's scores between seeds and, apart from it, between draws.

    The spread between seeds is s² = Σ(xᵢ - x̄)² / (n - 1) over the runs' scores; between draws, the mean of the runs'
    own variances, weighted by their degrees of freedom.

    Args:
        arm: its scores.

    Raises:
        ConfigurationError: if there is no score, or one is not finite.

    Example:
        >>> found = variation(ArmScores(scores={0: 84.0, 1: 86.0}, draws={0: [83.0, 85.0], 1: [86.0, 86.0]}))
        >>> round(found.seed_sd, 3), found.draw_sd
        (1.414, 1.0)
    """
    values = finite_values(arm.scores.values(), "a score")
    seed_sd = statistics.stdev(values) if len(values) > 1 else None
    groups = [finite_values(draws, "a draw's score") for draws in (arm.draws or {}).values()]
    groups = [draws for draws in groups if len(draws) > 1]
    draw_sd = _pooled_sd(groups)
    draws = min((len(group) for group in groups), default=0)
    return Variation(
        seeds=len(values),
        mean=statistics.fmean(values),
        seed_sd=seed_sd,
        draw_sd=draw_sd,
        draws=draws,
        words=_spread_in_words(len(values), draws),
    )


def paired_difference(
    first: Mapping[_KeyT, float], second: Mapping[_KeyT, float], *, confidence: float = 0.95, seed: int = 0
) -> PairedDifference:
    """First minus second over the keys (seeds, or task and seed) that both have.

    Pairing takes out what both share: how hard a task is, and what a seed does to both alike.

    Args:
        first: scores by key.
        second: scores by key.
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        The differences, their mean, and intervals as far as their number allows. Differences of several tasks are taken
        as one sample of tasks: the interval is then of the mean over tasks like these.

    Raises:
        ConfigurationError: if no key is shared, or a score is not finite.

    Example:
        >>> found = paired_difference({0: 90.0, 1: 88.0}, {0: 89.0, 1: 88.5, 2: 70.0})
        >>> found.mean, found.words
        (0.25, '2 pairs: an interval from so few is very wide, and a bootstrap would mislead')
    """
    differences: dict[Hashable, float] = {key: first[key] - second[key] for key in first if key in second}
    if not differences:
        raise ConfigurationError(f"nothing is shared to pair: the first has {_keys(first)}, the second {_keys(second)}")
    values = finite_values(differences.values(), "a difference")
    return PairedDifference(
        differences=differences,
        mean=statistics.fmean(values),
        interval=t_interval(values, confidence=confidence) if len(values) > 1 else None,
        bootstrap=(
            bootstrap_interval(values, confidence=confidence, seed=seed)
            if len(values) >= FEWEST_FOR_BOOTSTRAP
            else None
        ),
        words=_pairs_in_words(len(values)),
    )


def pooled_seed_sd(arms: Sequence[ArmScores]) -> float | None:
    """One standard deviation between seeds out of several arms, each with its own mean.

    s² = Σ (nₖ - 1) sₖ² / Σ (nₖ - 1).

    Args:
        arms: of one task, as a rule; those with one seed add nothing.

    Returns:
        The standard deviation, to be lent to arms of one seed; None if no arm has two.

    Raises:
        ConfigurationError: if a score is not finite.

    Example:
        >>> pooled_seed_sd([ArmScores(scores={0: 1.0, 1: 3.0}), ArmScores(scores={0: 7.0, 1: 7.0})])
        1.0
    """
    return _pooled_sd([finite_values(arm.scores.values(), "a score") for arm in arms if arm.scores])


def distinguishable(
    first: ArmScores, second: ArmScores, *, confidence: float = 0.95, borrowed_seed_sd: float | None = None
) -> Comparison:
    """Whether the records tell two arms on one task apart, seeds considered.

    The rule, by what there is:

    - 3 or more seeds that both have: Student's interval of the paired differences excludes 0;
    - else 2 or more seeds each: Welch's interval of the difference of the means excludes 0;
    - else, with a spread borrowed from other arms of the task: a normal interval with that spread excludes 0;
    - else no: one run cannot say how far another would have been off.

    Draws play no part: they are not independent trainings. Neither do examples, whose predictions are not kept. Of many
    comparisons at 95 %, one in twenty comes out by chance.

    Args:
        first: scores of an arm.
        second: scores of another.
        confidence: of the interval.
        borrowed_seed_sd: `pooled_seed_sd` of other arms, or None.

    Returns:
        The verdict with its ground.

    Raises:
        ConfigurationError: if there is no score, one is not finite, or the borrowed spread is negative.

    Example:
        >>> ours, theirs = ArmScores(scores={0: 85.0, 1: 85.4, 2: 85.1}), ArmScores(scores={0: 83.9, 1: 84.2, 2: 84.1})
        >>> distinguishable(ours, theirs).distinguishable
        True
        >>> print(distinguishable(ArmScores(scores={0: 99.0}), theirs).reason)
        one seed against 3: a single run does not show its own spread
    """
    ours, theirs = (finite_values(arm.scores.values(), "a score") for arm in (first, second))
    difference = statistics.fmean(ours) - statistics.fmean(theirs)
    shared = [seed for seed in first.scores if seed in second.scores]
    counts = f"{_seeds(len(ours))} against {len(theirs)}"
    if len(shared) >= _FEWEST_PAIRS:
        differences = [first.scores[seed] - second.scores[seed] for seed in shared]
        interval = t_interval(differences, confidence=confidence)
        ground = f"paired over {len(shared)} seeds"
    elif min(len(ours), len(theirs)) >= 2:
        interval = welch_interval(ours, theirs, confidence=confidence)
        ground = f"{counts}, Welch"
    elif borrowed_seed_sd is not None:
        if not borrowed_seed_sd >= 0:
            raise ConfigurationError(f"borrowed_seed_sd is a standard deviation, received {borrowed_seed_sd}")
        error = borrowed_seed_sd * math.sqrt(1 / len(ours) + 1 / len(theirs))
        interval = normal_interval(difference, error, confidence=confidence)
        ground = f"{counts}, spread between seeds borrowed from other arms"
    else:
        reason = f"{counts}: a single run does not show its own spread"
        return Comparison(distinguishable=False, difference=difference, interval=None, reason=reason)
    told = f"{100 * confidence:g} % interval {interval.low:+.1f} to {interval.high:+.1f} ({ground})"
    verdict = "excludes 0" if interval.excludes_zero else "includes 0"
    return Comparison(
        distinguishable=interval.excludes_zero, difference=difference, interval=interval, reason=f"{told} {verdict}"
    )


def accuracy_standard_error(accuracy: float, examples: int) -> float:
    """How far an accuracy would move from one dev file of this size to another: √(p(1-p)/n), as a fraction.

    It bounds what a score on few examples can say about a model. Two models on the *same* file share much of it, so it
    is no rule for their difference.

    Args:
        accuracy: p, in [0, 1].
        examples: n, at least 1.

    Raises:
        ConfigurationError: if an argument is out of range.

    Example:
        >>> round(100 * accuracy_standard_error(0.6, 277), 1)  # RTE
        2.9
    """
    if not 0.0 <= accuracy <= 1.0 or examples < 1:
        raise ConfigurationError(
            f"an accuracy in [0, 1] of at least 1 example is needed, received {accuracy} of {examples}"
        )
    return math.sqrt(accuracy * (1.0 - accuracy) / examples)


def _pooled_sd(groups: Sequence[Sequence[float]]) -> float | None:
    freedom = sum(len(values) - 1 for values in groups)
    if not freedom:
        return None
    return math.sqrt(sum((len(v) - 1) * statistics.variance(v) for v in groups if len(v) > 1) / freedom)


def _spread_in_words(seeds: int, draws: int) -> str:
    of_draws = f"; draws are {draws} masks of one run and say nothing about another seed" if draws else ""
    if seeds == 1:
        return f"one seed{of_draws}"
    if seeds <= 3:
        # 95 % limits of s/σ for 1 and 2 degrees of freedom, upwards: 1/√(χ² at 2.5 % / degrees).
        factor = {2: 32, 3: 6}[seeds]
        return f"{seeds} seeds: their true spread may be up to {factor} times as large{of_draws}"
    return f"{seeds} seeds{of_draws}"


def _pairs_in_words(pairs: int) -> str:
    if pairs == 1:
        return "one pair: no interval"
    if pairs < FEWEST_FOR_BOOTSTRAP:
        return f"{pairs} pairs: an interval from so few is very wide, and a bootstrap would mislead"
    if pairs < _ENOUGH_FOR_BOOTSTRAP:
        return f"{pairs} pairs: the bootstrap interval of so few is too narrow; go by Student's"
    return f"{pairs} pairs"


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _keys(scores: Mapping[_KeyT, float]) -> str:
    return ", ".join(map(str, scores)) or "nothing"
