"""`supermask predict`: what a stored delta says about examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
)

__all__ = ["EXAMPLES", "predict"]

EXAMPLES = (
    'supermask predict sentiment --sentence "a dull story"',
    "supermask predict mine --file new.csv --text sentence --output new.tsv",
    "supermask predict mrpc --data-dir glue --split test --submission out",
    "cat sentences.txt | supermask predict sentiment --json",
)


def predict(
    delta: DeltaPath,
    sentence: Annotated[
        list[str] | None,
        typer.Option("--sentence", metavar="TEXT", help="A text to predict. Repeatable.", rich_help_panel="Data"),
    ] = None,
    second: Annotated[
        list[str] | None,
        typer.Option(
            "--second",
            metavar="TEXT",
            help="The second text of a pair, one for each --sentence.",
            rich_help_panel="Data",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="CSV, TSV, JSONL or Parquet file.", rich_help_panel="Data"),
    ] = None,
    text: TextColumn = None,
    text_pair: TextPairColumn = None,
    task: TaskName = None,
    data_dir: DataDir = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="SPLIT",
            help="Split of the task. \\[default: its test split, if it has one]",
            rich_help_panel="Data",
        ),
    ] = None,
    base: StoredBase = None,
    revision: Revision = None,
    allow_new: AllowNew = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="Write to a .tsv or .jsonl file instead.", rich_help_panel="Output"
        ),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            "--submission",
            metavar="DIR",
            help="Write the file that the GLUE benchmark expects of this test split.",
            rich_help_panel="Output",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", metavar="", help="Replace a file that is there.", rich_help_panel="Output")
    ] = False,
    cpu: Cpu = False,
    as_json: AsJson = False,
) -> None:
    """Predict with a stored delta.

    The examples are sentences, a file of your own, or a split of a known task.
    Without any of these, standard input is read, one example a line, the texts
    of a pair separated by a tab. Predictions are printed as TSV.
    """
    import supermask
    from supermask.cli.prediction_inputs import choose_examples
    from supermask.cli.prediction_outputs import check_outputs, report
    from supermask.cli.stored import delta_path, stored_base

    stored = supermask.TaskDelta.load(delta_path(delta))
    chosen = choose_examples(
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
    check_outputs(chosen, output=output, submission=submission, overwrite=overwrite)
    loaded = stored_base(stored.document, base, revision, allow_new)
    predictions = supermask.predict(loaded, chosen.examples, task=chosen.task, delta=stored, use_cpu=cpu)
    report(chosen, predictions, output=output, submission=submission, overwrite=overwrite, as_json=as_json)
