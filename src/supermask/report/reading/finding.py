"""A finding: one claim, what the records say of it, and by which rule the two agree."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

from supermask.report.observation import display_name

__all__ = [
    "CLOSE_POINTS",
    "FEWEST_TASKS",
    "Finding",
    "Verdict",
    "by_count",
    "names",
    "over_tasks",
    "plus_minus",
    "rank_correlation",
]

Verdict = Literal["agrees", "differs", "mixed", "open", "ours"]

CLOSE_POINTS: Final = 4.4
"""How many points below the baseline still count as little: the largest drop in the paper's own Table 5 (CoLA)."""

FEWEST_TASKS: Final = 2
"""A claim about tasks is left open with fewer."""


@final
@dataclass(frozen=True, kw_only=True)
class Finding:
    """One claim and what the records say of it.

    Args:
        study: name of the study that it belongs to.
        claim: what the paper says, or what we ask.
        verdict: `agrees`, `differs`, or `mixed` where it holds in part; `open` where records do not suffice; `ours`
            where the paper claims nothing.
        evidence: what the records say, with numbers.
        criterion: the rule that the verdict follows.
        records: paths of the records it rests on, relative to their store.
    """

    study: str
    claim: str
    verdict: Verdict
    evidence: str
    criterion: str
    records: tuple[str, ...] = ()


def by_count(held: int, of: int) -> Verdict:
    """A verdict over several cases: `agrees` where it holds in all of them, `differs` in none, else `mixed`.

    Example:
        >>> by_count(4, 4), by_count(1, 4), by_count(0, 4), by_count(0, 0)
        ('agrees', 'mixed', 'differs', 'open')
    """
    if not of:
        return "open"
    return "agrees" if held == of else "differs" if not held else "mixed"


def over_tasks(held: int, of: int) -> Verdict:
    """A verdict over tasks; from one task alone it stays open.

    Example:
        >>> over_tasks(2, 2), over_tasks(1, 1)
        ('agrees', 'open')
    """
    return by_count(held, of) if of >= FEWEST_TASKS else "open"


def plus_minus(value: float) -> str:
    """A correlation with its sign.

    Example:
        >>> plus_minus(-0.5)
        '−0.50'
    """
    return f"{value:+.2f}".replace("-", "−")


def rank_correlation(pairs: Iterable[tuple[float, float]]) -> float | None:
    """Spearman's correlation; None for fewer than 3 pairs, or if one side does not vary.

    Example:
        >>> rank_correlation([(1, 10), (2, 20), (3, 15)])
        0.5
    """
    known = list(pairs)
    if len(known) < 3:
        return None
    first, second = (_ranks([pair[side] for pair in known]) for side in (0, 1))
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return round(statistics.correlation(first, second), 12)


def names(tasks: Iterable[str], values: Mapping[str, str] | None = None) -> str:
    """Tasks in a sentence, each with a value behind it if there is one.

    Example:
        >>> names(["rte", "mrpc"], {"rte": "1.2"})
        'RTE (1.2), MRPC'
    """
    told = values or {}
    return ", ".join(display_name(task) + (f" ({told[task]})" if task in told else "") for task in tasks)


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of theirs."""
    order = sorted(values)
    first = {value: order.index(value) + 1 for value in set(values)}
    return [first[value] + (order.count(value) - 1) / 2 for value in values]
