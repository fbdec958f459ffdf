"""The options of `train`: what may be set, in words. The library knows the defaults; the words repeat them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from supermask.cli.options import DEFAULT_LABEL, DEFAULT_TEXT

__all__ = ["BASE", "METHODS_IN_WORDS"]

BASE = "minilm-l6"
METHODS_IN_WORDS = ("supermask", "pruning", "freezing", "full", "head-only")


def _option(panel: str, name: str, help: str, default: str | None = None, metavar: str | None = None) -> Any:
    """An option that stays None unless it is given, so that the library's own default holds."""
    words = f"{help} \\[default: {default}]" if default is not None else help
    return typer.Option(name, help=words, rich_help_panel=panel, metavar=metavar, show_default=False)


def _data(name: str, help: str, default: str | None = None, metavar: str | None = None) -> Any:
    return _option("Data of your own", name, help, default, metavar)


def _method(name: str, help: str, default: str | None = None, metavar: str | None = None) -> Any:
    return _option("Method", name, help, default, metavar)


def _training(name: str, help: str, default: str | None = None, metavar: str | None = None) -> Any:
    return _option("Training", name, help, default, metavar)


def _run(name: str, help: str, default: str | None = None, metavar: str | None = None) -> Any:
    return _option("Run", name, help, default, metavar)


TrainFile = Annotated[
    Path | None, _data("--train-file", "CSV, TSV, JSONL or Parquet file to learn from.", None, "FILE")
]
DevFile = Annotated[Path | None, _data("--dev-file", "Labelled file to report scores on.", None, "FILE")]
Text = Annotated[str | None, _data("--text", "Column of the text.", DEFAULT_TEXT, "COLUMN")]
TextPair = Annotated[str | None, _data("--text-pair", "Column of the second text, for pairs.", None, "COLUMN")]
Label = Annotated[str | None, _data("--label", "Column of the label.", DEFAULT_LABEL, "COLUMN")]
Regression = Annotated[bool, _data("--regression", "The label is a number, not a class.", metavar="")]
Name = Annotated[str | None, _data("--name", "What to call the task.", "own-data", "NAME")]

BaseName = Annotated[
    str,
    typer.Option(
        "--base",
        metavar="NAME_OR_DIR",
        help="A known base (`supermask bases`), a saved model's folder, or a hub id.",
        rich_help_panel="Base",
    ),
]

MethodName = Annotated[
    str,
    typer.Option(
        "--method",
        metavar="METHOD",
        help=f"{', '.join(METHODS_IN_WORDS[:-1])} or {METHODS_IN_WORDS[-1]}.",
        rich_help_panel="Method",
    ),
]
Exclude = Annotated[
    list[str] | None,
    _method("--exclude", "Weights to leave as they are, such as key or top-2-blocks. Repeatable.", None, "SELECTOR"),
]
Select = Annotated[
    list[str] | None,
    _method(
        "--select",
        "Weights to mask or prune; supermask and pruning. Repeatable.",
        "matrices, pooler",
        "SELECTOR",
    ),
]
AlsoTrain = Annotated[
    list[str] | None,
    _method("--also-train", "Weights that train by value beside the mask; supermask. Repeatable.", None, "SELECTOR"),
]
InitialSparsity = Annotated[
    float | None, _method("--initial-sparsity", "Fraction of weights that start dropped; supermask.", "0.0")
]
InitLogit = Annotated[float | None, _method("--init-logit", "Size of mask logits at the start; supermask.", "5.0")]
MaskLearningRate = Annotated[
    float | None, _method("--mask-learning-rate", "Of mask logits, under Adam; supermask.", "0.2")
]
MaskEps = Annotated[float | None, _method("--mask-eps", "Adam's epsilon for mask logits; supermask.", "1e-08")]
Gradient = Annotated[
    str | None,
    _method("--gradient", "Straight-through gradient, stop or through; supermask.", "through", "WORD"),
]
Sparsity = Annotated[float | None, _method("--sparsity", "Final fraction of zeros; pruning.", "0.5")]
Scope = Annotated[
    str | None, _method("--scope", "Rank by tensor, or all weights together (global); pruning.", "tensor", "WORD")
]
PruningBegin = Annotated[
    float | None, _method("--pruning-begin", "When zeros begin, as a fraction of all steps; pruning.", "0.0")
]
PruningEnd = Annotated[float | None, _method("--pruning-end", "When the final sparsity is reached; pruning.", "0.75")]
PruningPeriod = Annotated[int | None, _method("--pruning-period", "Steps between rankings; pruning.", "10")]

Epochs = Annotated[int | None, _training("--epochs", "Passes over the training examples.", "3")]
MaxSteps = Annotated[int | None, _training("--max-steps", "Stop after so many optimizer steps.")]
BatchSize = Annotated[int | None, _training("--batch-size", "Examples an optimizer step, of all processes.", "32")]
GradientAccumulation = Annotated[
    int | None, _training("--gradient-accumulation", "Micro-batches that a batch is split into.", "1")
]
LearningRate = Annotated[float | None, _training("--learning-rate", "Of weights that train by value.", "2e-05")]
HeadLearningRate = Annotated[float | None, _training("--head-learning-rate", "Of the task head.", "0.001")]
HeadBias = Annotated[
    str | None,
    _training("--head-bias", "Where the head's bias starts, base_rate or as_loaded.", "base_rate", "WORD"),
]
Warmup = Annotated[float | None, _training("--warmup", "Fraction of steps in which learning rates rise.", "0.1")]
WeightDecay = Annotated[float | None, _training("--weight-decay", "Of matrices that train by value.", "0.01")]
AdamEpsilon = Annotated[float | None, _training("--adam-epsilon", "Adam's epsilon, mask logits apart.", "1e-06")]
MaxGradNorm = Annotated[
    float | None, _training("--max-grad-norm", "Largest L2 norm of gradients; 0 clips nothing.", "1.0")
]
MaxLength = Annotated[int | None, _training("--max-length", "Longest input in tokens.", "128")]
Precision = Annotated[str | None, _training("--precision", "Arithmetic: auto, fp32, bf16 or fp16.", "fp32", "WORD")]
GradientCheckpointing = Annotated[
    bool, _training("--gradient-checkpointing", "Recompute activations to save memory.", metavar="")
]
MaskOptimizerState = Annotated[
    str | None,
    _training(
        "--mask-optimizer-state",
        "Adam's moments of mask logits in float32 or 8bit; supermask.",
        "float32",
        "WORD",
    ),
]
MaskDraws = Annotated[
    str | None,
    _training(
        "--mask-draws", "Masks of several processes: shared, or per_rank to draw each its own.", "shared", "WORD"
    ),
]
Seed = Annotated[int | None, _training("--seed", "Of data order, dropout, mask draws and a new head.", "0")]
EvalBatchSize = Annotated[int | None, _training("--eval-batch-size", "Examples a batch in evaluation.", "64")]
LoggingSteps = Annotated[int | None, _training("--logging-steps", "Optimizer steps between log lines.", "10")]
CheckpointSteps = Annotated[
    int | None, _training("--checkpoint-steps", "Steps between checkpoints to resume from; 0 saves none.", "0")
]
Tensorboard = Annotated[bool, _training("--tensorboard", "Write logs for TensorBoard.", metavar="")]

Output = Annotated[Path, _run("--output", "Folder for the delta, its record and a picture of its zeros.", None, "DIR")]
Resume = Annotated[bool, _run("--resume", "Go on with the run in the folder.", metavar="")]
Overwrite = Annotated[bool, _run("--overwrite", "Replace the run in the folder.", metavar="")]
Validation = Annotated[
    float | None,
    _run("--validation", "Hold out this fraction of train and score on it; the dev set stays untouched.", None),
]
Draws = Annotated[int, typer.Option("--draws", help="Masks to sample for the sampled score.", rich_help_panel="Run")]
Quiet = Annotated[bool, _run("--quiet", "Show no progress.", metavar="")]
