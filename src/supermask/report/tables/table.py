"""A table as a value: what stands in each cell, beside it the paper's number, and the records it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, final

from supermask.errors import ConfigurationError

__all__ = ["Table", "TableCell", "TableColumn", "TableRow"]


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
    """A table in the paper's layout.

    Raises:
        ConfigurationError: if a row has another number of cells than there are columns.
    """

    name: str  # of the study
    title: str
    corner: str  # header of the column of row labels
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()  # sentences to stand below it
    absent: tuple[str, ...] = ()  # runs that are not recorded, in as few phrases as that takes
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
