"""From a task model to logits, predictions and scores."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from supermask.training.config import Precision
from supermask.training.encoding import EncodedExamples, pad

if TYPE_CHECKING:
    from supermask.tasks import Task

__all__ = ["PaddedBatches", "padded_batches", "predict_logits", "predictions_from_logits"]


@final
@dataclass(frozen=True)
class PaddedBatches:
    """Examples padded into batches once, for as many passes over them as there are masks to try.

    Args:
        batches: what the model reads, on the CPU, from long to short inputs.
        order: the example in each row of the batches, one after another; int64 of shape (examples,).
    """

    batches: tuple[Mapping[str, Tensor], ...]
    order: Tensor


def padded_batches(examples: EncodedExamples, tokenizer: Any, *, batch_size: int = 64) -> PaddedBatches:
    """Pad examples into batches of about one length, so that little is padded.

    Batches run from long to short inputs, so that a shortage of memory shows at once.

    Args:
        examples: encoded examples; labels are not looked at.
        tokenizer: pads the batches.
        batch_size: examples a batch.
    """
    order = sorted(range(len(examples)), key=lambda index: -examples.lengths[index])
    batches = []
    for start in range(0, len(order), batch_size):
        batch = pad(tokenizer, [examples[index] for index in order[start : start + batch_size]])
        batches.append({name: value for name, value in batch.items() if name != "labels"})
    return PaddedBatches(tuple(batches), torch.tensor(order))


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


def predictions_from_logits(logits: Tensor, task: Task) -> Sequence[int] | Sequence[float]:
    """Class indices, the largest output of each row, or numbers for a regression task.

    Args:
        logits: shape (examples, outputs).
        task: what the outputs mean.
    """
    if task.regression:
        numbers: list[float] = logits[:, 0].tolist()
        return numbers
    classes: list[int] = logits.argmax(dim=1).tolist()
    return classes


def _autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[Any]:
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)
