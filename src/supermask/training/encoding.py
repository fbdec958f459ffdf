"""From examples to model inputs: tokenise once, batch by length."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from supermask.errors import DataError

if TYPE_CHECKING:
    from supermask.tasks import Examples, Task

__all__ = ["EncodedExamples", "LengthGroupedSampler", "encode", "length_grouped_order", "pad"]

_BATCHES_PER_GROUP = 50


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
        if self.labels is not None:
            feature["labels"] = self.labels[index]
        return feature


def encode(examples: Examples, task: Task, tokenizer: Any, *, max_length: int) -> EncodedExamples:
    """Tokenise every example of a split once.

    Args:
        examples: the sentences and, but for test splits, the labels.
        task: says whether labels are classes or numbers.
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
    if examples.labels is None:
        return EncodedExamples(features, None)
    labels = [float(label) if task.regression else int(label) for label in examples.labels]
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


def length_grouped_order(lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int) -> list[int]:
    """A random order of the examples in which a batch holds inputs of about one length, so that little is padded.

    Examples are shuffled, cut into groups of 50 batches, sorted within each group, and the batches shuffled; a last
    smaller batch stays last. The order is a pure function of seed and epoch: a resumed epoch goes on in the same order.

    Args:
        lengths: input lengths in tokens.
        batch_size: examples a batch.
        seed: of the run.
        epoch: counted from 0.

    Returns:
        A permutation of the indices.

    Example:
        >>> sorted(length_grouped_order([5, 3, 9, 4, 8], 2, seed=0, epoch=0))
        [0, 1, 2, 3, 4]
    """
    generator = random.Random(f"order:{seed}:{epoch}")
    order = list(range(len(lengths)))
    generator.shuffle(order)
    group = batch_size * _BATCHES_PER_GROUP
    order = [
        index
        for start in range(0, len(order), group)
        for index in sorted(order[start : start + group], key=lambda index: -lengths[index])
    ]
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    last = [batches.pop()] if batches and len(batches[-1]) < batch_size else []
    generator.shuffle(batches)
    return [index for batch in batches + last for index in batch]


@final
class LengthGroupedSampler(Sampler[int]):
    """`length_grouped_order` for a torch loader; set `epoch` before each pass."""

    def __init__(self, lengths: Sequence[int], batch_size: int, *, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(length_grouped_order(self.lengths, self.batch_size, seed=self.seed, epoch=self.epoch))
