"""Tokenising once and batching by length."""

from __future__ import annotations

import pytest
from supermask.training.encoding import encode, length_grouped_order, pad

from supermask.errors import DataError
from supermask.tasks import Examples
from tiny_tasks import tiny_data, tiny_tokenizer


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
    spans = [
        max(lengths[index] for index in batch) - min(lengths[index] for index in batch)
        for batch in (order[start : start + 32] for start in range(0, 3200, 32))
    ]
    assert sum(spans) / len(spans) < 5  # a random batch of 32 spans about 94
    first = [max(lengths[index] for index in order[start : start + 32]) for start in range(0, 3200, 32)]
    assert first != sorted(first, reverse=True)  # batches themselves are shuffled


def test_padding_reaches_the_longest_and_labels_come_along() -> None:
    data, tokenizer = tiny_data(), tiny_tokenizer()
    encoded = encode(data.train, data.task, tokenizer, max_length=8)
    batch = pad(tokenizer, [encoded[index] for index in range(5)])
    assert batch["input_ids"].shape == (5, max(encoded.lengths[:5]))
    assert max(encoded.lengths) == 8
    assert batch["labels"].tolist() == list(data.train.labels or ())[:5]


def test_no_example_is_an_error() -> None:
    nothing = Examples(first=(), second=None, labels=None, ids=(), source="empty.csv")
    with pytest.raises(DataError, match=r"empty\.csv holds no example"):
        encode(nothing, tiny_data().task, tiny_tokenizer(), max_length=8)
