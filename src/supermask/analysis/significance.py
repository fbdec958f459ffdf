"""How surprising it is that masks share as many zeros as they do, if zeros lay at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from supermask.analysis.overlap import OverlapCount
from supermask.errors import ConfigurationError

__all__ = ["Significance", "overlap_significance"]

_MOST_OUTCOMES = 4096
_NEGLIGIBLE = 1e-17
# Beyond this many standard deviations math.erfc is 0, and the first terms of its asymptotic series are exact enough.
_FAR = 25.0


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
    if len(parts) == 1:
        more, fewer = _hypergeometric_tails(parts[0])
        return Significance(z=total.z, log10_p_more=more, log10_p_fewer=fewer, exact=True)
    if sum(_outcomes(part)[1] - _outcomes(part)[0] + 1 for part in parts) <= _MOST_OUTCOMES:
        law = np.ones(1)
        for part in parts:
            law = np.convolve(law, _law(part))
        at = total.shared - sum(_outcomes(part)[0] for part in parts)
        tails = float(law[at:].sum()), float(law[: at + 1].sum())
        if min(tails) > 0.0:
            more, fewer = (min(math.log10(tail), 0.0) for tail in tails)
            return Significance(z=total.z, log10_p_more=more, log10_p_fewer=fewer, exact=True)
    if not total.variance:
        return Significance(z=None, log10_p_more=0.0, log10_p_fewer=0.0, exact=True)
    above, sd = total.shared - total.expected, math.sqrt(total.variance)
    return Significance(
        z=total.z,
        log10_p_more=_log10_normal_tail((above - 0.5) / sd),
        log10_p_fewer=_log10_normal_tail((-above - 0.5) / sd),
        exact=False,
    )


def _outcomes(count: OverlapCount) -> tuple[int, int]:
    """The fewest and the most zeros that the masks can share."""
    return (
        max(0, count.first_zeros + count.second_zeros - count.weights),
        min(count.first_zeros, count.second_zeros),
    )


def _log_probability(count: OverlapCount, shared: int) -> float:
    n, a, b = count.weights, count.first_zeros, count.second_zeros
    return _log_choose(a, shared) + _log_choose(n - a, b - shared) - _log_choose(n, b)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _law(count: OverlapCount) -> npt.NDArray[np.float64]:
    low, high = _outcomes(count)
    return np.exp([_log_probability(count, shared) for shared in range(low, high + 1)])


def _hypergeometric_tails(count: OverlapCount) -> tuple[float, float]:
    """log₁₀ of P(at least `shared`) and of P(at most `shared`).

    The tail that leads away from the mode is summed, term after falling term; the other is what it leaves of 1.
    """
    low, high = _outcomes(count)
    n, a, b, at = count.weights, count.first_zeros, count.second_zeros, count.shared
    if low == high:
        return 0.0, 0.0
    upwards = at > (a + 1) * (b + 1) / (n + 2)  # the mode
    term = total = 1.0
    k = at
    while k != (high if upwards else low) and term > _NEGLIGIBLE * total:
        if upwards:
            term *= (a - k) * (b - k) / ((k + 1) * (n - a - b + k + 1))
            k += 1
        else:
            term *= k * (n - a - b + k) / ((a - k + 1) * (b - k + 1))
            k -= 1
        total += term
    log_here = _log_probability(count, at)
    far = min((log_here + math.log(total)) / math.log(10), 0.0)
    rest = 1.0 - math.exp(log_here) * (total - 1.0)
    near = math.log10(rest) if 0.0 < rest < 1.0 else 0.0
    return (far, near) if upwards else (near, far)


def _log10_normal_tail(z: float) -> float:
    """log₁₀ P(Z ≥ z) of a standard normal Z."""
    if z < _FAR:
        return math.log10(0.5 * math.erfc(z / math.sqrt(2.0)))
    series = 1.0 - 1.0 / z**2 + 3.0 / z**4 - 15.0 / z**6
    return (-0.5 * z * z - math.log(z * math.sqrt(2.0 * math.pi)) + math.log(series)) / math.log(10)
