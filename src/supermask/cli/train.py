"""`supermask train`: learn a task."""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

from supermask.cli import options
from supermask.cli.failures import Interruption
from supermask.cli.options import DEFAULT_LABEL, DEFAULT_TEXT, option, refuse_together
from supermask.cli.train_options import METHODS_IN_WORDS, make_settings, settings_of_training, with_options
from supermask.models import DEFAULT_BASE

__all__ = ["EXAMPLES", "train"]

_DEFAULT_NAME: Final = "own-data"
_own = partial(option, "Data of your own")
_run = partial(option, "Run")
_BASE: Final = "A known base (`supermask bases`), a saved model's folder, or a hub id."
_HELD_OUT: Final = "Hold out this fraction of train and score on it; the dev set stays untouched."
_METHODS: Final = f"{', '.join(METHODS_IN_WORDS[:-1])} or {METHODS_IN_WORDS[-1]}."

EXAMPLES = (
    "supermask train --task probe-sentiment --output sentiment",
    "supermask train --task mrpc --data-dir glue --output mrpc --seed 1",
    "supermask train --task rte --data-dir glue --output rte --validation 0.1",
    "supermask train --task mrpc --method pruning --sparsity 0.7 --output mrpc-70",
    "supermask train --task mrpc --method freezing --exclude key --output no-keys",
    "supermask train --train-file train.csv --dev-file dev.csv --output mine",
)


@with_options(settings_of_training())
def train(
    output: Annotated[Path, _run("DIR", "Folder for the delta, its record and a picture of its zeros.")],
    task: options.TaskName = None,
    data_dir: options.DataDir = None,
    train_file: Annotated[Path | None, _own("FILE", "CSV, TSV, JSONL or Parquet file to learn from.")] = None,
    dev_file: Annotated[Path | None, _own("FILE", "Labelled file to report scores on.")] = None,
    text: Annotated[str | None, _own("COLUMN", f"Column of the text. \\[default: {DEFAULT_TEXT}]")] = None,
    text_pair: Annotated[str | None, _own("COLUMN", "Column of the second text, for pairs.")] = None,
    label: Annotated[str | None, _own("COLUMN", f"Column of the label. \\[default: {DEFAULT_LABEL}]")] = None,
    regression: Annotated[bool, _own("", "The label is a number, not a class.")] = False,
    name: Annotated[str | None, _own("NAME", f"What to call the task. \\[default: {_DEFAULT_NAME}]")] = None,
    base: Annotated[str, option("Base", "NAME_OR_DIR", _BASE)] = DEFAULT_BASE,
    revision: options.Revision = None,
    allow_new: options.AllowNew = None,
    method: Annotated[str, option("Method", "METHOD", _METHODS)] = "supermask",
    resume: Annotated[bool, _run("", "Go on with the run in the folder.")] = False,
    overwrite: Annotated[bool, _run("", "Replace the run in the folder.")] = False,
    validation: Annotated[float | None, _run(None, _HELD_OUT)] = None,
    draws: Annotated[int, _run(None, "Masks to sample for the sampled score.")] = 10,
    quiet: Annotated[bool, _run("", "Show no progress.")] = False,
    cpu: options.Cpu = False,
    as_json: options.AsJson = False,
    **settings: Any,
) -> None:
    """Learn a task on a base and save the task delta.

    The data are a known task's (--task) or files of your own (--train-file,
    --dev-file). The folder ends up holding delta/, record.json and zeros.png,
    a picture of where the zeros are.
    """
    import supermask
    from supermask.cli.train_report import draw_zeros, report
    from supermask.errors import ConfigurationError
    from supermask.prediction import kind_of
    from supermask.tasks import load_files, load_task
    from supermask.training.processes import leave_processes

    chosen, config = make_settings(method, settings)
    if task is not None:
        columns = {"--text": text, "--text-pair": text_pair, "--label": label, "--name": name}
        files = {"--train-file": train_file, "--dev-file": dev_file}
        refuse_together("--task", {**files, **columns, "--regression": regression})
        data = load_task(task, data_dir=data_dir)
    elif train_file is None:
        raise ConfigurationError("there is nothing to learn; name a --task (see: supermask tasks) or a --train-file")
    else:
        refuse_together("--train-file", {"--data-dir": data_dir})
        data = load_files(
            train=train_file,
            dev=dev_file,
            text=text or DEFAULT_TEXT,
            text_pair=text_pair,
            label=label or DEFAULT_LABEL,
            regression=regression,
            name=name or _DEFAULT_NAME,
        )
    if validation is not None:
        data = data.holdout(fraction=validation)
    head = kind_of(data.task).head(data.task)
    loaded = supermask.load_base(base, **head, revision=revision, seed=config.seed, allow_new=allow_new or ())
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


def _how_to_go_on(output: Path) -> str:
    from supermask.training.output import RunFolder

    checkpoint = RunFolder(output).last_checkpoint()
    if checkpoint is not None:
        return f"go on from {checkpoint.name} with the same command and --resume"
    return "no checkpoint was saved; start again with --overwrite, and with --checkpoint-steps 100 to be able to resume"
