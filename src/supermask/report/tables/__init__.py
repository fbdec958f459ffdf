"""The tables of the studies: from records to cells, and as text, Markdown, CSV and HTML."""

from __future__ import annotations

from supermask.report.tables.layouts import LAYOUTS, study_table
from supermask.report.tables.table import Table, TableCell, table_csv, table_html, table_markdown, terminal_table

__all__ = [
    "LAYOUTS",
    "Table",
    "TableCell",
    "study_table",
    "table_csv",
    "table_html",
    "table_markdown",
    "terminal_table",
]
