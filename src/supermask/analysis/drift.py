"""How sparsity moves while a supermask trains, read off a run's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from supermask.analysis.noise import sampled_sparsity
from supermask.errors import ConfigurationError, DataError

__all__ = ["SparsityDrift", "SparsityPoint", "sparsity_drift"]


@final
@dataclass(frozen=True, kw_only=True)
class SparsityPoint:
    """Zeros among the masked weights at one step.

    Args:
        step: optimizer steps done.
        thresholded: fraction of mask logits at or below 0; for pruning, of pruned weights.
        expected: fraction of zeros in a draw, in expectation; None for methods that do not sample.
    """

    step: int
    thresholded: float
    expected: float | None


@final
@dataclass(frozen=True, kw_only=True)
class SparsityDrift:
    """Sparsity over the steps of a run, the start included.

    Args:
        points: from step 0 on.
    """

    points: tuple[SparsityPoint, ...]

    @property
    def initial(self) -> SparsityPoint:
        """Before training."""
        return self.points[0]

    @property
    def final(self) -> SparsityPoint:
        """After training, or at the last step that was logged."""
        return self.points[-1]

    @property
    def thresholded_change(self) -> float:
        """Final less initial thresholded sparsity."""
        return self.final.thresholded - self.initial.thresholded

    @property
    def expected_change(self) -> float | None:
        """Final less initial expected sparsity of a draw; None for methods that do not sample."""
        if self.final.expected is None or self.initial.expected is None:
            return None
        return self.final.expected - self.initial.expected


def sparsity_drift(
    log: Sequence[Mapping[str, float]],
    *,
    initial_sparsity: float = 0.0,
    init_logit: float = 5.0,
    final: SparsityPoint | None = None,
) -> SparsityDrift:
    """Read the sparsity over the steps from a record's log.

    The start is computed and not logged: `initial_sparsity` thresholded, and ℓ σ(ν) + (1-ℓ)(1-σ(ν)) in a draw, which at
    0 is the noise floor of 0.669 %.

    Args:
        log: rows with `step`, `sparsity` and, for methods that sample, `sampled_sparsity`; others are passed over.
        initial_sparsity: of the method; 0 for pruning.
        init_logit: of the method.
        final: after the last step, as the record's delta and `sampled_sparsity` have it; logs may end before.

    Returns:
        The points in order of their steps.

    Raises:
        DataError: if no row has a sparsity, as of a method that makes no zeros.
        ConfigurationError: if `initial_sparsity` is no fraction.

    Example:
        >>> drift = sparsity_drift([{"step": 10.0, "sparsity": 0.02, "sampled_sparsity": 0.03}])
        >>> round(drift.thresholded_change, 4), round(drift.expected_change, 4)
        (0.02, 0.0233)

    Source: Figure 9 of the paper.
    """
    if not 0.0 <= initial_sparsity <= 1.0:
        raise ConfigurationError(f"initial_sparsity is a fraction in [0, 1], received {initial_sparsity}")
    points = [
        SparsityPoint(step=round(row["step"]), thresholded=row["sparsity"], expected=row.get("sampled_sparsity"))
        for row in log
        if "step" in row and "sparsity" in row
    ]
    if final is not None:
        points = [*(point for point in points if point.step < final.step), final]
    if not points:
        raise DataError("the log holds no sparsity: it is of a method that makes no zeros, or was not kept")
    points.sort(key=lambda point: point.step)
    samples = points[-1].expected is not None
    start = SparsityPoint(
        step=0,
        thresholded=initial_sparsity,
        expected=sampled_sparsity(initial_sparsity, init_logit=init_logit, certain=False) if samples else None,
    )
    return SparsityDrift(points=(start, *(point for point in points if point.step > 0)))
