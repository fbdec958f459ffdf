"""The report: records -> tables, figures, verdicts, one self-contained page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supermask.report.page import report_html, write_report

__all__ = ["report_html", "write_report"]


def __getattr__(name: str) -> Any:
    # Imported when first used: `inspect` and `train` draw a delta's zeros and need no study.
    if name not in __all__:
        raise AttributeError(f"module 'supermask.report' has no attribute {name!r}")
    from supermask.report import page

    return getattr(page, name)
