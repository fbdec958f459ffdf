"""`supermask train`: learn a task."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from supermask.cli import train_options as given
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
    refuse_together,
)

if TYPE_CHECKING:
    from supermask.tasks import TaskData

__all__ = ["EXAMPLES", "train"]

EXAMPLES = (
    "supermask train --task probe-sentiment --output sentiment",
    "supermask train --task mrpc --data-dir glue --output mrpc --seed 1",
    "supermask train --task rte --data-dir glue --output rte --validation 0.1",
    "supermask train --task mrpc --method pruning --sparsity 0.7 --output mrpc-70",
    "supermask train --task mrpc --method freezing --exclude key --output no-keys",
    "supermask train --train-file train.csv --dev-file dev.csv --output mine",
)


def train(
    output: given.Output,
    task: TaskName = None,
    data_dir: DataDir = None,
    train_file: given.TrainFile = None,
    dev_file: given.DevFile = None,
    text: given.Text = None,
    text_pair: given.TextPair = None,
    label: given.Label = None,
    regression: given.Regression = False,
    name: given.Name = None,
    base: given.BaseName = given.BASE,
    revision: Revision = None,
    allow_new: AllowNew = None,
    method: given.MethodName = "supermask",
    exclude: given.Exclude = None,
    select: given.Select = None,
    also_train: given.AlsoTrain = None,
    initial_sparsity: given.InitialSparsity = None,
    init_logit: given.InitLogit = None,
    mask_learning_rate: given.MaskLearningRate = None,
    mask_eps: given.MaskEps = None,
    gradient: given.Gradient = None,
    sparsity: given.Sparsity = None,
    scope: given.Scope = None,
    pruning_begin: given.PruningBegin = None,
    pruning_end: given.PruningEnd = None,
    pruning_period: given.PruningPeriod = None,
    epochs: given.Epochs = None,
    max_steps: given.MaxSteps = None,
    batch_size: given.BatchSize = None,
    gradient_accumulation: given.GradientAccumulation = None,
    learning_rate: given.LearningRate = None,
    head_learning_rate: given.HeadLearningRate = None,
    head_bias: given.HeadBias = None,
    warmup: given.Warmup = None,
    weight_decay: given.WeightDecay = None,
    adam_epsilon: given.AdamEpsilon = None,
    max_grad_norm: given.MaxGradNorm = None,
    max_length: given.MaxLength = None,
    precision: given.Precision = None,
    gradient_checkpointing: given.GradientCheckpointing = False,
    mask_optimizer_state: given.MaskOptimizerState = None,
    mask_draws: given.MaskDraws = None,
    seed: given.Seed = None,
    eval_batch_size: given.EvalBatchSize = None,
    logging_steps: given.LoggingSteps = None,
    checkpoint_steps: given.CheckpointSteps = None,
    tensorboard: given.Tensorboard = False,
    resume: given.Resume = False,
    overwrite: given.Overwrite = False,
    validation: given.Validation = None,
    draws: given.Draws = 10,
    quiet: given.Quiet = False,
    cpu: Cpu = False,
    as_json: AsJson = False,
) -> None:
    """Learn a task on a base and save the task delta.

    The data are a known task's (--task) or files of your own (--train-file,
    --dev-file). The folder ends up holding delta/, record.json and zeros.png,
    a picture of where the zeros are.
    """
    import supermask
    from supermask.cli.settings import make_settings
    from supermask.cli.train_report import draw_zeros, report
    from supermask.prediction import kind_of
    from supermask.training.processes import leave_processes

    chosen, config = make_settings(
        method,
        method_options={
            "--exclude": exclude,
            "--select": select,
            "--also-train": also_train,
            "--initial-sparsity": initial_sparsity,
            "--init-logit": init_logit,
            "--mask-learning-rate": mask_learning_rate,
            "--mask-eps": mask_eps,
            "--gradient": gradient,
            "--sparsity": sparsity,
            "--scope": scope,
            "--pruning-begin": pruning_begin,
            "--pruning-end": pruning_end,
            "--pruning-period": pruning_period,
        },
        training_options={
            "epochs": epochs,
            "max_steps": max_steps,
            "batch_size": batch_size,
            "gradient_accumulation": gradient_accumulation,
            "learning_rate": learning_rate,
            "head_learning_rate": head_learning_rate,
            "head_bias": head_bias,
            "warmup": warmup,
            "weight_decay": weight_decay,
            "adam_epsilon": adam_epsilon,
            "max_grad_norm": max_grad_norm,
            "max_length": max_length,
            "precision": precision,
            "gradient_checkpointing": gradient_checkpointing,
            "mask_optimizer_state": mask_optimizer_state,
            "mask_draws": mask_draws,
            "seed": seed,
            "eval_batch_size": eval_batch_size,
            "logging_steps": logging_steps,
            "checkpoint_steps": checkpoint_steps,
            "tensorboard": tensorboard,
        },
    )
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
        name=columns["--name"] or "own-data",
    )


def _how_to_go_on(output: Path) -> str:
    from supermask.training.output import RunFolder

    checkpoint = RunFolder(output).last_checkpoint()
    if checkpoint is not None:
        return f"go on from {checkpoint.name} with the same command and --resume"
    return "no checkpoint was saved; start again with --overwrite, and with --checkpoint-steps 100 to be able to resume"
