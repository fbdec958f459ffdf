"""A table as CSV: one line a cell, so that a program needs no knowledge of the layout."""

from __future__ import annotations

import csv
import io

from supermask.report.tables.table import Table

__all__ = ["CSV_COLUMNS", "table_csv"]

CSV_COLUMNS = (
    "table",
    "row",
    "column",
    "value",
    "seeds",
    "seed_sd",
    "draw_sd",
    "paper",
    "state",
    "text",
    "paper_text",
    "records",
    "missing",
)


def table_csv(table: Table) -> str:
    """A table as CSV, one line a cell; several records or missing runs are separated by semicolons.

    Args:
        table: the table.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row, column, cell in table.placed():
        writer.writerow(
            [
                table.name,
                row.key or row.label,
                column.key or column.title,
                _number(cell.value),
                _number(cell.seeds),
                _number(cell.seed_sd),
                _number(cell.draw_sd),
                _number(cell.paper_value),
                cell.state,
                cell.text,
                cell.paper or "",
                "; ".join(cell.records),
                "; ".join(cell.missing),
            ]
        )
    return text.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else repr(value) if isinstance(value, int) else f"{value:.10g}"
