"""Scores and predictions of a task model in one call: a base with a stored delta, or any model with its head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import nn

from supermask.deltas import TaskDelta
from supermask.errors import ConfigurationError
from supermask.models import Base
from supermask.prediction.predictor import Predictions, set_up
from supermask.settings import TrainingConfig
from supermask.tasks import Examples, Task, TaskData, load_task, score

__all__ = ["Evaluation", "evaluate", "predict"]


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
    data = load_task(task, data_dir=data_dir) if isinstance(task, str) else task
    chosen = tuple(splits) if splits is not None else tuple(data.report)
    if not chosen:
        raise ConfigurationError(f"task {data.task.name!r} has no labelled split here to evaluate on")
    for split in chosen:
        if data[split].labels is None:
            raise ConfigurationError(f"split {split!r} of {data.task.name!r} has no labels to score; use predict")
    with set_up(model, data.task, delta=delta, tokenizer=tokenizer, config=config, use_cpu=use_cpu) as predictor:
        predictions = {split: predictor.answer(predictor.encode(data[split])) for split in chosen}
    scores = {split: score(data.task, made.values, data[split].labels) for split, made in predictions.items()}
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
        delta: and all that follows, as for `evaluate`.

    Raises:
        SupermaskError: of the kind that fits.
    """
    with set_up(model, task, delta=delta, tokenizer=tokenizer, config=config, use_cpu=use_cpu) as predictor:
        return predictor.answer(predictor.encode(examples))
