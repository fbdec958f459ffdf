"""The report: all studies on one self-contained page."""

from __future__ import annotations

from supermask.report.page import report_html, write_report

__all__ = ["report_html", "write_report"]
