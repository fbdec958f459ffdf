"""A finding: one claim, what the records say of it, and by which rule the two agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, final

from supermask.report.results import StudyResults
from supermask.report.wording import names

__all__ = ["Finding", "Reader", "Verdict", "by_count", "task_finding"]

Verdict = Literal["agrees", "differs", "mixed", "open", "ours"]


@final
@dataclass(frozen=True)
class Finding:
    """One claim and what the records say of it."""

    study: str  # name of the study that it belongs to
    claim: str  # what the paper says, or what we ask
    criterion: str  # the rule that the verdict follows
    verdict: Verdict  # `mixed` where it holds in part; `open` where records do not suffice; `ours` without a claim
    evidence: str  # what the records say, with numbers


Reader = tuple[str, Callable[[StudyResults], Iterator[Finding]]]
"""A study by name, and what its results say."""


def task_finding(
    results: StudyResults,
    claim: str,
    criterion: str,
    held: Mapping[str, bool],
    evidence: str,
    told: Mapping[str, str],
    *,
    otherwise: str,
    after: str = "",
) -> Finding:
    """A finding of where a claim held and what is told of each task; from one task alone it stays open.

    The evidence has numbers of tasks, `{held}` and `{all}`, and `{names}`, the tasks with what is told; `otherwise`
    stands in its place if there is no task, and `after` behind either.
    """
    holding, tasks = sum(held.values()), len(held)
    said = evidence.format(held=holding, all=tasks, names=names(told, told)) if held else otherwise
    verdict = by_count(holding, tasks) if tasks > 1 else "open"
    return Finding(results.study.name, claim, criterion, verdict, said + after)


def by_count(held: int, of: int) -> Verdict:
    """A verdict over several cases: `agrees` where it holds in all of them, `differs` in none, else `mixed`.

    Example:
        >>> by_count(4, 4), by_count(1, 4), by_count(0, 4), by_count(0, 0)
        ('agrees', 'mixed', 'differs', 'open')
    """
    if not of:
        return "open"
    return "agrees" if held == of else "differs" if not held else "mixed"
