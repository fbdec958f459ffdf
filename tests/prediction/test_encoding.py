import pytest

from supermask.errors import DataError
from supermask.prediction.encoding import encode, pad
from supermask.tasks import Examples
from tiny_tasks import tiny_data, tiny_tokenizer


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
