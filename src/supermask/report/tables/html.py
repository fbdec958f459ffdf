"""A table as HTML: an element to put into a page."""

from __future__ import annotations

from html import escape

from supermask.report.tables.table import Table, TableCell, TableRow

__all__ = ["table_html"]


def table_html(table: Table, *, identifier: str = "") -> str:
    """A table as one HTML element, headers marked as such; classes say what a cell is, a style sheet how it looks.

    Cells have the class `missing` or `partial` where runs are not there, and say which in their title. The paper's
    number stands in a `span` of class `paper`.

    Args:
        table: the table.
        identifier: the element's id.
    """
    head = "".join(
        f'<th scope="col">{escape(column.title)}'
        + (f'<span class="sub">{escape(column.subtitle)}</span>' if column.subtitle else "")
        + "</th>"
        for column in table.columns
    )
    rows = "\n".join(_row_html(row) for row in table.rows)
    attribute = f' id="{escape(identifier)}"' if identifier else ""
    return (
        f"<table{attribute}>\n<caption>{escape(table.title)}</caption>\n"
        f'<thead><tr><th scope="col">{escape(table.corner)}</th>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table>"
    )


def _row_html(row: TableRow) -> str:
    cells = "".join(_cell_html(cell) for cell in row.cells)
    kind = ' class="minor"' if row.minor else ""
    return f'<tr{kind}><th scope="row">{escape(row.label)}</th>{cells}</tr>'


def _cell_html(cell: TableCell) -> str:
    state = cell.state
    ours = escape(cell.text) if cell.text else "missing" if state == "missing" else ""
    ours = ours.replace(" [", " <br>[")  # an interval under its number, so that eight tasks fit side by side
    if cell.strong and cell.text:
        ours = f"<strong>{ours}</strong>"
    if ours:
        ours = f'<span class="ours">{ours}</span>'
    paper = f'<span class="paper"><span class="hidden">paper: </span>{escape(cell.paper)}</span>' if cell.paper else ""
    kind = f' class="{state}"' if state in ("missing", "partial") else ""
    absent = escape("; ".join(cell.missing), quote=True)
    title = f' title="missing: {absent}"' if absent else ""
    return f"<td{kind}{title}>{ours}{paper}</td>"
