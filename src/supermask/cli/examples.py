"""Which examples a stored delta is asked about: a file, a split of a known task, sentences, or standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from supermask.cli.options import DEFAULT_LABEL, DEFAULT_TEXT, refuse_together
from supermask.deltas import DeltaDocument
from supermask.errors import ConfigurationError, DataError, UnknownNameError
from supermask.prediction import stored_task
from supermask.tasks import Examples, Task, TaskData, find_task, load_files, load_task, load_texts

__all__ = ["chosen_data", "labelled_data"]


def labelled_data(
    document: DeltaDocument,
    *,
    file: Path | None,
    text: str | None,
    text_pair: str | None,
    label: str | None,
    task: str | None,
    data_dir: Path | None,
    splits: Sequence[str] | None,
) -> TaskData:
    """The labelled examples that the options name; by default those of the task that the delta names.

    Raises:
        SupermaskError: if options contradict each other, or examples cannot be read.
    """
    if file is None:
        refuse_together("a known task", {"--text": text, "--text-pair": text_pair, "--label": label})
        known = _known_task(document, task)
        return load_task(known.name, data_dir=data_dir, splits=tuple(splits or known.report_splits))
    refuse_together("--file", {"--task": task, "--data-dir": data_dir, "--split": splits})
    own = _fitting_task(document, text_pair)
    return load_files(
        dev=file,
        text=text or DEFAULT_TEXT,
        text_pair=text_pair,
        label=label or DEFAULT_LABEL,
        regression=own.regression,
        name=own.name,
        metrics=own.metrics,
        label_names=own.label_names or None,
    )


def chosen_data(
    document: DeltaDocument,
    *,
    sentences: Sequence[str] | None,
    second: Sequence[str] | None,
    file: Path | None,
    text: str | None,
    text_pair: str | None,
    task: str | None,
    data_dir: Path | None,
    split: str | None,
) -> TaskData:
    """The one split of examples that the options name; standard input where they name none.

    Raises:
        SupermaskError: if options contradict each other, or examples cannot be read.
    """
    columns = {"--text": text, "--text-pair": text_pair}
    known = {"--task": task, "--data-dir": data_dir, "--split": split}
    own = stored_task(document)
    if sentences or second:
        refuse_together("--sentence", {"--file": file, **columns, **known})
        return _own_data(own, _given_texts(own, sentences or [], second or []))
    if file is not None:
        refuse_together("--file", known)
        _fitting_task(document, text_pair)
        return _own_data(own, load_texts(file, text=text or DEFAULT_TEXT, text_pair=text_pair))
    if any(value is not None for value in known.values()):
        refuse_together("a known task", columns)
        chosen = _known_task(document, task)
        return load_task(chosen.name, data_dir=data_dir, splits=(split or _only_test_split(chosen),))
    refuse_together("standard input", columns)
    return _own_data(own, _standard_input(own))


def _known_task(document: DeltaDocument, name: str | None) -> Task:
    if name is not None:
        return find_task(name)
    learnt = stored_task(document).name
    try:
        return find_task(learnt)
    except UnknownNameError:
        raise UnknownNameError(
            f"the delta was learnt on {learnt!r}, which is no task known by name; give the examples with --file FILE "
            "--text COLUMN"
        ) from None


def _own_data(task: Task, examples: Examples) -> TaskData:
    return TaskData(task, {task.test_splits[0]: examples})


def _fitting_task(document: DeltaDocument, text_pair: str | None) -> Task:
    """The delta's own task, whose texts are pairs or not as the columns given say."""
    task = stored_task(document)
    if task.paired and text_pair is None:
        raise ConfigurationError(
            f"the delta's task {task.name!r} is of pairs; name the column of the second text with --text-pair"
        )
    if text_pair is not None and not task.paired:
        raise ConfigurationError(f"the delta's task {task.name!r} is of single texts; leave --text-pair out")
    return task


def _given_texts(task: Task, first: Sequence[str], second: Sequence[str]) -> Examples:
    if task.paired and len(first) != len(second):
        raise ConfigurationError(
            f"the delta's task {task.name!r} is of pairs, and received {len(first)} --sentence and {len(second)} "
            "--second; give one --second for each --sentence"
        )
    if second and not task.paired:
        raise ConfigurationError(f"the delta's task {task.name!r} is of single texts; leave --second out")
    ids = tuple(map(str, range(len(first))))
    return Examples(tuple(first), tuple(second) if task.paired else None, None, ids, source="the command line")


def _standard_input(task: Task) -> Examples:
    if sys.stdin.isatty():
        raise ConfigurationError(
            "there is nothing to predict; give --sentence TEXT, --file FILE, --task NAME, or lines on standard input"
        )
    rows = [line.rstrip("\r\n").split("\t", -1 if task.paired else 0) for line in sys.stdin]
    for number, row in enumerate(rows, start=1):
        if len(row) != 1 + task.paired or not all(text.strip() for text in row):
            form = "two texts separated by a tab" if task.paired else "a text"
            line = "\t".join(row)
            raise DataError(
                f"standard input, line {number}: expected {form}, received {line!r}; give one example a line"
            )
    if not rows:
        raise DataError("standard input is empty; give one example a line, or --sentence, --file or --task")
    first, *second = zip(*rows, strict=True)
    return Examples(first, second[0] if second else None, None, tuple(map(str, range(len(rows)))), "standard input")


def _only_test_split(task: Task) -> str:
    if len(task.test_splits) == 1:
        return task.test_splits[0]
    raise ConfigurationError(
        f"the task {task.name!r} has {len(task.test_splits) or 'no'} test splits; choose one with --split: "
        f"{', '.join(task.test_splits or task.splits)}"
    )
