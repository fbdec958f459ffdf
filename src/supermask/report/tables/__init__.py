"""The tables of the studies: from records to cells, and as text, Markdown, CSV and HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from supermask.report.results import StudyResults
from supermask.report.tables.distances import table2
from supermask.report.tables.layouts import appendix_a, arms_table, table1, table3, table4, table5, table6
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

LAYOUTS: Mapping[str, Callable[[StudyResults], Table]] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table4": table4,
    "table5": table5,
    "table6": table6,
    "appendix-a": appendix_a,
}
"""The layouts of the paper's tables, by the name of their study."""


def study_table(results: StudyResults) -> Table:
    """The table of a study: in the paper's layout where it has one, else a row an arm.

    A figure's study can be shown as a table, too: its scores and zeros.
    """
    return LAYOUTS.get(results.study.name, arms_table)(results)
