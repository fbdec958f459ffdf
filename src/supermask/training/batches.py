"""The order of the examples, and how a batch is dealt out: to micro-batches in turn, to processes side by side.

The loss of a step is the mean over its whole batch, whatever it is cut into. Cuts of unequal size, as in an epoch's
last batch, therefore weigh what they hold: otherwise an example there would count more than its neighbours, and a run
on two processes would go another way than on one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, final

from torch import Tensor
from torch.utils.data import Dataset, Sampler

from supermask.prediction.encoding import EncodedExamples, pad
from supermask.settings import TrainingConfig

__all__ = [
    "SHARE",
    "DealtExamples",
    "LengthGroupedSampler",
    "MicroBatchSampler",
    "collate_dealt",
    "deal",
    "length_grouped_order",
    "optimizer_steps",
]

SHARE = "share"
"""The key of a batch under which its weight stands, where that is not 1."""

_BATCHES_PER_GROUP = 50


def optimizer_steps(examples: int, config: TrainingConfig) -> int:
    """How many optimizer steps a training takes; the last batch of an epoch may be smaller.

    Args:
        examples: training examples.
        config: the settings.

    Example:
        >>> optimizer_steps(3668, TrainingConfig())  # MRPC
        345

    Source: Table 1 of the paper, whose iteration counts are 3 · ceil(n / 32).
    """
    per_epoch = -(-examples // config.batch_size)
    return config.max_steps if config.max_steps is not None else config.epochs * per_epoch


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


def deal(
    batch: Sequence[int], *, batch_size: int, accumulation: int, processes: int, rank: int
) -> list[tuple[list[int], float]]:
    """One process's part of a batch.

    Micro-batch i is the i-th piece of batch_size / accumulation examples, and process r has the r-th part of that. The
    mean loss of a part times its weight, averaged over processes and micro-batches, is the mean over the batch.

    Args:
        batch: the examples' indices; at most `batch_size`, fewer at the end of an epoch.
        batch_size: examples of a full batch.
        accumulation: micro-batches of a full batch; a smaller batch has as many as it fills.
        processes: how many share the work.
        rank: which of them.

    Returns:
        Indices and weight for each micro-batch. A process that has nothing left gets one example with weight 0, because
        all must take part in every step.

    Example:
        >>> deal([7, 8, 9], batch_size=4, accumulation=1, processes=2, rank=1)
        [([9], 0.6666666666666666)]
    """
    size = batch_size // accumulation
    pieces = [batch[start : start + size] for start in range(0, len(batch), size)]
    part = size // processes
    dealt = []
    for piece in pieces:
        mine = list(piece[rank * part : (rank + 1) * part])
        weight = len(mine) * processes * len(pieces) / len(batch)
        dealt.append((mine or [piece[0]], weight))
    return dealt


@final
class MicroBatchSampler(Sampler[list[tuple[int, float]]]):
    """A torch batch sampler of one process's micro-batches: each a list of (index, weight of the micro-batch).

    Args:
        order: the examples' order; its `epoch` says which.
        accumulation: micro-batches of a batch.
        processes: how many share the work.
        rank: which of them.
    """

    def __init__(
        self, order: LengthGroupedSampler, *, accumulation: int = 1, processes: int = 1, rank: int = 0
    ) -> None:
        self.order = order
        self.accumulation, self.processes, self.rank = accumulation, processes, rank

    def __len__(self) -> int:
        whole, rest = divmod(len(self.order), self.order.batch_size)
        return whole * self.accumulation + -(-rest * self.accumulation // self.order.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, float]]]:
        size = self.order.batch_size
        order = list(self.order)
        for start in range(0, len(order), size):
            for indices, weight in deal(
                order[start : start + size],
                batch_size=size,
                accumulation=self.accumulation,
                processes=self.processes,
                rank=self.rank,
            ):
                yield [(index, weight) for index in indices]


@final
class DealtExamples(Dataset[tuple[dict[str, Any], float]]):
    """Examples as a loader asks for them by `MicroBatchSampler`."""

    def __init__(self, examples: EncodedExamples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, dealt: tuple[int, float]) -> tuple[dict[str, Any], float]:
        index, weight = dealt
        return self.examples[index], weight


def collate_dealt(tokenizer: Any, items: Sequence[tuple[dict[str, Any], float]]) -> dict[str, Tensor | float]:
    """Pad a micro-batch as `DealtExamples` gives it, and note its weight under `SHARE` if it is not 1."""
    batch: dict[str, Tensor | float] = dict(pad(tokenizer, [item for item, _ in items]))
    weight = items[0][1]
    return batch if weight == 1.0 else batch | {SHARE: weight}
