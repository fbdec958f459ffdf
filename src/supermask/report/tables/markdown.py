"""A table as Markdown."""

from __future__ import annotations

from supermask.report.tables.table import Table, TableCell

__all__ = ["table_markdown"]

_MISSING = "*missing*"


def table_markdown(table: Table) -> str:
    """A table as Markdown of the GitHub kind, with its title above and its notes below.

    A missing number is written out as such; the paper's number follows ours in parentheses.

    Args:
        table: the table.

    Example:
        >>> from supermask.report.tables.table import TableColumn, TableRow
        >>> cells = (TableCell(text="84.8", paper="91.3"), TableCell(missing=("rte, seed 0",), paper="68.8"))
        >>> columns = (TableColumn(title="MRPC"), TableColumn(title="RTE"))
        >>> rows = (TableRow(label="supermask", cells=cells),)
        >>> print(table_markdown(Table(name="t", title="Low sparsity", corner="method", columns=columns, rows=rows)))
        **Low sparsity**
        <BLANKLINE>
        | method | MRPC | RTE |
        |:---|---:|---:|
        | supermask | 84.8 (91.3) | *missing* (68.8) |
        <BLANKLINE>
    """
    headers = [column.title + (f", {column.subtitle}" if column.subtitle else "") for column in table.columns]
    lines = [
        f"**{_escaped(table.title)}**",
        "",
        _line([table.corner, *headers]),
        "|:---" + "|---:" * len(headers) + "|",
        *(_line([row.label, *map(_cell_text, row.cells)]) for row in table.rows),
        "",
    ]
    for note in (*table.notes, *([f"Missing: {'; '.join(table.absent)}."] if table.absent else [])):
        lines += [_escaped(note), ""]
    return "\n".join(lines)


def _line(texts: list[str]) -> str:
    return "| " + " | ".join(_escaped(text) for text in texts) + " |"


def _cell_text(cell: TableCell) -> str:
    text = cell.text if cell.text else _MISSING if cell.missing else ""
    if cell.strong and cell.text:
        text = f"**{text}**"
    return " ".join(part for part in (text, f"({cell.paper})" if cell.paper else "") if part)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
