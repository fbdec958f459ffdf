"""Whether two arms differ, going by a few seeds each; draws of one run say nothing about another seed."""

from __future__ import annotations

import functools
import math
import statistics
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from supermask.errors import ConfigurationError

__all__ = ["Comparison", "distinguishable", "pooled_sd", "rank_correlation"]

_FEWEST_PAIRS = 3


@final
@dataclass(frozen=True)
class Comparison:
    """Whether two arms can be told apart."""

    distinguishable: bool
    difference: float  # mean of the first less mean of the second
    interval: tuple[float, float] | None  # of the difference, low and high; None if the records give none


def distinguishable(
    first: Mapping[int, float], second: Mapping[int, float], *, confidence: float = 0.95, borrowed_sd: float = math.nan
) -> Comparison:
    """Whether the records tell two arms on one task apart, by what there is:

    - 3 or more seeds that both have: Student's interval of the paired differences excludes 0;
    - else 2 or more seeds each: Welch's interval of the difference of the means excludes 0;
    - else, with a spread borrowed from other arms of the task: a normal interval with that spread excludes 0;
    - else no: one run cannot say how far another would have been off.

    Draws and examples play no part. Of many comparisons at 95 %, one in twenty comes out by chance.

    Args:
        first, second: scores of an arm by seed.
        confidence: of the interval, a fraction.
        borrowed_sd: `pooled_sd` of other arms; not a number if there is none to borrow.

    Raises:
        ConfigurationError: if there is no score, one is not finite, or an argument is out of range.

    Example:
        >>> theirs = {0: 83.9, 1: 84.2, 2: 84.1}
        >>> found = distinguishable({0: 85.0, 1: 85.4, 2: 85.1}, theirs)
        >>> found.distinguishable, [round(end, 2) for end in found.interval]
        (True, [0.85, 1.35])
        >>> distinguishable({0: 99.0}, theirs).interval is None  # a single run does not show its own spread
        True
    """
    from scipy import stats

    if not 0.0 < confidence < 1.0:
        raise ConfigurationError(f"confidence is a fraction between 0 and 1, received {confidence}")
    if borrowed_sd < 0:
        raise ConfigurationError(f"borrowed_sd is a standard deviation, received {borrowed_sd}")
    ours, theirs = _finite(first.values()), _finite(second.values())
    difference = statistics.fmean(ours) - statistics.fmean(theirs)
    shared = [seed for seed in first if seed in second]
    if len(shared) >= _FEWEST_PAIRS:
        ours, theirs = ([arm[seed] for seed in shared] for arm in (first, second))
        interval = _interval(stats.ttest_rel, ours, theirs, confidence)
    elif min(len(ours), len(theirs)) >= 2:
        interval = _interval(functools.partial(stats.ttest_ind, equal_var=False), ours, theirs, confidence)
    elif not math.isnan(borrowed_sd):
        error = borrowed_sd * math.sqrt(1 / len(ours) + 1 / len(theirs))
        half = float(stats.norm.ppf(0.5 + confidence / 2)) * error
        interval = difference - half, difference + half
    else:
        return Comparison(False, difference, None)
    return Comparison(interval[0] > 0 or interval[1] < 0, difference, interval)


def _interval(
    test: Callable[..., Any], first: Sequence[float], second: Sequence[float], confidence: float
) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of scores that do not vary; the interval is then a point
        low, high = test(first, second).confidence_interval(confidence)
    return float(low), float(high)


def pooled_sd(arms: Iterable[Mapping[int, float]]) -> float:
    """One standard deviation between seeds out of several arms' scores by seed: s² = Σ (nₖ-1) sₖ² / Σ (nₖ-1).

    Example:
        >>> pooled_sd([{0: 1.0, 1: 3.0}, {0: 7.0, 1: 7.0}])
        1.0
    """
    groups = [_finite(arm.values()) for arm in arms if len(arm) > 1]
    squares = sum((len(values) - 1) * statistics.variance(values) for values in groups)
    return math.sqrt(squares / sum(len(values) - 1 for values in groups)) if groups else math.nan


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


def _finite(values: Iterable[float]) -> list[float]:
    found = list(values)
    if not found:
        raise ConfigurationError("there is no score, so there is nothing to say")
    for value in found:
        if not math.isfinite(value):
            raise ConfigurationError(f"a score is not finite: {value}; leave that run out and say so")
    return found
