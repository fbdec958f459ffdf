"""Whether two arms differ, going by a few seeds each.

Two sources of spread are kept apart. Another *seed* is another training: other batches, dropout, head and masks.
Another *draw* is another mask from the same trained mask logits. Ten draws of one run say nothing about another seed.
"""

from __future__ import annotations

import functools
import math
import statistics
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from supermask.errors import ConfigurationError

__all__ = ["Comparison", "Interval", "distinguishable", "pooled_sd", "rank_correlation"]

_FEWEST_PAIRS = 3


@final
class Interval(NamedTuple):
    """Where a difference lies, at a stated confidence."""

    low: float
    high: float


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


def pooled_sd(arms: Iterable[Mapping[int, float]]) -> float | None:
    """One standard deviation between seeds out of several arms, each with its own mean: s² = Σ (nₖ-1) sₖ² / Σ (nₖ-1).

    Args:
        arms: scores by seed; those with one seed add nothing.

    Returns:
        The standard deviation, to be lent to arms of one seed; None if no arm has two.

    Example:
        >>> pooled_sd([{0: 1.0, 1: 3.0}, {0: 7.0, 1: 7.0}])
        1.0
    """
    groups = [_finite(arm.values()) for arm in arms if len(arm) > 1]
    squares = sum((len(values) - 1) * statistics.variance(values) for values in groups)
    return math.sqrt(squares / sum(len(values) - 1 for values in groups)) if groups else None


def distinguishable(
    first: Mapping[int, float],
    second: Mapping[int, float],
    *,
    confidence: float = 0.95,
    borrowed_sd: float | None = None,
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
        first, second: scores of an arm by seed.
        confidence: of the interval, a fraction.
        borrowed_sd: `pooled_sd` of other arms, or None.

    Returns:
        The verdict with its ground.

    Raises:
        ConfigurationError: if there is no score, one is not finite, or an argument is out of range.

    Example:
        >>> ours, theirs = {0: 85.0, 1: 85.4, 2: 85.1}, {0: 83.9, 1: 84.2, 2: 84.1}
        >>> print(distinguishable(ours, theirs).reason)
        95 % interval +0.8 to +1.4 (paired over 3 seeds) excludes 0
        >>> print(distinguishable({0: 99.0}, theirs).reason)
        one seed against 3: a single run does not show its own spread
    """
    from scipy import stats

    if not 0.0 < confidence < 1.0:
        raise ConfigurationError(f"confidence is a fraction between 0 and 1, received {confidence}")
    if borrowed_sd is not None and not borrowed_sd >= 0:
        raise ConfigurationError(f"borrowed_sd is a standard deviation, received {borrowed_sd}")
    ours, theirs = _finite(first.values()), _finite(second.values())
    difference = statistics.fmean(ours) - statistics.fmean(theirs)
    shared = [seed for seed in first if seed in second]
    counts = f"{'one seed' if len(ours) == 1 else f'{len(ours)} seeds'} against {len(theirs)}"
    if len(shared) >= _FEWEST_PAIRS:
        paired = ([arm[seed] for seed in shared] for arm in (first, second))
        interval = _interval(stats.ttest_rel, *paired, confidence=confidence)
        ground = f"paired over {len(shared)} seeds"
    elif min(len(ours), len(theirs)) >= 2:
        interval = _interval(functools.partial(stats.ttest_ind, equal_var=False), ours, theirs, confidence)
        ground = f"{counts}, Welch"
    elif borrowed_sd is not None:
        error = borrowed_sd * math.sqrt(1 / len(ours) + 1 / len(theirs))
        half = float(stats.norm.ppf(0.5 + confidence / 2)) * error
        interval = Interval(difference - half, difference + half)
        ground = f"{counts}, spread between seeds borrowed from other arms"
    else:
        reason = f"{counts}: a single run does not show its own spread"
        return Comparison(distinguishable=False, difference=difference, interval=None, reason=reason)
    apart = interval.low > 0 or interval.high < 0
    told = f"{100 * confidence:g} % interval {interval.low:+.1f} to {interval.high:+.1f} ({ground})"
    return Comparison(
        distinguishable=apart,
        difference=difference,
        interval=interval,
        reason=f"{told} {'excludes' if apart else 'includes'} 0",
    )


def rank_correlation(pairs: Iterable[tuple[float, float]]) -> float | None:
    """Spearman's correlation; None for fewer than 3 pairs, or if one side does not vary.

    Example:
        >>> rank_correlation([(1, 10), (2, 20), (3, 15)])
        0.5
    """
    from scipy.stats import spearmanr

    known = list(pairs)
    if len(known) < 3 or any(len(set(side)) < 2 for side in zip(*known, strict=True)):
        return None
    return round(float(spearmanr(known).statistic), 12)


def _interval(test: Callable[..., Any], first: Sequence[float], second: Sequence[float], confidence: float) -> Interval:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of scores that do not vary; the interval is then a point
        low, high = test(first, second).confidence_interval(confidence)
    return Interval(float(low), float(high))


def _finite(values: Iterable[float]) -> list[float]:
    found = list(values)
    if not found:
        raise ConfigurationError("there is no score, so there is nothing to say")
    for value in found:
        if not math.isfinite(value):
            raise ConfigurationError(f"a score is not finite: {value}; leave that run out and say so")
    return found
