"""When iterative pruning zeroes how much."""

from __future__ import annotations

from supermask.errors import ConfigurationError

__all__ = ["cubic_sparsity"]


def cubic_sparsity(step: int, *, begin_step: int, end_step: int, final_sparsity: float) -> float:
    """The sparsity that iterative pruning has reached at a step.

    s(t) = s_f · (1 - (1 - (t - t_begin) / (t_end - t_begin))³) between begin and end, 0 before and s_f after: fast
    while there is much to spare, slow near the end.

    Args:
        step: optimizer steps done.
        begin_step: the step at which pruning begins.
        end_step: the step at which the final sparsity is reached; at least `begin_step`.
        final_sparsity: s_f in [0, 1].

    Returns:
        Sparsity in [0, final_sparsity].

    Raises:
        ConfigurationError: if the end lies before the begin.

    Example:
        >>> [cubic_sparsity(step, begin_step=0, end_step=4, final_sparsity=0.64) for step in (0, 1, 2, 4, 9)]
        [0.0, 0.37, 0.56, 0.64, 0.64]

    Source: Zhu and Gupta (2017), equation 1, with initial sparsity 0.
    """
    if end_step < begin_step:
        raise ConfigurationError(f"pruning would end (step {end_step}) before it begins (step {begin_step})")
    if step >= end_step:
        return final_sparsity
    if step <= begin_step:
        return 0.0
    remaining = 1.0 - (step - begin_step) / (end_step - begin_step)
    return final_sparsity * (1.0 - remaining**3)
