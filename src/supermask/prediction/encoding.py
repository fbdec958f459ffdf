"""From examples to model inputs: tokenise once, pad batches of about one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.data import Dataset

from supermask.errors import DataError
from supermask.prediction.kinds import kind_of
from supermask.tasks import Examples, Task

__all__ = ["EncodedExamples", "PaddedBatches", "encode", "pad", "padded_batches"]


@final
class EncodedExamples(Dataset[dict[str, Any]]):
    """Tokenised examples of one split: what a model reads, without padding, and the labels if there are any."""

    def __init__(self, features: Sequence[dict[str, list[int]]], labels: Sequence[float] | None) -> None:
        self.features = features
        self.labels = labels
        self.lengths = [len(feature["input_ids"]) for feature in features]

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> dict[str, Any]:
        feature: dict[str, Any] = dict(self.features[index])
        return feature if self.labels is None else feature | {"labels": self.labels[index]}


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


def encode(examples: Examples, task: Task, tokenizer: Any, *, max_length: int) -> EncodedExamples:
    """Tokenise every example of a split once.

    Args:
        examples: the sentences and, but for test splits, the labels.
        task: says what labels are.
        tokenizer: the base's tokenizer.
        max_length: longest input in tokens; longer ones are cut.

    Raises:
        DataError: if there is no example.
    """
    if not len(examples):
        raise DataError(f"{examples.source or task.name} holds no example")
    second = list(examples.second) if examples.second is not None else None
    encoded = tokenizer(list(examples.first), second, truncation=True, max_length=max_length)
    features = [{name: encoded[name][row] for name in encoded} for row in range(len(examples))]
    labels = None if examples.labels is None else kind_of(task).encode_labels(examples.labels)
    return EncodedExamples(features, labels)


def pad(tokenizer: Any, items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Pad a batch to its longest input.

    Args:
        tokenizer: the base's tokenizer, which knows the padding token.
        items: examples as `EncodedExamples` gives them.

    Returns:
        Tensors of shape (batch, longest), and `labels` of shape (batch,) if there are any.
    """
    features = [{name: value for name, value in item.items() if name != "labels"} for item in items]
    batch = dict(tokenizer.pad(features, return_tensors="pt"))
    if "labels" in items[0]:
        batch["labels"] = torch.tensor([item["labels"] for item in items])
    return batch


def padded_batches(examples: EncodedExamples, tokenizer: Any, *, batch_size: int) -> PaddedBatches:
    """Pad examples into batches of about one length, so that little is padded.

    Batches run from long to short inputs, so that a shortage of memory shows at once.

    Args:
        examples: encoded examples; labels are not looked at.
        tokenizer: pads the batches.
        batch_size: examples a batch.
    """
    order = sorted(range(len(examples)), key=lambda index: -examples.lengths[index])
    batches = [
        pad(tokenizer, [examples.features[index] for index in order[start : start + batch_size]])
        for start in range(0, len(order), batch_size)
    ]
    return PaddedBatches(tuple(batches), torch.tensor(order))
