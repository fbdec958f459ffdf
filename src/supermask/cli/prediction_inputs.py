"""Which examples `predict` is about: sentences, a file, a split of a known task, or standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from supermask.cli.options import refuse_together
from supermask.cli.stored import file_texts, known_data, known_task, stored_task
from supermask.deltas import DeltaDocument
from supermask.errors import ConfigurationError, DataError
from supermask.tasks import Examples, Task

__all__ = ["ChosenExamples", "choose_examples"]


@final
@dataclass(frozen=True)
class ChosenExamples:
    """Examples to predict.

    Args:
        task: what the outputs mean.
        examples: the texts.
        split: the split of a known task that they are; None for examples of one's own.
        notes: what a reader of the predictions must know.
    """

    task: Task
    examples: Examples
    split: str | None = None
    notes: tuple[str, ...] = ()


def choose_examples(
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
) -> ChosenExamples:
    """The examples that the options name; standard input where they name none.

    Raises:
        SupermaskError: if options contradict each other, or examples cannot be read.
    """
    columns = {"--text": text, "--text-pair": text_pair}
    known = {"--task": task, "--data-dir": data_dir, "--split": split}
    own = stored_task(document)
    if sentences or second:
        refuse_together("--sentence", {"--file": file, **columns, **known})
        pairs = _paired(own, sentences or [], second or [])
        return ChosenExamples(own, pairs)
    if file is not None:
        refuse_together("--file", known)
        return ChosenExamples(own, file_texts(document, file, text=text, text_pair=text_pair))
    if any(value is not None for value in known.values()):
        refuse_together("a known task", columns)
        chosen = known_task(document, task)
        split = split or _only_test_split(chosen)
        data = known_data(chosen, data_dir, [split])
        return ChosenExamples(chosen, data[split], split, data.notes)
    refuse_together("standard input", columns)
    return ChosenExamples(own, _standard_input(own))


def _paired(task: Task, first: Sequence[str], second: Sequence[str]) -> Examples:
    if task.paired and len(first) != len(second):
        raise ConfigurationError(
            f"the delta's task {task.name!r} is of pairs, and received {len(first)} --sentence and {len(second)} "
            "--second; give one --second for each --sentence"
        )
    if second and not task.paired:
        raise ConfigurationError(f"the delta's task {task.name!r} is of single texts; leave --second out")
    return _examples(first, second if task.paired else None, source="the command line")


def _standard_input(task: Task) -> Examples:
    if sys.stdin.isatty():
        raise ConfigurationError(
            "there is nothing to predict; give --sentence TEXT, --file FILE, --task NAME, or lines on standard input"
        )
    lines = [line.rstrip("\r\n") for line in sys.stdin]
    if not lines:
        raise DataError("standard input is empty; give one example a line, or --sentence, --file or --task")
    first, second = [], []
    wanted = 2 if task.paired else 1
    for number, line in enumerate(lines, start=1):
        parts = line.split("\t") if task.paired else [line]
        if len(parts) != wanted or not all(part.strip() for part in parts):
            form = "two texts separated by a tab" if task.paired else "a text"
            raise DataError(
                f"standard input, line {number}: expected {form}, received {line!r}; give one example a line"
            )
        first.append(parts[0])
        second.append(parts[-1])
    return _examples(first, second if task.paired else None, source="standard input")


def _examples(first: Sequence[str], second: Sequence[str] | None, *, source: str) -> Examples:
    return Examples(
        first=tuple(first),
        second=None if second is None else tuple(second),
        labels=None,
        ids=tuple(map(str, range(len(first)))),
        source=source,
    )


def _only_test_split(task: Task) -> str:
    if len(task.test_splits) == 1:
        return task.test_splits[0]
    raise ConfigurationError(
        f"the task {task.name!r} has {len(task.test_splits) or 'no'} test splits; choose one with --split: "
        f"{', '.join(task.test_splits or task.splits)}"
    )
