"""From a task model to logits, predictions and scores."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from supermask.training.config import Precision
from supermask.training.encoding import EncodedExamples, pad

if TYPE_CHECKING:
    from supermask.tasks import Task

__all__ = ["predict_logits", "predictions_from_logits"]


def predict_logits(
    model: nn.Module, examples: EncodedExamples, tokenizer: Any, *, batch_size: int = 64, precision: Precision = "fp32"
) -> Tensor:
    """The model's outputs for every example, in the order of the examples.

    Batches run from long to short inputs, so that little is padded and a shortage of memory shows at once. The same
    weights, batch size and precision give the same bits.

    Args:
        model: a task model; put into evaluation mode for the while.
        examples: encoded examples; labels are not looked at.
        tokenizer: pads the batches.
        batch_size: examples a batch.
        precision: arithmetic of the forward pass.

    Returns:
        float32 tensor on the CPU, of shape (examples, outputs of the head).
    """
    device = next(model.parameters()).device
    order = sorted(range(len(examples)), key=lambda index: -examples.lengths[index])
    was_training = model.training
    model.eval()
    pieces = []
    try:
        with torch.no_grad(), _autocast(device, precision):
            for start in range(0, len(order), batch_size):
                items = [examples[index] for index in order[start : start + batch_size]]
                batch = {name: value.to(device) for name, value in pad(tokenizer, items).items() if name != "labels"}
                pieces.append(model(**batch).logits.float().cpu())
    finally:
        model.train(was_training)
    logits = torch.cat(pieces)
    restored = torch.empty_like(logits)
    restored[torch.tensor(order)] = logits
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
