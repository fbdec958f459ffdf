"""Where the records agree with the paper and where not: claims, evidence and verdicts, each by a stated rule.

No verdict is written down anywhere: each follows from the records by the criterion that stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from supermask.report.reading.finding import Finding
from supermask.report.reading.learning import LEARNING, higher_sparsity
from supermask.report.reading.weights import CLOSENESS, MASKS
from supermask.report.results import StudyResults

__all__ = ["Finding", "read_results"]


def read_results(results: Mapping[str, StudyResults]) -> tuple[Finding, ...]:
    """All findings of studies by name, in the order of the paper's sections; what a missing study tells is left out."""
    return tuple(_findings(results))


def _findings(results: Mapping[str, StudyResults]) -> Iterator[Finding]:
    for name, read in (*CLOSENESS, *LEARNING, *MASKS):
        if name in results:
            yield from read(results[name])
            if name == "figure8":
                yield higher_sparsity(results[name], results.get("figure3"))
