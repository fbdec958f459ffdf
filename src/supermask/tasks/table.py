"""The columns of one data file, with the place of every row, so that an error can name file and line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from supermask.errors import DataError

__all__ = ["Table", "absent_columns", "faults_of", "numbered_lines", "read_rows", "refuse"]

_SHOWN_FAULTS: Final = 8
_FAULT_SEPARATOR: Final = "\n  "
_BYTE_ORDER_MARK: Final = "\ufeff"


@final
@dataclass(frozen=True)
class Table:
    """Some columns of a data file.

    Args:
        path: the file.
        columns: column name to its values, one a row.
        lines: the line of the file on which each row begins, from 1; None for a format without lines.
        skipped_lines: lines of broken rows that were left out.
    """

    path: Path
    columns: Mapping[str, Sequence[object]]
    lines: Sequence[int] | None
    skipped_lines: tuple[int, ...] = ()

    def __len__(self) -> int:
        return max((len(values) for values in self.columns.values()), default=0)

    def where(self, row: int) -> str:
        """The place of a row in words: `train.tsv:7`, or `train.parquet, row 6` where there are no lines."""
        return f"{self.path}, row {row + 1}" if self.lines is None else f"{self.path}:{self.lines[row]}"


def refuse(faults: Sequence[str]) -> None:
    """Raise one error that holds all faults found; do nothing where there are none.

    Example:
        >>> refuse([])
        >>> refuse(["a.csv:2: no label"])
        Traceback (most recent call last):
        supermask.errors.DataError: a.csv:2: no label
    """
    if not faults:
        return
    if len(faults) == 1:
        raise DataError(faults[0])
    lines = [f"{len(faults)} faults in the data:", *faults[:_SHOWN_FAULTS]]
    if len(faults) > _SHOWN_FAULTS:
        lines.append(f"... and {len(faults) - _SHOWN_FAULTS} more")
    raise DataError(_FAULT_SEPARATOR.join(lines))


def faults_of(error: DataError) -> list[str]:
    """The faults that `refuse` put into an error, so that those of several files can be told together.

    Example:
        >>> try:
        ...     refuse(["a.csv:2: no label", "a.csv:5: no label"])
        ... except DataError as error:
        ...     print(faults_of(error))
        ['a.csv:2: no label', 'a.csv:5: no label']
    """
    first, *rest = str(error).split(_FAULT_SEPARATOR)
    return rest or [first]


def absent_columns(path: Path, present: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """One fault for each wanted column that the file does not have, or has twice.

    Example:
        >>> absent_columns(Path("a.csv"), ["sentence", "label"], ["sentense"])
        ["a.csv: no column 'sentense'; did you mean 'sentence'? the columns are: sentence, label"]
    """
    faults = []
    for name in wanted:
        if present.count(name) > 1:
            faults.append(f"{path}: the column {name!r} stands {present.count(name)} times in the header")
        elif name not in present:
            close = difflib.get_close_matches(name, present, n=1)
            hint = f" did you mean {close[0]!r}?" if close else ""
            faults.append(f"{path}: no column {name!r};{hint} the columns are: {', '.join(present) or 'none'}")
    return faults


def read_rows(
    path: Path,
    header: Sequence[str],
    rows: Iterable[tuple[int, Sequence[str]]],
    wanted: Sequence[str],
    optional: Sequence[str] = (),
    *,
    header_says: str = "the header",
    remedy: str,
    skip_short_rows: bool = False,
) -> Table:
    """Keep the wanted columns of numbered rows, and the optional ones that exist; every row is as wide as the header.

    What is not wanted is let go at once: the parse columns of the official MNLI files are most of their 400 MB.
    """
    refuse(absent_columns(path, header, wanted))
    names = [*wanted, *(name for name in optional if name in header)]
    positions = [list(header).index(name) for name in names]
    columns: list[list[str]] = [[] for _ in names]
    lines: list[int] = []
    skipped: list[int] = []
    faults: list[str] = []
    for number, cells in rows:
        if skip_short_rows and len(cells) < len(header):
            skipped.append(number)
        elif len(cells) != len(header):
            faults.append(
                f"{path}:{number}: {len(cells)} {'column' if len(cells) == 1 else 'columns'} where {header_says} has "
                f"{len(header)} ({', '.join(header)}); {remedy}"
            )
        else:
            lines.append(number)
            for column, position in zip(columns, positions, strict=True):
                column.append(cells[position])
    refuse(faults)
    return Table(path, dict(zip(names, columns, strict=True)), lines, tuple(skipped))


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""The lines of a UTF-8 file with their numbers from 1, ended by LF or CRLF and by nothing else.

    U+2028, U+0085 and their like stand inside the sentences of real data, where `str.splitlines` would cut them. A
    byte-order mark is taken off, and so are blank lines at the end of the file.
    """
    try:
        with path.open("rb") as file:
            blank: list[int] = []
            for number, raw in enumerate(file, start=1):
                line = _decoded(path, number, raw)
                if number == 1:
                    line = line.removeprefix(_BYTE_ORDER_MARK)
                if not line:
                    blank.append(number)
                    continue
                yield from ((empty, "") for empty in blank)
                blank.clear()
                yield number, line
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; give the path of a readable file") from error


def _decoded(path: Path, number: int, raw: bytes) -> str:
    try:
        return raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}: byte 0x{raw[error.start]:02x} (byte {error.start + 1} of the line) is not UTF-8; "
            "save the file as UTF-8"
        ) from error
