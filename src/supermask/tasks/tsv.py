"""Tab-separated files in which a quotation mark is a letter like any other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from supermask.errors import DataError
from supermask.tasks.table import Table, numbered_lines, read_rows

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
    lines = numbered_lines(path)
    header_says = "the header" if header is None else "the format"
    if header is None:
        _, first = next(lines, (0, None))
        if first is None:
            raise DataError(f"{path}: the file is empty; it should begin with a header line naming {', '.join(wanted)}")
        header = first.split("\t")
    table = read_rows(
        path,
        header,
        ((number, line.split("\t")) for number, line in lines),
        wanted,
        optional,
        header_says=header_says,
        remedy="repair the row or take it out",
        skip_short_rows=skip_short_rows,
    )
    if not table.lines:
        columns = ", ".join(header)
        raise DataError(f"{path}: the file has no rows; it should have one example a line, with the columns {columns}")
    return table


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
