"""Intervals of a mean, from a handful of values: Student's, Welch's, and the bootstrap's."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import numpy.typing as npt

from supermask.errors import ConfigurationError

__all__ = [
    "FEWEST_FOR_BOOTSTRAP",
    "Interval",
    "bootstrap_interval",
    "finite_values",
    "normal_interval",
    "require_confidence",
    "t_interval",
    "welch_interval",
]

FEWEST_FOR_BOOTSTRAP = 3
"""Values that a bootstrap takes at least."""


@final
@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where a mean lies, at a stated confidence.

    Args:
        low, high: its ends.
        confidence: nominal, for example 0.95.
        method: how it was made: Student's `t`, `welch`, `normal` with a borrowed spread, or bootstrapped, `percentile`
            or `bca`.
    """

    low: float
    high: float
    confidence: float
    method: Literal["t", "welch", "normal", "percentile", "bca"]

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside."""
        return self.low > 0 or self.high < 0


def t_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Student's interval of a mean: x̄ ± t · s/√n, exact for normal values and the honest choice for a handful.

    Args:
        values: at least 2.
        confidence: nominal.

    Raises:
        ConfigurationError: if there are fewer than 2 values, one is not finite, or the confidence is not in (0, 1).

    Example:
        >>> found = t_interval([1.0, 2.0, 3.0])
        >>> round(found.low, 2), round(found.high, 2)
        (-0.48, 4.48)
    """
    found = finite_values(values, "a value")
    if len(found) < 2:
        raise ConfigurationError("one value has no interval; more seeds have")
    mean, sd = statistics.fmean(found), statistics.stdev(found)
    half = _t_quantile(confidence, len(found) - 1) * sd / math.sqrt(len(found))
    return Interval(low=mean - half, high=mean + half, confidence=confidence, method="t")


def welch_interval(first: Sequence[float], second: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Welch's interval of the difference of two means, whose spreads need not be equal.

    Args:
        first: at least 2 values.
        second: at least 2 values.
        confidence: nominal.

    Raises:
        ConfigurationError: if there are fewer than 2 values of either, one is not finite, or the confidence is not in
            (0, 1).

    Example:
        >>> welch_interval([5.0, 6.0, 7.0], [1.0, 2.0]).excludes_zero
        True
    """
    ours, theirs = finite_values(first, "a value"), finite_values(second, "a value")
    if min(len(ours), len(theirs)) < 2:
        raise ConfigurationError("one value has no spread, so a difference from it has no interval; more seeds have")
    parts = [statistics.variance(values) / len(values) for values in (ours, theirs)]
    difference = statistics.fmean(ours) - statistics.fmean(theirs)
    variance = sum(parts)
    half = 0.0
    if variance > 0:
        freedom = variance**2 / sum(
            part**2 / (len(values) - 1) for part, values in zip(parts, (ours, theirs), strict=True)
        )
        half = _t_quantile(confidence, freedom) * math.sqrt(variance)
    return Interval(low=difference - half, high=difference + half, confidence=confidence, method="welch")


def normal_interval(mean: float, standard_error: float, *, confidence: float = 0.95) -> Interval:
    """An interval with a standard error that is taken as known: mean ± z · standard error.

    Args:
        mean: at its middle.
        standard_error: of the mean.
        confidence: nominal.

    Raises:
        ConfigurationError: if the confidence is not in (0, 1).

    Example:
        >>> round(normal_interval(0.0, 1.0).high, 2)
        1.96
    """
    require_confidence(confidence)
    half = statistics.NormalDist().inv_cdf(0.5 + confidence / 2) * standard_error
    return Interval(low=mean - half, high=mean + half, confidence=confidence, method="normal")


def bootstrap_interval(
    values: Sequence[float],
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
    method: Literal["percentile", "bca"] = "bca",
) -> Interval:
    """Bootstrap interval of a mean; the same for the same arguments.

    Of a handful of values it is too narrow. For normal values a nominal 95 % interval covers the true mean in about
    73 % of cases for 3 values, 84 % for 5 and 89 % for 10, BCa and percentile alike; `t_interval` covers it in 95 %.

    Args:
        values: at least 3.
        confidence: nominal.
        resamples: how often to draw n of the n values with replacement.
        seed: of the draws.
        method: `percentile`, quantiles of the resampled means; or `bca`, corrected for bias and skewness.

    Raises:
        ConfigurationError: if there are fewer than 3 values, one is not finite, or an argument is out of range.

    Example:
        >>> found = bootstrap_interval([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], method="percentile")
        >>> found.low < 2.5 < found.high
        True

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 13 and 14.
    """
    found = np.asarray(finite_values(values, "a value"))
    if len(found) < FEWEST_FOR_BOOTSTRAP:
        raise ConfigurationError(f"a bootstrap takes at least {FEWEST_FOR_BOOTSTRAP} values, received {len(found)}")
    if resamples < 1:
        raise ConfigurationError(f"resamples is at least 1, received {resamples}")
    require_confidence(confidence)
    chosen = np.random.default_rng(seed).integers(0, len(found), (resamples, len(found)))
    means = found[chosen].mean(axis=1)
    levels = np.array([0.5 - confidence / 2, 0.5 + confidence / 2])
    if method == "bca" and np.ptp(found) > 0:
        levels = _bca_levels(found, means, levels)
    low, high = np.quantile(means, levels)
    return Interval(low=float(low), high=float(high), confidence=confidence, method=method)


def finite_values(values: Iterable[float], what: str) -> list[float]:
    """The values as a list of floats, at least one; see `ConfigurationError` for what is refused."""
    found = [float(value) for value in values]
    if not found:
        raise ConfigurationError(f"there is not {what}, so there is nothing to say")
    for value in found:
        if not math.isfinite(value):
            raise ConfigurationError(f"{what} is not finite: {value}; leave that run out and say so")
    return found


def require_confidence(confidence: float) -> None:
    """Refuse a confidence that is no fraction between 0 and 1, such as 95."""
    if not 0.0 < confidence < 1.0:
        raise ConfigurationError(f"confidence is a fraction between 0 and 1, received {confidence}")


def _bca_levels(
    values: npt.NDArray[np.float64], means: npt.NDArray[np.float64], levels: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The quantiles to take in place of the nominal ones: z₀ corrects for bias, a for skewness."""
    from scipy.special import ndtr, ndtri

    mean = values.mean()
    bias = ndtri(((means < mean).sum() + (means <= mean).sum()) / (2 * len(means)))
    left_out = (values.sum() - values) / (len(values) - 1)
    apart = left_out.mean() - left_out
    acceleration = (apart**3).sum() / (6 * (apart**2).sum() ** 1.5)
    shifted = bias + ndtri(levels)
    corrected: npt.NDArray[np.float64] = ndtr(bias + shifted / (1 - acceleration * shifted))
    return corrected


def _t_quantile(confidence: float, freedom: float) -> float:
    from scipy.stats import t

    require_confidence(confidence)
    return float(t.ppf(0.5 + confidence / 2, freedom))
