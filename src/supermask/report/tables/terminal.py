"""A table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supermask.report.tables.table import Table, TableCell

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import Text

__all__ = ["terminal_table"]


def terminal_table(table: Table) -> RichTable:
    """A table as rich prints it: ours above, the paper's number below it in parentheses.

    Args:
        table: the table; its title and notes are not in it.
    """
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column(Text(table.corner))
    for column in table.columns:
        shown.add_column(Text("\n".join(filter(None, (column.title, column.subtitle)))), justify="right", no_wrap=True)
    for row in table.rows:
        label = Text(f"  {row.label}" if row.minor else row.label, style="dim" if row.minor else "")
        shown.add_row(label, *map(_cell, row.cells))
    return shown


def _cell(cell: TableCell) -> Text:
    from rich.text import Text

    text = Text()
    if cell.text:
        text.append(cell.text, style="bold" if cell.strong else "yellow" if cell.missing else "")
    elif cell.missing:
        text.append("missing", style="red")
    if cell.paper:
        text.append(("\n" if text.plain else "") + f"({cell.paper})", style="dim")
    return text
