"""`supermask predict`: what a stored delta says about examples."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from supermask.cli import options
from supermask.cli.options import DEFAULT_TEXT, option, refuse_together
from supermask.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from supermask.tasks import Examples, Task

__all__ = ["EXAMPLES", "predict"]

EXAMPLES = (
    'supermask predict sentiment --sentence "a dull story"',
    "supermask predict mine --file new.csv --text sentence --output new.tsv",
    "supermask predict mrpc --data-dir glue --split test --submission out",
    "cat sentences.txt | supermask predict sentiment --json",
)

_SECOND = "The second text of a pair, one for each --sentence."
_SPLIT = "Split of the task. \\[default: its test split, if it has one]"
_SUBMISSION = "Write the file that the GLUE benchmark expects of this test split."


def predict(
    delta: options.DeltaPath,
    sentence: Annotated[list[str] | None, option("Data", "TEXT", "A text to predict. Repeatable.")] = None,
    second: Annotated[list[str] | None, option("Data", "TEXT", _SECOND)] = None,
    file: Annotated[Path | None, option("Data", "FILE", "CSV, TSV, JSONL or Parquet file.")] = None,
    text: options.TextColumn = None,
    text_pair: options.TextPairColumn = None,
    task: options.TaskName = None,
    data_dir: options.DataDir = None,
    split: Annotated[str | None, option("Data", "SPLIT", _SPLIT)] = None,
    base: options.StoredBase = None,
    revision: options.Revision = None,
    allow_new: options.AllowNew = None,
    output: Annotated[Path | None, option("Output", "FILE", "Write to a .tsv or .jsonl file instead.")] = None,
    submission: Annotated[Path | None, option("Output", "DIR", _SUBMISSION)] = None,
    overwrite: Annotated[bool, option("Output", "", "Replace a file that is there.")] = False,
    cpu: options.Cpu = False,
    as_json: options.AsJson = False,
) -> None:
    """Predict with a stored delta.

    The examples are sentences, a file of your own, or a split of a known task.
    Without any of these, standard input is read, one example a line, the texts
    of a pair separated by a tab. Predictions are printed as TSV, in which what
    is not printable and the backslash are escaped as in a JSON string.
    """
    from supermask import prediction
    from supermask.cli.predict_report import check_outputs, report
    from supermask.cli.stored import known_task, load_delta, task_of_columns
    from supermask.tasks import TaskData, load_task, load_texts

    stored = load_delta(delta)
    own = prediction.stored_task(stored.document)
    columns = {"--text": text, "--text-pair": text_pair}
    known = {"--task": task, "--data-dir": data_dir, "--split": split}
    given = [*(sentence or ()), *(second or ())]
    if not given and file is None and any(value is not None for value in known.values()):
        refuse_together("a known task", columns)
        chosen = known_task(stored.document, task)
        data = load_task(chosen.name, data_dir=data_dir, splits=(split or _only_test_split(chosen),))
    else:
        if given:
            refuse_together("--sentence", {"--file": file, **columns, **known})
            examples = _given_texts(own, sentence or [], second or [])
        elif file is not None:
            refuse_together("--file", known)
            task_of_columns(stored.document, text_pair)
            examples = load_texts(file, text=text or DEFAULT_TEXT, text_pair=text_pair)
        else:
            refuse_together("standard input", columns)
            examples = _standard_input(own)
        data = TaskData(own, {own.test_splits[0]: examples})
    check_outputs(data, output=output, submission=submission, overwrite=overwrite)
    loaded = prediction.stored_base(stored.document, base, revision, allow_new)
    (asked,) = data.splits.values()
    predictions = prediction.predict(loaded, asked, task=data.task, delta=stored, use_cpu=cpu)
    report(data, predictions, output=output, submission=submission, overwrite=overwrite, as_json=as_json)


def _given_texts(task: Task, first: Sequence[str], second: Sequence[str]) -> Examples:
    from supermask.tasks import Examples

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
    from supermask.tasks import Examples

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
