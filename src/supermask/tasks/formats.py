"""Columns by name out of CSV, TSV, JSON Lines and Parquet files."""

from __future__ import annotations

import csv
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from supermask.errors import DataError, MissingDependencyError
from supermask.tasks.table import Table, absent_columns, numbered_lines, read_rows, refuse
from supermask.tasks.tsv import read_tsv

__all__ = ["read_csv", "read_jsonl", "read_parquet", "read_table"]

_FIELD_LIMIT_LOCK: Final = threading.Lock()


def read_table(path: Path, wanted: Sequence[str], *, optional: Sequence[str] = ()) -> Table:
    """Read columns of a data file, whose format is told by the end of its name."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        ends = ", ".join(_READERS)
        hint = " (one JSON object a line is .jsonl)" if path.suffix.lower() == ".json" else ""
        raise DataError(f"{path}: the name should end in one of {ends}, which says what the format is{hint}")
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise DataError(f"the data file {path} {what}; give the path of a {path.suffix} file")
    table = reader(path, wanted, optional=optional)
    if len(table) == 0:
        raise DataError(f"{path}: the file has no rows; it should have one row for each example")
    return table


def read_csv(path: Path, wanted: Sequence[str], *, optional: Sequence[str] = ()) -> Table:
    """Read columns of a comma-separated file with a header; quoted cells may hold commas, quotes and line ends."""
    with _unlimited_fields():
        rows = _csv_rows(path)
        _, header = next(rows, (0, []))
        if not header:
            refuse([f"{path}: empty, or the first line is; it should be a header naming {', '.join(wanted)}"])
        separator = next((s for s in ";\t|" if s in header[0]), None) if len(header) == 1 else None
        if separator and absent_columns(path, header, wanted):
            refuse([f"{path}:1: the cells are separated by {separator!r}; separate them by commas"])
        return read_rows(path, header, rows, wanted, optional, remedy="put cells that hold commas in quotes")


def read_jsonl(path: Path, wanted: Sequence[str], *, optional: Sequence[str] = ()) -> Table:
    """Read keys of a file with one JSON object a line, optional ones where the first object has them."""
    faults: list[str] = []
    lines: list[int] = []
    names: list[str] = []
    columns: list[list[object]] = []
    for number, line in numbered_lines(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.append(f"{path}:{number}: not JSON ({error}); write one object a line")
            continue
        if not isinstance(record, dict):
            faults.append(f"{path}:{number}: a JSON {type(record).__name__} where an object {{...}} is expected")
            continue
        if not names:
            refuse(absent_columns(path, list(record), wanted))
            names = [*wanted, *(name for name in optional if name in record)]
            columns = [[] for _ in names]
        absent = [name for name in names if name not in record]
        if absent:
            faults.append(
                f"{path}:{number}: no key {', '.join(map(repr, absent))} in this object, which the first one has"
            )
            continue
        lines.append(number)
        for column, name in zip(columns, names, strict=True):
            column.append(record[name])
    refuse(faults)
    return Table(path, dict(zip(names, columns, strict=True)), lines)


def read_parquet(path: Path, wanted: Sequence[str], *, optional: Sequence[str] = ()) -> Table:
    """Read columns of a Parquet file; it needs pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(f"reading {path} needs pyarrow: pip install 'supermask[parquet]'") from error
    try:
        present = list(pyarrow.parquet.read_schema(path).names)
        refuse(absent_columns(path, present, wanted))
        names = [*wanted, *(name for name in optional if name in present)]
        table = pyarrow.parquet.read_table(path, columns=names)
    except (pyarrow.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(f"{path}: not a readable Parquet file ({reason}); write it again") from error
    return Table(path, {name: table.column(name).to_pylist() for name in names}, None)


_READERS: Final[dict[str, Callable[..., Table]]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
}


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    begins = 1
    blank: list[int] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                line, begins = begins, reader.line_num + 1
                if not cells:
                    blank.append(line)
                    continue
                yield from ((empty, []) for empty in blank)
                blank.clear()
                yield line, cells
    except csv.Error as error:
        refuse(
            [f"{path}:{begins}: not CSV ({error}); close every quotation mark, and double those inside a quoted cell"]
        )
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; give the path of a readable file") from error


@contextmanager
def _unlimited_fields() -> Iterator[None]:
    # The module's limit of 128 KiB a cell is a setting of the whole process: lifted for one file and put back.
    with _FIELD_LIMIT_LOCK:
        previous = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
        try:
            yield
        finally:
            csv.field_size_limit(previous)
