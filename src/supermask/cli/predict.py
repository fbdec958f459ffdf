"""`supermask predict`: what a stored delta says about examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from supermask.cli.options import (
    AllowNew,
    AsJson,
    Cpu,
    DataDir,
    DeltaPath,
    Revision,
    StoredBase,
    TaskName,
    TextColumn,
    TextPairColumn,
    option,
)

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
    delta: DeltaPath,
    sentence: Annotated[
        list[str] | None, option("Data", "--sentence", "TEXT", "A text to predict. Repeatable.")
    ] = None,
    second: Annotated[list[str] | None, option("Data", "--second", "TEXT", _SECOND)] = None,
    file: Annotated[Path | None, option("Data", "--file", "FILE", "CSV, TSV, JSONL or Parquet file.")] = None,
    text: TextColumn = None,
    text_pair: TextPairColumn = None,
    task: TaskName = None,
    data_dir: DataDir = None,
    split: Annotated[str | None, option("Data", "--split", "SPLIT", _SPLIT)] = None,
    base: StoredBase = None,
    revision: Revision = None,
    allow_new: AllowNew = None,
    output: Annotated[
        Path | None, option("Output", "--output", "FILE", "Write to a .tsv or .jsonl file instead.")
    ] = None,
    submission: Annotated[Path | None, option("Output", "--submission", "DIR", _SUBMISSION)] = None,
    overwrite: Annotated[bool, option("Output", "--overwrite", "", "Replace a file that is there.")] = False,
    cpu: Cpu = False,
    as_json: AsJson = False,
) -> None:
    """Predict with a stored delta.

    The examples are sentences, a file of your own, or a split of a known task.
    Without any of these, standard input is read, one example a line, the texts
    of a pair separated by a tab. Predictions are printed as TSV, in which what
    is not printable and the backslash are escaped as in a JSON string.
    """
    import supermask
    from supermask.cli.examples import chosen_data
    from supermask.cli.predict_report import check_outputs, report
    from supermask.cli.stored import delta_path
    from supermask.prediction import stored_base

    stored = supermask.TaskDelta.load(delta_path(delta))
    data = chosen_data(
        stored.document,
        sentences=sentence,
        second=second,
        file=file,
        text=text,
        text_pair=text_pair,
        task=task,
        data_dir=data_dir,
        split=split,
    )
    check_outputs(data, output=output, submission=submission, overwrite=overwrite)
    loaded = stored_base(stored.document, base, revision, allow_new)
    (examples,) = data.splits.values()
    predictions = supermask.predict(loaded, examples, task=data.task, delta=stored, use_cpu=cpu)
    report(data, predictions, output=output, submission=submission, overwrite=overwrite, as_json=as_json)
