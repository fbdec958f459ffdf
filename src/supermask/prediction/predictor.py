"""A task model that answers: set up once, asked as often as one likes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast, final, get_args

import torch
from torch import Tensor, nn

from supermask.deltas import TaskDelta
from supermask.errors import ConfigurationError
from supermask.models import Base
from supermask.prediction.encoding import PaddedBatches, encode, padded_batches
from supermask.prediction.given import Precision, given_model, resolve_precision, take_device
from supermask.prediction.kinds import kind_of
from supermask.settings import TrainingConfig
from supermask.tasks import Examples, Task, score

__all__ = ["Predictions", "Predictor", "predict_logits", "set_up"]


@final
@dataclass(frozen=True)
class Predictions:
    """What a task model says about examples.

    Args:
        task: what the outputs mean.
        values: class indices, or numbers for a regression task, in the order of the examples.
        logits: the outputs behind them, float32 of shape (examples, outputs).
    """

    task: Task
    values: Sequence[int] | Sequence[float]
    logits: Tensor

    @property
    def labels(self) -> list[str]:
        """The predictions in words: class names, or numbers with six digits."""
        return kind_of(self.task).words(self.task, self.values)

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The predictions as they go into a JSON document: `prediction`, and `probabilities` of classes."""
        return kind_of(self.task).answers(self.task, self.logits)


@final
@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A model, its tokenizer and what its outputs mean: examples -> batches -> logits -> predictions.

    It answers with the weights that the model has when it is asked. `set_up` makes one.

    Args:
        model: with its head, on the device that computes.
        tokenizer: the base's.
        task: what the outputs mean.
        max_length: longest input in tokens; longer ones are cut.
        batch_size: examples a batch.
        precision: arithmetic of the forward pass.
    """

    model: nn.Module
    tokenizer: Any
    task: Task
    max_length: int = 128
    batch_size: int = 64
    precision: Precision = "fp32"

    def encode(self, examples: Examples) -> PaddedBatches:
        """Tokenise and pad, once for any number of passes.

        Raises:
            DataError: if there is no example.
        """
        encoded = encode(examples, self.task, self.tokenizer, max_length=self.max_length)
        return padded_batches(encoded, self.tokenizer, batch_size=self.batch_size)

    def decode(self, logits: Tensor) -> Predictions:
        """What outputs of shape (examples, outputs) say."""
        return Predictions(self.task, kind_of(self.task).decode(logits), logits)

    def answer(self, batches: PaddedBatches) -> Predictions:
        """Compute and decode, in the order of the examples."""
        return self.decode(predict_logits(self.model, batches, precision=self.precision))

    def score(self, batches: PaddedBatches, examples: Examples) -> dict[str, float]:
        """The task's metrics over examples and their batches, as fractions.

        Raises:
            DataError: if the examples have no labels.
        """
        return score(self.task, self.answer(batches).values, examples.labels)


def predict_logits(model: nn.Module, examples: PaddedBatches, *, precision: Precision = "fp32") -> Tensor:
    """The model's outputs for every example, in the order of the examples.

    The same weights, batches and precision give the same bits.

    Args:
        model: a task model; put into evaluation mode for the while.
        examples: as `padded_batches` gives them.
        precision: arithmetic of the forward pass.

    Returns:
        float32 tensor on the CPU, of shape (examples, outputs of the head).
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    pieces = []
    try:
        with torch.no_grad(), _autocast(device, precision):
            for batch in examples.batches:
                # Stays on the device: to fetch every batch's outputs would wait for each before the next is sent.
                pieces.append(model(**{name: value.to(device) for name, value in batch.items()}).logits.float())
    finally:
        model.train(was_training)
    logits = torch.cat(pieces).cpu()
    restored = torch.empty_like(logits)
    restored[examples.order] = logits
    return restored


@contextlib.contextmanager
def set_up(
    model: nn.Module | Base,
    task: Task,
    *,
    delta: TaskDelta | None = None,
    tokenizer: Any = None,
    config: TrainingConfig | None = None,
    use_cpu: bool = False,
) -> Iterator[Predictor]:
    """Put a delta on a base for the while, and hand over what answers for the two.

    Args:
        model: a base with a head of the task's size; with a `delta`, its head plays no part.
        task: what the outputs mean.
        delta: applied on entering and removed on leaving.
        tokenizer: the base's tokenizer, where it cannot be found by itself.
        config: maximum length, batch size and precision; by default those that the delta was trained with.
        use_cpu: stay on the CPU even where there is an accelerator.

    Raises:
        SupermaskError: of the kind that fits.

    Example:
        >>> with set_up(base, task, delta=delta) as predictor:  # doctest: +SKIP
        ...     predictor.answer(predictor.encode(examples)).labels
        ['equivalent', 'not_equivalent']
    """
    if delta is not None:
        _check_task(delta, task)
    given = given_model(model, task, tokenizer)
    config = config or TrainingConfig(**(delta.training.config if delta is not None else {}))
    device = take_device(use_cpu=use_cpu)
    stored = delta.training.precision if delta is not None else None
    # What the delta was scored with, so that predictions agree with its record; else what the settings say.
    scored_with = config.precision == "auto" and stored in get_args(Precision)
    given.model.to(device)
    with delta.applied(given.model) if delta is not None else contextlib.nullcontext():
        yield Predictor(
            model=given.model,
            tokenizer=given.tokenizer,
            task=task,
            max_length=config.max_length,
            batch_size=config.eval_batch_size,
            precision=cast(Precision, stored) if scored_with else resolve_precision(config.precision, device.type),
        )


def _check_task(delta: TaskDelta, task: Task) -> None:
    """A delta's classes must be the task's, in the same order; the task may go by another name."""
    learnt = delta.task
    if learnt.kind is not None and (learnt.kind, learnt.label_names) != (task.kind, task.label_names):
        raise ConfigurationError(
            f"the delta was learnt on {learnt.name!r} ({learnt.kind}, labels {list(learnt.label_names)}), and task "
            f"{task.name!r} is {task.kind} with labels {list(task.label_names)}; use the task it was learnt on"
        )


def _autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[Any]:
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)
