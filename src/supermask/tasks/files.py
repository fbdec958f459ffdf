"""Your own data: a task out of CSV, TSV, JSON Lines or Parquet files, by column names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from supermask.errors import ConfigurationError, DataError
from supermask.tasks.examples import Examples
from supermask.tasks.formats import read_table
from supermask.tasks.kinds import LABEL_KINDS
from supermask.tasks.table import Table, faults_of, refuse
from supermask.tasks.task import Task, TaskData

__all__ = ["infer_label_names", "load_files", "load_texts"]

_MANY_LABELS: Final = 50


def load_files(
    *,
    train: str | Path | None = None,
    dev: str | Path | None = None,
    test: str | Path | None = None,
    text: str = "sentence",
    text_pair: str | None = None,
    label: str = "label",
    regression: bool = False,
    name: str = "own-data",
    metrics: Sequence[str] | None = None,
    label_names: Sequence[str] | None = None,
) -> TaskData:
    """Load a task from files of your own.

    The classes are those of the train file, in numerical order if all are numbers and in alphabetical order otherwise.
    A test file is to be predicted: its labels are read where it has the column, and are not needed.

    Args:
        train: the file to learn from (`.csv`, `.tsv`, `.jsonl`, `.ndjson` or `.parquet`).
        dev: the labelled file to report scores on.
        test: the file to predict.
        text: column of the (first) sentence.
        text_pair: column of the second sentence, for tasks of pairs.
        label: column of the label.
        regression: whether the label is a number rather than a class.
        name: name of the task in records and tables.
        metrics: the metrics, the primary one first; by default accuracy and F1 of class 1 for two classes, accuracy and
            macro F1 for more, Spearman and Pearson for regression.
        label_names: the classes in order, for files whose classes are known already (those of a stored delta, say).

    Returns:
        The task with the splits `train`, `dev` and `test` as far as they are given.

    Raises:
        ConfigurationError: no file is given, classes cannot be known, or settings contradict each other.
        DataError: a file is missing or malformed, a column or value is missing, or a label is not of the train file's;
            all faults of all files together.
        MissingDependencyError: a file is Parquet and pyarrow is not installed.
    """
    paths = {
        split: Path(path).expanduser()
        for split, path in (("train", train), ("dev", dev), ("test", test))
        if path is not None
    }
    _check_settings(paths, text, text_pair, label, regression, label_names)

    tables: dict[str, Table] = {}
    faults: list[str] = []
    for split, path in paths.items():
        wanted = [text, *([text_pair] if text_pair else []), *([label] if split != "test" else [])]
        try:
            tables[split] = read_table(path, wanted, optional=[label] if split == "test" else [])
        except DataError as error:
            faults += faults_of(error)
    refuse(faults)

    texts = {split: [_texts(tables[split], column, faults) for column in _filled(text, text_pair)] for split in tables}
    raw = {split: _label_texts(table, label, faults) for split, table in tables.items() if label in table.columns}
    # Labels that are missing would show again below as unknown ones.
    refuse(faults)
    labels: Mapping[str, tuple[int, ...] | tuple[float, ...]]
    if regression:
        names: tuple[str, ...] = ()
        labels = {split: _numbers(tables[split], label, values, faults) for split, values in raw.items()}
    else:
        names = (
            tuple(label_names) if label_names is not None else infer_label_names(tables["train"], label, raw["train"])
        )
        origin = "the label_names given" if label_names is not None else "the train file"
        labels = {split: _indices(tables[split], label, values, names, origin, faults) for split, values in raw.items()}
    refuse(faults)

    law = LABEL_KINDS["regression" if regression else "classification"](names=names)
    task = Task(
        name=name,
        kind=law.kind,
        label_names=names,
        metrics=law.default_metrics if metrics is None else tuple(metrics),
        paired=text_pair is not None,
        test_splits=("test",),
    )
    splits = {
        split: Examples(
            first=texts[split][0],
            second=texts[split][1] if text_pair else None,
            labels=labels.get(split),
            ids=tuple(map(str, range(len(table)))),
            source=str(table.path),
        )
        for split, table in tables.items()
    }
    return TaskData(task, splits)


def load_texts(file: str | Path, *, text: str = "sentence", text_pair: str | None = None) -> Examples:
    """Load texts of your own that are to be predicted; whatever else the file holds is not looked at.

    Args:
        file: a `.csv`, `.tsv`, `.jsonl`, `.ndjson` or `.parquet` file.
        text: column of the (first) sentence.
        text_pair: column of the second sentence, for tasks of pairs.

    Returns:
        The examples, without labels, numbered by row.

    Raises:
        DataError: the file is missing or malformed, or a column or text is missing; all faults together.
        MissingDependencyError: the file is Parquet and pyarrow is not installed.
    """
    path = Path(file).expanduser()
    table = read_table(path, _filled(text, text_pair))
    faults: list[str] = []
    texts = [_texts(table, column, faults) for column in _filled(text, text_pair)]
    refuse(faults)
    return Examples(
        first=texts[0],
        second=texts[1] if text_pair is not None else None,
        labels=None,
        ids=tuple(map(str, range(len(table)))),
        source=str(path),
    )


def infer_label_names(table: Table, label: str, values: Sequence[str]) -> tuple[str, ...]:
    """The classes of a label column, in numerical order if all are numbers and in alphabetical order otherwise.

    One class alone is refused, and so many that the column must hold something else.

    Example:
        >>> infer_label_names(Table(Path("a.csv"), {}, None), "label", ["10", "2", "2"])
        ('2', '10')
    """
    distinct = set(values)
    if len(distinct) < 2:
        raise DataError(f"{table.path}: all labels in {label!r} are {min(distinct)!r}; there is nothing to tell apart")
    numbers = {value: _number(value) for value in distinct}
    all_numbers = all(number is not None for number in numbers.values())
    if len(distinct) > _MANY_LABELS:
        if all_numbers and any(not number.is_integer() for number in numbers.values() if number is not None):
            raise DataError(
                f"{table.path}: the column {label!r} holds {len(distinct)} different numbers with fractions; "
                "to learn numbers rather than classes, say regression (regression=True)"
            )
        if len(distinct) == len(values):
            raise DataError(
                f"{table.path}: each of the {len(values)} rows has a value of its own in {label!r}; "
                "name the column of the label"
            )
    if all_numbers:
        return tuple(sorted(distinct, key=lambda value: (numbers[value], value)))
    return tuple(sorted(distinct))


def _check_settings(
    paths: Mapping[str, Path],
    text: str,
    text_pair: str | None,
    label: str,
    regression: bool,
    label_names: Sequence[str] | None,
) -> None:
    faults = []
    if not paths:
        faults.append("no file is given; give train, dev or test")
    columns = [*_filled(text, text_pair), label]
    if len(set(columns)) != len(columns):
        faults.append(f"text, text_pair and label must be different columns, received {', '.join(map(repr, columns))}")
    if len({path.resolve() for path in paths.values()}) != len(paths):
        faults.append("two of train, dev and test are the same file; a score on the train file says nothing")
    if regression and label_names is not None:
        faults.append("label_names are of classes and regression has none; leave one of the two out")
    if paths and not regression and label_names is None and "train" not in paths:
        faults.append("the classes are those of the train file, which is not given; give it or label_names")
    if faults:
        raise ConfigurationError("; ".join(faults))


def _filled(text: str, text_pair: str | None) -> list[str]:
    return [text] if text_pair is None else [text, text_pair]


def _texts(table: Table, column: str, faults: list[str]) -> tuple[str, ...]:
    texts = []
    for row, value in enumerate(table.columns[column]):
        if value is None or (isinstance(value, str) and not value.strip()):
            faults.append(f"{table.where(row)}: no text in the column {column!r}; fill it in or take the row out")
        elif not isinstance(value, str):
            faults.append(f"{table.where(row)}: {value!r} in the column {column!r} is not text; put it in quotes")
        elif any("\ud800" <= letter <= "\udfff" for letter in value):
            faults.append(
                f"{table.where(row)}: half of a surrogate pair in the column {column!r}; write the letter itself"
            )
        else:
            texts.append(value)
    return tuple(texts)


def _label_texts(table: Table, column: str, faults: list[str]) -> tuple[str, ...]:
    texts = []
    for row, value in enumerate(table.columns[column]):
        if value is None or (isinstance(value, str) and not value.strip()) or value != value:
            faults.append(f"{table.where(row)}: no label in the column {column!r}; fill it in or take the row out")
        elif isinstance(value, bool):
            texts.append(str(value).lower())
        elif isinstance(value, float) and value.is_integer():
            texts.append(str(int(value)))
        elif isinstance(value, (str, int, float)):
            texts.append(str(value).strip())
        else:
            faults.append(
                f"{table.where(row)}: the label {value!r} in the column {column!r} is neither text nor a number"
            )
    return tuple(texts)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _numbers(table: Table, column: str, values: Sequence[str], faults: list[str]) -> tuple[float, ...]:
    numbers = [_number(value) for value in values]
    faults += [
        f"{table.where(row)}: {values[row]!r} in the column {column!r} is not a finite number, which regression needs"
        for row, number in enumerate(numbers)
        if number is None
    ]
    return tuple(number for number in numbers if number is not None)


def _indices(
    table: Table, column: str, values: Sequence[str], names: Sequence[str], origin: str, faults: list[str]
) -> tuple[int, ...]:
    index = {name: position for position, name in enumerate(names)}
    shown = ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
    faults += [
        f"{table.where(row)}: the label {value!r} in the column {column!r} is not one of {origin}: {shown}"
        for row, value in enumerate(values)
        if value not in index
    ]
    return tuple(index[value] for value in values if value in index)
