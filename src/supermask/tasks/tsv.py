"""Tab-separated files in which a quotation mark is a letter like any other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from supermask.tasks.table import Table, absent_columns, column_count, numbered_lines, refuse

__all__ = ["read_tsv", "tsv_line"]


def read_tsv(
    path: Path,
    wanted: Sequence[str],
    *,
    optional: Sequence[str] = (),
    header: Sequence[str] | None = None,
    skip_short_rows: bool = False,
) -> Table:
    """Read columns of a TSV file by name, leaving quotes and all other characters as they stand.

    Args:
        path: the file: UTF-8 with or without a byte-order mark, lines ended by LF or CRLF.
        wanted: names of the columns to read.
        optional: names of columns to read where the file has them.
        header: the names of the columns of a file that has no header line; None where the first line names them.
        skip_short_rows: leave out rows with too few columns and record their lines, rather than refuse the file.

    Returns:
        The wanted columns, and the optional ones that exist.

    Raises:
        DataError: the file cannot be read, is empty, lacks a wanted column, or has a row of another width.
    """
    rows = numbered_lines(path)
    if header is None:
        first = next(rows, None)
        if first is None:
            refuse([f"{path}: the file is empty; it should begin with a header line naming {_listed(wanted)}"])
        assert first is not None
        header = first[1].split("\t")
        header_says = "the header"
    else:
        header_says = "the format"
    refuse(absent_columns(path, header, wanted))
    names = [*wanted, *(name for name in optional if name in header)]
    positions = [list(header).index(name) for name in names]

    # Only the wanted columns are kept: the parse columns of the official MNLI files are most of their 400 MB.
    columns: list[list[str]] = [[] for _ in names]
    lines: list[int] = []
    skipped: list[int] = []
    faults: list[str] = []
    for number, line in rows:
        cells = line.split("\t")
        if skip_short_rows and len(cells) < len(header):
            skipped.append(number)
        elif len(cells) != len(header):
            faults.append(
                f"{path}:{number}: {column_count(len(cells))} where {header_says} has {len(header)} "
                f"({_listed(header)}); repair the row or take it out"
            )
        else:
            lines.append(number)
            for column, position in zip(columns, positions, strict=True):
                column.append(cells[position])
    refuse(faults)
    if not lines:
        refuse([f"{path}: the file has no rows; it should have one example a line, with the columns {_listed(header)}"])
    return Table(path, dict(zip(names, columns, strict=True)), lines, tuple(skipped))


def tsv_line(cells: Iterable[str]) -> str:
    r"""A line of a TSV file, without its end; whatever a cell holds, it stays one cell of one line.

    What is not printable (tabs and line breaks above all) and the backslash are written as in a JSON string.

    Args:
        cells: the texts; labels and identifiers may come from anywhere.

    Example:
        >>> print(tsv_line(["7", "good\n8", "a \\ b"]).replace("\t", "<TAB>"))
        7<TAB>good\n8<TAB>a \\ b
    """
    return "\t".join(
        "".join(
            character if character.isprintable() and character != "\\" else json.dumps(character)[1:-1]
            for character in cell
        )
        for cell in cells
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
