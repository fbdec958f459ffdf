"""A table: what stands in each cell with the records it came from, and how it is written."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

from supermask.errors import ConfigurationError
from supermask.report.html import templates

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import Text

__all__ = [
    *("Table", "TableCell", "TableColumn", "TableRow"),
    *("table_csv", "table_html", "table_markdown", "terminal_table"),
]

CSV_COLUMNS = (
    *("table", "row", "column", "value", "seeds", "seed_sd", "draw_sd", "paper", "state", "text", "paper_text"),
    *("records", "missing"),
)


@final
@dataclass(frozen=True, kw_only=True)
class TableCell:
    """One number of ours, and the paper's, in the unit that is shown."""

    text: str = ""  # our number as it is shown; empty where the layout has no number
    value: float | None = None
    seeds: int | None = None  # that the value is the mean of
    seed_sd: float | None = None  # standard deviation over them
    draw_sd: float | None = None  # standard deviation over the draws of one run, the mean over the seeds
    paper: str | None = None  # the paper's number as it is shown
    paper_value: float | None = None
    records: tuple[str, ...] = ()  # paths of the records it came from, relative to their store
    missing: tuple[str, ...] = ()  # runs or measures that belong in it and are not there, in words
    strong: bool = False  # set in bold

    @property
    def state(self) -> Literal["whole", "partial", "missing", "empty"]:
        """Whether all runs are in it, some, none though it should have some, or whether it is to be empty."""
        if self.missing:
            return "partial" if self.text else "missing"
        return "whole" if self.text else "empty"


@final
@dataclass(frozen=True)
class TableColumn:
    """A column's header: its key for machines, its title, and a second line with the metric or what is special."""

    key: str
    title: str
    subtitle: str = ""


@final
@dataclass(frozen=True)
class TableRow:
    """A row: its key for machines, its header, its cells, and whether it only explains the row above."""

    key: str
    label: str
    cells: tuple[TableCell, ...]
    minor: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; `ConfigurationError` if a row has another number of cells than there are columns."""

    name: str  # of the study
    title: str
    corner: str  # header of the column of row labels
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()  # sentences to stand below it
    missing: tuple[str, ...] = ()  # runs that are not recorded, in as few phrases as that takes
    command: str = ""  # what makes the records

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ConfigurationError(
                    f"table {self.name}: row {row.label!r} has {len(row.cells)} cells for {len(self.columns)} columns"
                )

    def placed(self) -> Iterator[tuple[TableRow, TableColumn, TableCell]]:
        """Every cell with its row and its column, in reading order."""
        for row in self.rows:
            for column, cell in zip(self.columns, row.cells, strict=True):
                yield row, column, cell


def table_csv(table: Table) -> str:
    """A table as CSV, one line a cell; several records or missing runs are separated by semicolons."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row, column, cell in table.placed():
        numbers = (cell.value, cell.seeds, cell.seed_sd, cell.draw_sd, cell.paper_value)
        shown = ["" if one is None else f"{one:.10g}" for one in numbers]
        texts = [cell.state, cell.text, cell.paper or "", "; ".join(cell.records), "; ".join(cell.missing)]
        writer.writerow([table.name, row.key, column.key, *shown, *texts])
    return text.getvalue()


def table_markdown(table: Table) -> str:
    """A table as Markdown of the GitHub kind, title above and notes below; the paper's number stands in parentheses."""
    headers = [column.title + (f", {column.subtitle}" if column.subtitle else "") for column in table.columns]
    lines = [
        f"**{_escaped(table.title)}**",
        "",
        _line([table.corner, *headers]),
        "|:---" + "|---:" * len(headers) + "|",
        *(_line([row.label, *map(_cell_text, row.cells)]) for row in table.rows),
        "",
    ]
    for note in (*table.notes, *([f"Missing: {'; '.join(table.missing)}."] if table.missing else [])):
        lines += [_escaped(note), ""]
    return "\n".join(lines)


def table_html(table: Table) -> str:
    """A table as one HTML element; classes say what a cell is, and a cell's title what is missing."""
    return templates().get_template("table.html").render(table=table).strip()


def terminal_table(table: Table) -> RichTable:
    """A table as rich prints it, without title and notes: ours above, the paper's number below it in parentheses."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column(Text(table.corner))
    for column in table.columns:
        shown.add_column(Text("\n".join(filter(None, (column.title, column.subtitle)))), justify="right", no_wrap=True)
    for row in table.rows:
        label = Text(f"  {row.label}" if row.minor else row.label, style="dim" if row.minor else "")
        shown.add_row(label, *map(_terminal_cell, row.cells))
    return shown


def _terminal_cell(cell: TableCell) -> Text:
    from rich.text import Text

    text = Text()
    if cell.text:
        text.append(cell.text, style="bold" if cell.strong else "yellow" if cell.missing else "")
    elif cell.missing:
        text.append("missing", style="red")
    if cell.paper:
        text.append(("\n" if text.plain else "") + f"({cell.paper})", style="dim")
    return text


def _line(texts: list[str]) -> str:
    return "| " + " | ".join(map(_escaped, texts)) + " |"


def _cell_text(cell: TableCell) -> str:
    text = cell.text or ("*missing*" if cell.missing else "")
    if cell.strong and cell.text:
        text = f"**{text}**"
    return " ".join(part for part in (text, f"({cell.paper})" if cell.paper else "") if part)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
