"""Where the records agree with the paper and where not: claims, evidence and verdicts, each by a stated rule.

No verdict is written down anywhere: each follows from the records by the criterion that stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from supermask.report.reading.finding import Finding, Verdict
from supermask.report.reading.learning import CLOSE_POINTS, LEARNING, higher_sparsity
from supermask.report.reading.weights import CLOSENESS, MASKS
from supermask.report.results import StudyResults

__all__ = ["CLOSE_POINTS", "Finding", "Verdict", "read_results"]


def read_results(results: Mapping[str, StudyResults]) -> tuple[Finding, ...]:
    """All findings, in the order of the paper's sections.

    Args:
        results: of the studies, by name; what a missing study would tell is left out.
    """
    return tuple(_findings(results))


def _findings(results: Mapping[str, StudyResults]) -> Iterator[Finding]:
    for name, read in (*CLOSENESS, *LEARNING, *MASKS):
        if name in results:
            yield from read(results[name])
            if name == "figure8":
                yield higher_sparsity(results[name], results.get("figure3"))
