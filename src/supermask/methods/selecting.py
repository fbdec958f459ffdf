"""Which matrices a constraint may touch."""

from __future__ import annotations

from collections.abc import Sequence

from supermask.errors import SelectionError
from supermask.models import ParameterInfo, ParameterMap

__all__ = ["constrained_matrices"]


def constrained_matrices(
    parameters: ParameterMap, *, select: Sequence[str], exclude: Sequence[str], verb: str
) -> tuple[ParameterInfo, ...]:
    """The selected weights less the excluded ones, in model order.

    Args:
        parameters: the model's parameters.
        select: selectors; the default names the pooler, which a model need not have.
        exclude: selectors of what is left alone.
        verb: what will be done to them, for the message.

    Raises:
        SelectionError: if a selector matches nothing, nothing is left, or something selected is no matrix or belongs to the head.
    """
    excluded = set(parameters.select(exclude))
    names = set(parameters.select(select, optional=("pooler",))) - excluded
    chosen = tuple(info for info in parameters.infos if info.name in names)
    if not chosen:
        raise SelectionError(
            f"nothing is left to {verb}: select {list(select)} less exclude {list(exclude)} is empty; widen one or narrow the other"
        )
    unfit = [info.name for info in chosen if not info.is_matrix or info.name in parameters.head]
    if unfit:
        raise SelectionError(
            f"cannot {verb} {', '.join(unfit[:3])}{' ...' if len(unfit) > 3 else ''}: only matrices of linear and embedding layers "
            f"outside the head; select roles such as {list(select[:1]) or ['matrices']} that name matrices"
        )
    return chosen
