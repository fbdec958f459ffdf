"""Whatever a batch is dealt to, every example counts once, and the loss is the mean over the batch."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supermask.prediction.encoding import EncodedExamples
from supermask.tasks import find_task
from supermask.training import TrainingConfig, optimizer_steps
from supermask.training.batches import (
    SHARE,
    DealtExamples,
    LengthGroupedSampler,
    MicroBatchSampler,
    collate_dealt,
    deal,
    length_grouped_order,
)
from tiny_tasks import tiny_tokenizer

TABLE_1 = {  # the paper's "fine-tuning iteration count"
    "mnli": 36816,
    "qqp": 34113,
    "qnli": 9822,
    "sst2": 6315,
    "cola": 804,
    "stsb": 540,
    "mrpc": 345,
    "rte": 234,
}


def test_the_step_counts_are_those_of_table_1() -> None:
    steps = {task: optimizer_steps(find_task(task).expected_sizes["train"], TrainingConfig()) for task in TABLE_1}
    assert steps == TABLE_1
    assert optimizer_steps(1000, TrainingConfig(max_steps=7)) == 7


def test_the_order_is_a_permutation_and_a_pure_function_of_seed_and_epoch() -> None:
    lengths = [index % 17 for index in range(3301)]
    order = length_grouped_order(lengths, 32, seed=3, epoch=1)
    assert sorted(order) == list(range(3301))
    assert order == length_grouped_order(lengths, 32, seed=3, epoch=1)
    assert order != length_grouped_order(lengths, 32, seed=3, epoch=2)
    assert order != length_grouped_order(lengths, 32, seed=4, epoch=1)


def test_batches_hold_inputs_of_about_one_length() -> None:
    lengths = [(index * 7919) % 100 for index in range(3200)]
    order = length_grouped_order(lengths, 32, seed=0, epoch=0)
    batches = [[lengths[index] for index in order[start : start + 32]] for start in range(0, 3200, 32)]
    assert sum(max(batch) - min(batch) for batch in batches) / len(batches) < 5  # a random batch of 32 spans about 94
    longest = [max(batch) for batch in batches]
    assert longest != sorted(longest, reverse=True)  # batches themselves are shuffled


@given(part=st.integers(1, 4), accumulation=st.integers(1, 4), processes=st.integers(1, 4), missing=st.integers(0, 100))
def test_every_example_counts_as_one_of_the_batch(part: int, accumulation: int, processes: int, missing: int) -> None:
    batch_size = part * accumulation * processes
    batch = list(range(100, 100 + max(1, batch_size - missing)))
    dealt = [
        deal(batch, batch_size=batch_size, accumulation=accumulation, processes=processes, rank=rank)
        for rank in range(processes)
    ]
    micro_batches = len(dealt[0])
    assert {len(mine) for mine in dealt} == {micro_batches}  # all take part in every micro-batch
    assert micro_batches <= accumulation
    counts = dict.fromkeys(batch, Fraction(0))
    for mine in dealt:
        for indices, weight in mine:
            for index in indices:
                # A mean over the micro-batch, weighed, then averaged over processes and micro-batches.
                counts[index] += Fraction(weight).limit_denominator(10**6) / len(indices) / processes / micro_batches
    assert set(counts.values()) == {Fraction(1, len(batch))}
    if len(batch) == batch_size:
        assert {weight for mine in dealt for _, weight in mine} == {1.0}
    order = [index for i in range(micro_batches) for mine in dealt for index in mine[i][0] if mine[i][1]]
    assert order == batch


def sampler(lengths: list[int], batch_size: int, **settings: int) -> MicroBatchSampler:
    return MicroBatchSampler(LengthGroupedSampler(lengths, batch_size, seed=3), **settings)


@pytest.mark.parametrize("examples", [1, 8, 11, 12])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("processes", [1, 2])
def test_its_length_is_how_many_it_gives(examples: int, accumulation: int, processes: int) -> None:
    batches = sampler([5] * examples, 4, accumulation=accumulation, processes=processes)
    assert len(batches) == len(list(batches))


def test_epochs_go_their_own_order_and_come_back() -> None:
    batches = sampler(list(range(3, 14)), 4)
    first = list(batches)
    batches.order.epoch = 1
    assert list(batches) != first
    batches.order.epoch = 0
    assert list(batches) == first
    assert [index for batch in first for index, _ in batch] == list(batches.order)


def test_a_batch_says_its_weight_where_it_is_not_one() -> None:
    features = [{"input_ids": [5, 6], "attention_mask": [1, 1]}, {"input_ids": [7], "attention_mask": [1]}]
    examples = DealtExamples(EncodedExamples(features, [0, 1]))
    assert len(examples) == 2
    batch = collate_dealt(tiny_tokenizer(), [examples[(0, 1.0)], examples[(1, 1.0)]])
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert collate_dealt(tiny_tokenizer(), [examples[(0, 0.5)]])[SHARE] == 0.5
