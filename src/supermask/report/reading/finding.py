"""A finding: one claim, what the records say of it, and by which rule the two agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, final

from supermask.report.results import StudyResults
from supermask.report.wording import names

__all__ = ["Finding", "Verdict", "by_count", "finding", "over_tasks", "task_finding"]

Verdict = Literal["agrees", "differs", "mixed", "open", "ours"]


@final
@dataclass(frozen=True, kw_only=True)
class Finding:
    """One claim and what the records say of it."""

    study: str  # name of the study that it belongs to
    claim: str  # what the paper says, or what we ask
    verdict: Verdict  # `mixed` where it holds in part; `open` where records do not suffice; `ours` without a claim
    evidence: str  # what the records say, with numbers
    criterion: str  # the rule that the verdict follows
    records: tuple[str, ...] = ()  # paths of the records it rests on, relative to their store


def finding(
    results: StudyResults,
    claim: str,
    criterion: str,
    verdict: Verdict,
    evidence: str,
    *,
    records: Iterable[str] | None = None,
) -> Finding:
    """A finding of a study, resting on all of its records if no others are named."""
    return Finding(
        study=results.study.name,
        claim=claim,
        verdict=verdict,
        evidence=evidence,
        criterion=criterion,
        records=tuple(results.paths if records is None else records),
    )


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
    records: Iterable[str] | None = None,
) -> Finding:
    """A finding over tasks.

    Args:
        results, claim, criterion, records: as for `finding`.
        held: by task, whether it holds there.
        evidence: with `{held}` and `{all}`, numbers of tasks, and `{names}`, the tasks with what is told of each.
        told: by task.
        otherwise: the evidence if there is no task.
        after: to stand behind either.
    """
    said = evidence.format(held=sum(held.values()), all=len(held), names=names(told, told)) if held else otherwise
    return finding(results, claim, criterion, over_tasks(sum(held.values()), len(held)), said + after, records=records)


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
    return by_count(held, of) if of > 1 else "open"
