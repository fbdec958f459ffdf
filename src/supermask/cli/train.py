"""`supermask train`: learn a task."""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from supermask.cli.failures import Interruption
from supermask.cli.options import (
    DEFAULT_LABEL,
    DEFAULT_TEXT,
    AllowNew,
    AsJson,
    Cpu,
    DataDir,
    Revision,
    TaskName,
    option,
    refuse_together,
)
from supermask.cli.train_options import METHODS_IN_WORDS, make_settings, with_settings
from supermask.models import DEFAULT_BASE

if TYPE_CHECKING:
    from supermask.tasks import TaskData

__all__ = ["EXAMPLES", "train"]

_DEFAULT_NAME: Final = "own-data"
_own = partial(option, "Data of your own")
_run = partial(option, "Run")

EXAMPLES = (
    "supermask train --task probe-sentiment --output sentiment",
    "supermask train --task mrpc --data-dir glue --output mrpc --seed 1",
    "supermask train --task rte --data-dir glue --output rte --validation 0.1",
    "supermask train --task mrpc --method pruning --sparsity 0.7 --output mrpc-70",
    "supermask train --task mrpc --method freezing --exclude key --output no-keys",
    "supermask train --train-file train.csv --dev-file dev.csv --output mine",
)


@with_settings
def train(
    output: Annotated[Path, _run("--output", "DIR", "Folder for the delta, its record and a picture of its zeros.")],
    task: TaskName = None,
    data_dir: DataDir = None,
    train_file: Annotated[
        Path | None, _own("--train-file", "FILE", "CSV, TSV, JSONL or Parquet file to learn from.")
    ] = None,
    dev_file: Annotated[Path | None, _own("--dev-file", "FILE", "Labelled file to report scores on.")] = None,
    text: Annotated[str | None, _own("--text", "COLUMN", f"Column of the text. \\[default: {DEFAULT_TEXT}]")] = None,
    text_pair: Annotated[str | None, _own("--text-pair", "COLUMN", "Column of the second text, for pairs.")] = None,
    label: Annotated[
        str | None, _own("--label", "COLUMN", f"Column of the label. \\[default: {DEFAULT_LABEL}]")
    ] = None,
    regression: Annotated[bool, _own("--regression", "", "The label is a number, not a class.")] = False,
    name: Annotated[str | None, _own("--name", "NAME", f"What to call the task. \\[default: {_DEFAULT_NAME}]")] = None,
    base: Annotated[
        str,
        option(
            "Base", "--base", "NAME_OR_DIR", "A known base (`supermask bases`), a saved model's folder, or a hub id."
        ),
    ] = DEFAULT_BASE,
    revision: Revision = None,
    allow_new: AllowNew = None,
    method: Annotated[
        str, option("Method", "--method", "METHOD", f"{', '.join(METHODS_IN_WORDS[:-1])} or {METHODS_IN_WORDS[-1]}.")
    ] = "supermask",
    resume: Annotated[bool, _run("--resume", "", "Go on with the run in the folder.")] = False,
    overwrite: Annotated[bool, _run("--overwrite", "", "Replace the run in the folder.")] = False,
    validation: Annotated[
        float | None,
        _run("--validation", None, "Hold out this fraction of train and score on it; the dev set stays untouched."),
    ] = None,
    draws: Annotated[int, _run("--draws", None, "Masks to sample for the sampled score.")] = 10,
    quiet: Annotated[bool, _run("--quiet", "", "Show no progress.")] = False,
    cpu: Cpu = False,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Learn a task on a base and save the task delta.

    The data are a known task's (--task) or files of your own (--train-file,
    --dev-file). The folder ends up holding delta/, record.json and zeros.png,
    a picture of where the zeros are.
    """
    import supermask
    from supermask.cli.train_report import draw_zeros, report
    from supermask.prediction import kind_of
    from supermask.training.processes import leave_processes

    chosen, config = make_settings(method, settings)
    columns = {"--text": text, "--text-pair": text_pair, "--label": label, "--name": name}
    data = _load_data(task, data_dir, train_file, dev_file, columns, regression=regression)
    if validation is not None:
        data = data.holdout(fraction=validation)
    loaded = supermask.load_base(
        base,
        **kind_of(data.task).head(data.task),
        revision=revision,
        seed=config.seed,
        allow_new=allow_new or (),
    )
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the Trainer prints its log
            run = supermask.train(
                loaded,
                task=data,
                method=chosen,
                config=config,
                output_dir=output,
                resume=resume,
                overwrite=overwrite,
                draws=draws,
                quiet=quiet,
                use_cpu=cpu,
            )
    except KeyboardInterrupt:
        raise Interruption(_how_to_go_on(output)) from None
    if run.first:
        report(run, data, method=method, figure=draw_zeros(run), data_dir=data_dir, as_json=as_json)
    leave_processes()


def _load_data(
    task: str | None,
    data_dir: Path | None,
    train_file: Path | None,
    dev_file: Path | None,
    columns: dict[str, str | None],
    *,
    regression: bool,
) -> TaskData:
    from supermask.errors import ConfigurationError
    from supermask.tasks import load_files, load_task

    if task is not None:
        own = {"--train-file": train_file, "--dev-file": dev_file, **columns, "--regression": regression}
        refuse_together("--task", own)
        return load_task(task, data_dir=data_dir)
    if train_file is None:
        raise ConfigurationError("there is nothing to learn; name a --task (see: supermask tasks) or a --train-file")
    refuse_together("--train-file", {"--data-dir": data_dir})
    return load_files(
        train=train_file,
        dev=dev_file,
        text=columns["--text"] or DEFAULT_TEXT,
        text_pair=columns["--text-pair"],
        label=columns["--label"] or DEFAULT_LABEL,
        regression=regression,
        name=columns["--name"] or _DEFAULT_NAME,
    )


def _how_to_go_on(output: Path) -> str:
    from supermask.training.output import RunFolder

    checkpoint = RunFolder(output).last_checkpoint()
    if checkpoint is not None:
        return f"go on from {checkpoint.name} with the same command and --resume"
    return "no checkpoint was saved; start again with --overwrite, and with --checkpoint-steps 100 to be able to resume"
