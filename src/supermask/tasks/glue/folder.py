"""GLUE from a local folder in the official TSV layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from supermask.errors import DataError
from supermask.tasks.glue.rows import GLUE_ROWS, GlueRow
from supermask.tasks.table import Table, refuse
from supermask.tasks.task import Examples
from supermask.tasks.tsv import read_tsv

__all__ = ["folded", "glue_folder", "read_glue_split"]


def folded(name: str) -> str:
    """A name with case, hyphens and underscores taken out, so that `SST-2`, `sst_2` and `sst2` are one.

    Example:
        >>> folded("SST-2")
        'sst2'
    """
    return name.lower().replace("-", "").replace("_", "")


def glue_folder(row: GlueRow, data_dir: str | Path) -> Path:
    """Find the folder of a task: a folder of its name inside `data_dir`, or `data_dir` itself.

    An error says what was looked for and what is there.
    """
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"the data folder {root} {what}; give the folder that holds {row.folder}/ with --data-dir")
    try:
        children = sorted(child for child in root.iterdir() if child.is_dir())
    except OSError as error:
        raise DataError(f"cannot list the data folder {root}: {error.strerror}; make it readable") from error
    named = [child for child in children if folded(child.name) == row.task.name]
    if len(named) > 1:
        raise DataError(
            f"{root} has {len(named)} folders for the task {row.task.name!r} "
            f"({', '.join(child.name for child in named)}); give the one that is meant with --data-dir"
        )
    if named:
        return named[0]
    others = {other.task.name for other in GLUE_ROWS} - {row.task.name}
    holds_files = any((root / name).is_file() for name in row.files.values())
    if holds_files and folded(root.resolve().name) not in others:
        return root
    there = ", ".join(child.name for child in children) or "none"
    raise DataError(
        f"no data of the task {row.task.name!r}: looked in {root} for a folder {row.folder} or {row.task.name} (in any "
        f"case), and for {', '.join(row.files.values())}; the folders there: {there}"
    )


def read_glue_split(row: GlueRow, folder: Path, split: str) -> Examples:
    """Read one split of a GLUE task from its official TSV file.

    Returns:
        The examples in the order of the file; without labels for a test split.
    """
    task = row.task
    path = folder / row.files[split]
    if not path.is_file():
        there = ", ".join(sorted(child.name for child in folder.iterdir())) or "nothing"
        raise DataError(f"split {split!r} of the task {task.name!r}: no file {path}; in that folder: {there}")
    labelled = split not in task.test_splits
    wanted = [row.first, *([row.second] if row.second else []), *([row.label] if labelled else [])]
    table = read_tsv(
        path,
        wanted,
        optional=[row.identifier],
        header=row.labelled_header if labelled else None,
        skip_short_rows=row.broken_train_rows and split == task.train_split,
    )
    if not row.empty_sentences:
        refuse(_empty_sentences(table, wanted[: 2 if row.second else 1]))
    skipped = table.skipped_lines
    return Examples(
        first=_texts(table, row.first),
        second=_texts(table, row.second) if row.second else None,
        labels=_labels(row, table) if labelled else None,
        ids=_texts(table, row.identifier) if row.identifier in table.columns else tuple(map(str, range(len(table)))),
        source=str(path),
        skipped=len(skipped),
        skip_reasons=(_skip_reason(path, skipped),) if skipped else (),
    )


def _texts(table: Table, column: str) -> tuple[str, ...]:
    return tuple(str(value) for value in table.columns[column])


def _skip_reason(path: Path, lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:10])) + (" ..." if len(lines) > 10 else "")
    rows = "1 broken row" if len(lines) == 1 else f"{len(lines)} broken rows"
    return f"{rows} of {path} with too few columns left out (line {shown})"


def _empty_sentences(table: Table, columns: Sequence[str]) -> list[str]:
    return [
        f"{table.where(position)}: the column {column!r} is empty; repair the row or take it out"
        for column in columns
        for position, text in enumerate(_texts(table, column))
        if not text.strip()
    ]


def _labels(row: GlueRow, table: Table) -> tuple[int, ...] | tuple[float, ...]:
    texts = _texts(table, row.label)
    if not row.label_texts:
        return _numbers(row, table, texts)
    index = {text: position for position, text in enumerate(row.label_texts)}
    refuse(
        [
            f"{table.where(position)}: the label {text!r} is none of: {', '.join(row.label_texts)}"
            for position, text in enumerate(texts)
            if text not in index
        ]
    )
    return tuple(index[text] for text in texts)


def _numbers(row: GlueRow, table: Table, texts: Sequence[str]) -> tuple[float, ...]:
    assert row.task.score_range is not None
    low, high = row.task.score_range
    numbers = []
    faults = []
    for position, text in enumerate(texts):
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            faults.append(f"{table.where(position)}: the score {text!r} is not a number from {low:g} to {high:g}")
        numbers.append(number)
    refuse(faults)
    return tuple(numbers)
