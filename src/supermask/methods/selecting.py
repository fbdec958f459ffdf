"""Which matrices a constraint may touch."""

from __future__ import annotations

from collections.abc import Sequence

from supermask.errors import SelectionError
from supermask.models import MATRICES_IF_PRESENT, ParameterInfo, ParameterMap, select_parameters

__all__ = ["chosen", "constrained_matrices", "left_as_they_are"]


def chosen(parameters: ParameterMap, selectors: Sequence[str]) -> set[str]:
    """Names that the selectors pick; none for no selectors."""
    return set(select_parameters(selectors, parameters)) if selectors else set()


def left_as_they_are(parameters: ParameterMap, exclude: Sequence[str]) -> set[str]:
    """Names of the weights that `exclude` takes out of training; the head is never among them."""
    excluded = chosen(parameters, exclude) - set(parameters.head)
    if exclude and not excluded:
        raise SelectionError(f"exclude {list(exclude)} names the task head alone, which is always trained; drop it")
    return excluded


def constrained_matrices(
    parameters: ParameterMap, *, select: Sequence[str], exclude: Sequence[str], verb: str
) -> tuple[ParameterInfo, ...]:
    """The selected weights less the excluded ones, in model order: matrices outside the head, and at least one.

    The default of `select` names the pooler, which a model need not have; the verb is for the message.
    """
    if not select:
        raise SelectionError(
            f"select is empty, so there is nothing to {verb}; leave it at its default or name matrices"
        )
    names = set(select_parameters(select, parameters, optional=MATRICES_IF_PRESENT)) - left_as_they_are(
        parameters, exclude
    )
    matrices = tuple(info for info in parameters.infos if info.name in names)
    if not matrices:
        raise SelectionError(
            f"nothing is left to {verb}: select {list(select)} less exclude {list(exclude)} is empty; widen one or "
            "narrow the other"
        )
    unfit = [info.name for info in matrices if not info.is_matrix or info.name in parameters.head]
    if unfit:
        raise SelectionError(
            f"cannot {verb} {', '.join(unfit[:3])}{' ...' if len(unfit) > 3 else ''}: only matrices of linear and "
            "embedding layers outside the head can be; select roles that name matrices, such as 'matrices' or 'value'"
        )
    return matrices
