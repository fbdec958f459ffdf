"""Scores and predictions of a task model: a base with a stored delta, or any model with its head."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, final

from torch import Tensor, nn

from supermask.deltas import TaskDelta
from supermask.errors import ConfigurationError
from supermask.models import Base
from supermask.training.config import Precision, TrainingConfig, resolve_precision
from supermask.training.encoding import encode
from supermask.training.given import GivenModel, given_model, take_device
from supermask.training.predicting import padded_batches, predict_logits, predictions_from_logits

if TYPE_CHECKING:
    from supermask.tasks import Examples, Task, TaskData

__all__ = ["Evaluation", "Predictions", "check_head", "evaluate", "predict"]


@final
@dataclass(frozen=True)
class Predictions:
    """What a task model says about examples.

    Args:
        values: class indices, or numbers for a regression task, in the order of the examples.
        logits: the outputs behind them, float32 of shape (examples, outputs).
        label_names: what the classes are called; empty for regression.
    """

    values: Sequence[int] | Sequence[float]
    logits: Tensor
    label_names: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """The predictions in words: class names, or numbers with six digits."""
        if not self.label_names:
            return [f"{value:.6f}" for value in self.values]
        return [self.label_names[int(value)] for value in self.values]


@final
@dataclass(frozen=True)
class Evaluation:
    """Scores of one task model.

    Args:
        scores: split to metric to score, as fractions.
        predictions: split to what the model said.
        notes: what a reader of the scores must know, such as that a split is a subset of the official one.
    """

    scores: Mapping[str, Mapping[str, float]]
    predictions: Mapping[str, Predictions]
    notes: tuple[str, ...]


def evaluate(
    model: nn.Module | Base,
    *,
    task: str | TaskData,
    delta: TaskDelta | None = None,
    tokenizer: Any = None,
    data_dir: str | Path | None = None,
    splits: Sequence[str] | None = None,
    config: TrainingConfig | None = None,
    use_cpu: bool = False,
) -> Evaluation:
    """Score a task model on labelled examples.

    Args:
        model: a base with a head of the task's size; with a `delta`, its head plays no part.
        task: the name of a task, or data of your own.
        delta: applied for the time of the evaluation and removed again.
        tokenizer: the base's tokenizer, where it cannot be found by itself.
        data_dir: folder of the task's data.
        splits: labelled splits to score; the task's report splits by default.
        config: maximum length, batch size and precision; by default those that the delta was trained with.
        use_cpu: stay on the CPU even where there is an accelerator.

    Returns:
        The scores, with the predictions behind them.

    Raises:
        SupermaskError: of the kind that fits; checks come before the computing.
    """
    from supermask.tasks import load_task, score

    data = load_task(task, data_dir=data_dir) if isinstance(task, str) else task
    chosen = tuple(splits) if splits is not None else tuple(data.report)
    if not chosen:
        raise ConfigurationError(f"task {data.task.name!r} has no labelled split here to evaluate on")
    for split in chosen:
        if data[split].labels is None:
            raise ConfigurationError(f"split {split!r} of {data.task.name!r} has no labels to score; use predict")
    given = given_model(model, tokenizer)
    examples = {split: data[split] for split in chosen}
    predictions = _predict(given, examples, task=data.task, delta=delta, config=config, use_cpu=use_cpu)
    scores = {split: dict(score(data.task, made.values, data[split].labels)) for split, made in predictions.items()}
    return Evaluation(scores=scores, predictions=predictions, notes=data.notes)


def predict(
    model: nn.Module | Base,
    examples: Examples,
    *,
    task: Task,
    delta: TaskDelta | None = None,
    tokenizer: Any = None,
    config: TrainingConfig | None = None,
    use_cpu: bool = False,
) -> Predictions:
    """What a task model says about examples, labelled or not.

    Args:
        model: a base with a head of the task's size; with a `delta`, its head plays no part.
        examples: the sentences.
        task: what the outputs mean.
        delta: applied for the time of the prediction and removed again.
        tokenizer: the base's tokenizer, where it cannot be found by itself.
        config: maximum length, batch size and precision; by default those that the delta was trained with.
        use_cpu: stay on the CPU even where there is an accelerator.

    Raises:
        SupermaskError: of the kind that fits.
    """
    given = given_model(model, tokenizer)
    return _predict(given, {"": examples}, task=task, delta=delta, config=config, use_cpu=use_cpu)[""]


def _predict(
    given: GivenModel,
    splits: Mapping[str, Examples],
    *,
    task: Task,
    delta: TaskDelta | None,
    config: TrainingConfig | None,
    use_cpu: bool,
) -> dict[str, Predictions]:
    """Predictions of every split, the delta applied once for all of them."""
    _check_task(delta, task)
    check_head(given.model, task)
    config = config or _config_of(delta)
    device = take_device(use_cpu=use_cpu)
    precision = _precision_of(delta, config, device.type)
    batches = {
        split: padded_batches(
            encode(examples, task, given.tokenizer, max_length=config.max_length),
            given.tokenizer,
            batch_size=config.eval_batch_size,
        )
        for split, examples in splits.items()
    }
    given.model.to(device)
    predictions = {}
    with delta.applied(given.model) if delta is not None else contextlib.nullcontext():
        for split, padded in batches.items():
            logits = predict_logits(given.model, padded, precision=precision)
            predictions[split] = Predictions(predictions_from_logits(logits, task), logits, task.label_names)
    return predictions


def check_head(model: nn.Module, task: Task) -> None:
    """Refuse a model whose head is of another size than the task.

    Raises:
        ConfigurationError: saying which size is needed.
    """
    outputs = getattr(getattr(model, "config", None), "num_labels", None)
    if outputs is not None and outputs != task.num_labels:
        raise ConfigurationError(
            f"the model's head has {outputs} outputs and task {task.name!r} needs {task.num_labels}; load the base "
            f"with num_labels={task.num_labels}"
        )


def _check_task(delta: TaskDelta | None, task: Task) -> None:
    """A delta's classes must be the task's, in the same order; the task may go by another name."""
    if delta is None or delta.task.kind is None:
        return
    learnt = (delta.task.kind, list(delta.task.label_names))
    if learnt != (task.kind, list(task.label_names)):
        raise ConfigurationError(
            f"the delta was learnt on {delta.task.name!r} ({learnt[0]}, labels {learnt[1]}), and task "
            f"{task.name!r} is {task.kind} with labels {list(task.label_names)}; use the task it was learnt on"
        )


def _config_of(delta: TaskDelta | None) -> TrainingConfig:
    return TrainingConfig(**delta.training.config) if delta is not None else TrainingConfig()


def _precision_of(delta: TaskDelta | None, config: TrainingConfig, device_type: str) -> Precision:
    """What the delta was scored with, so that predictions agree with its record; else what the settings say."""
    stored = delta.training.precision if delta is not None else None
    if config.precision == "auto" and stored in ("fp32", "bf16", "fp16"):
        return cast("Precision", stored)
    return resolve_precision(config.precision, device_type)
