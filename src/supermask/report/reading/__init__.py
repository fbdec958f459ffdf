"""Where the records agree with the paper and where not: claims, evidence and verdicts, each by a stated rule.

No verdict is written down anywhere: each follows from the records by the criterion that stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping

from supermask.report.reading.closeness import closeness_findings
from supermask.report.reading.finding import CLOSE_POINTS, Finding, Verdict
from supermask.report.reading.learning import learning_findings
from supermask.report.reading.masks import mask_findings
from supermask.report.results import StudyResults

__all__ = ["CLOSE_POINTS", "Finding", "Verdict", "read_results"]


def read_results(results: Mapping[str, StudyResults]) -> tuple[Finding, ...]:
    """All findings, in the order of the paper's sections.

    Args:
        results: of the studies, by name; what a missing study would tell is left out.
    """
    return (*closeness_findings(results), *learning_findings(results), *mask_findings(results))
