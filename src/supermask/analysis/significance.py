"""How surprising it is that masks share as many zeros as they do, if zeros lay at random."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from supermask.analysis.overlap import OverlapCount
from supermask.errors import ConfigurationError

__all__ = ["Significance", "overlap_significance"]

_MOST_OUTCOMES = 4096
_LN10 = math.log(10)


@final
@dataclass(frozen=True, kw_only=True)
class Significance:
    """Tail probabilities of a number of shared zeros under the null model of `OverlapCount`.

    With millions of weights a ratio of 1.01 is already beyond all doubt: significance says that an overlap is not
    chance, and `OverlapCount.ratio` how much it is.

    Args:
        z: standard deviations above expectation; None if chance leaves no other outcome.
        log10_p_more: log₁₀ of the probability of at least as many shared zeros. `p_more` itself may be too small for a
            float.
        log10_p_fewer: log₁₀ of the probability of at most as many.
        exact: whether the tails are sums over the hypergeometric law; otherwise a normal law with its mean and variance
            stands in, with a continuity correction. Past |z| ≈ 6 a normal tail tells the order of log₁₀ p and no digit.
    """

    z: float | None
    log10_p_more: float
    log10_p_fewer: float
    exact: bool

    @property
    def p_more(self) -> float:
        """Probability of at least as many shared zeros by chance."""
        return float(10.0**self.log10_p_more)

    @property
    def p_fewer(self) -> float:
        """Probability of at most as many shared zeros by chance."""
        return float(10.0**self.log10_p_fewer)


def overlap_significance(counts: OverlapCount | Sequence[OverlapCount]) -> Significance:
    """Significance of the zeros that two masks share, in one tensor or in several pooled.

    In a tensor with n weights, a and b zeros, P(shared = k) = C(a, k) C(n-a, b-k) / C(n, b). Of one tensor the tails
    are summed exactly, however large it is. Several tensors are independent under the null model: up to 4096 outcomes
    in all their laws are convolved, beyond that their sum is taken as normal.

    Args:
        counts: of one tensor each, as `count_overlap` gives them; a sum of several has no law of its own here.

    Returns:
        Both tails and z.

    Raises:
        ConfigurationError: if there are no counts, or one cannot be of a single tensor.

    Example:
        >>> tea = OverlapCount.of_tensor(weights=8, first_zeros=4, second_zeros=4, shared=4)  # Fisher's tasting lady
        >>> round(overlap_significance(tea).p_more * 70, 6)
        1.0
    """
    from scipy.stats import hypergeom, norm

    parts = (counts,) if isinstance(counts, OverlapCount) else tuple(counts)
    if not parts:
        raise ConfigurationError("there are no counts of shared zeros; compare masks of at least one tensor")
    for part in parts:
        expected = part.first_zeros * part.second_zeros / part.weights if part.weights else 0.0
        if not math.isclose(part.expected, expected, rel_tol=1e-9, abs_tol=1e-12):
            raise ConfigurationError(
                "a count that sums several tensors has no hypergeometric law; pass the counts of the tensors instead"
            )
    total = sum(parts, OverlapCount())
    if not total.variance:
        return Significance(z=None, log10_p_more=0.0, log10_p_fewer=0.0, exact=True)
    laws = [hypergeom(part.weights, part.first_zeros, part.second_zeros) for part in parts]
    if len(parts) == 1:
        tails = laws[0].logsf(total.shared - 1), laws[0].logcdf(total.shared)
        return _significance(total, tails, exact=True)
    outcomes = [_outcomes(part) for part in parts]
    if sum(map(len, outcomes)) <= _MOST_OUTCOMES:
        pooled = functools.reduce(np.convolve, (law.pmf(of) for law, of in zip(laws, outcomes, strict=True)))
        at = total.shared - sum(of[0] for of in outcomes)
        sums = pooled[at:].sum(), pooled[: at + 1].sum()
        if min(sums) > 0.0:
            return _significance(total, [math.log(tail) for tail in sums], exact=True)
    above, sd = total.shared - total.expected, math.sqrt(total.variance)
    return _significance(total, [norm.logsf((side - 0.5) / sd) for side in (above, -above)], exact=False)


def _significance(total: OverlapCount, log_tails: Sequence[float], *, exact: bool) -> Significance:
    more, fewer = (min(float(tail) / _LN10, 0.0) for tail in log_tails)
    return Significance(z=total.z, log10_p_more=more, log10_p_fewer=fewer, exact=exact)


def _outcomes(count: OverlapCount) -> range:
    """How many zeros the masks can share."""
    fewest = max(0, count.first_zeros + count.second_zeros - count.weights)
    return range(fewest, min(count.first_zeros, count.second_zeros) + 1)
