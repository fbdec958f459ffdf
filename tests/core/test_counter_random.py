import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference_bits import reference_bits16
from supermask.core import counter_random
from supermask.core.counter_random import key_words, random_bits16

CHUNK = counter_random._CHUNK_CPU
WORDS = st.integers(min_value=0, max_value=2**32 - 1)


def bits_of(count: int, key: tuple[int, int]) -> np.ndarray:
    pieces = [bits.clone() for _, bits in random_bits16(count, key)]
    return torch.cat(pieces).numpy() if pieces else np.empty(0, dtype=np.int32)


# The numbers themselves.


@pytest.mark.parametrize(
    "key", [(0, 0), (2**32 - 1, 2**32 - 1), (2**31, 2**31 - 1), (0xFFFF0001, 0x80000000), key_words(7, "a.weight")]
)
def test_same_numbers_as_unsigned_python_integers(key: tuple[int, int]) -> None:
    count = 3 * CHUNK + 5
    assert bits_of(count, key).tolist() == [reference_bits16(index, key) for index in range(count)]


@given(WORDS, WORDS, st.integers(min_value=1, max_value=40))
def test_same_numbers_for_any_key(first: int, second: int, count: int) -> None:
    expected = [reference_bits16(index, (first, second)) for index in range(count)]
    assert bits_of(count, (first, second)).tolist() == expected


@pytest.mark.parametrize(
    ("key", "golden"),
    [
        ((0, 0), [0, 12434, 64934, 6394, 12513, 44252, 47073, 62305]),
        ((0xFFFFFFFE, 0x12345678), [3561, 58923, 1920, 35060, 50127, 3960, 35490, 46091]),
    ],
)
def test_golden_numbers(key: tuple[int, int], golden: list[int]) -> None:
    assert bits_of(8, key).tolist() == golden


def test_indices_beyond_32_bits_have_numbers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # Pieces of 2**32 indices, of which only the first five are made.
    monkeypatch.setattr(counter_random, "_CHUNK_CPU", 2**32)
    monkeypatch.setattr(counter_random, "_indices", lambda count, device: torch.arange(5, dtype=torch.int32))
    key = key_words("long")
    pieces = {start: bits.tolist() for start, bits in random_bits16(2**32 + 5, key)}
    assert pieces == {start: [reference_bits16(start + index, key) for index in range(5)] for start in (0, 2**32)}
    assert pieces[0] != pieces[2**32]


# Pieces.


@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_pieces_of_16_bit_numbers_cover_the_tensor_once_and_in_order(count: int) -> None:
    sizes = []
    for start, bits in random_bits16(count, (1, 2)):
        sizes.append((start, bits.numel()))
        assert bits.dtype == torch.int32 and int(bits.min()) >= 0 and int(bits.max()) < 65536
    assert sizes == [(start, min(CHUNK, count - start)) for start in range(0, count, CHUNK)]


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_size_of_the_pieces_makes_no_difference(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = bits_of(2000, (5, 6))
    monkeypatch.setattr(counter_random, "_CHUNK_CPU", chunk)
    np.testing.assert_array_equal(bits_of(2000, (5, 6)), expected)


def test_two_streams_drawn_in_turns_do_not_disturb_each_other() -> None:
    count = 2 * CHUNK
    first, second = bits_of(count, (1, 1)), bits_of(count, (2, 2))
    turns = zip(random_bits16(count, (1, 1)), random_bits16(count, (2, 2)), strict=True)
    for (start, ours), (_, others) in turns:
        np.testing.assert_array_equal(ours.numpy(), first[start : start + CHUNK])
        np.testing.assert_array_equal(others.numpy(), second[start : start + CHUNK])


@pytest.mark.gpu
def test_same_numbers_on_a_gpu() -> None:
    count = (1 << 24) + 3  # over one of the GPU's larger pieces
    key = key_words("gpu")
    on_gpu = torch.cat([bits.cpu() for _, bits in random_bits16(count, key, "cuda")])
    np.testing.assert_array_equal(on_gpu.numpy(), bits_of(count, key))


# Keys.


def test_key_words_are_the_halves_of_a_blake2b_digest() -> None:
    raw = hashlib.blake2b(b"int:1:7" + b"str:8:a.weight", digest_size=8).digest()
    assert key_words(7, "a.weight") == tuple(np.frombuffer(raw, dtype="<u4").tolist())


def test_golden_keys() -> None:
    assert key_words() == (1470146276, 3031595380)
    assert key_words(0, "encoder.weight") == (1322304404, 4206694965)
    assert key_words(1, 0, 0, 0, "training", "layer.weight") == (1294846214, 2703379576)


@pytest.mark.parametrize(
    ("parts", "others"),
    [((1, 2), (2, 1)), ((1,), ("1",)), (("ab", "c"), ("a", "bc")), ((12, 3), (1, 23)), ((-1,), (1,)), (("",), ())],
)
def test_different_parts_give_different_keys(parts: tuple[int | str, ...], others: tuple[int | str, ...]) -> None:
    assert key_words(*parts) != key_words(*others)


def test_integers_of_one_value_are_one_part() -> None:
    assert key_words(1, "a") == key_words(np.int64(1), "a") == key_words(True, np.str_("a"))


def test_a_fraction_is_no_part_of_a_key() -> None:
    with pytest.raises(TypeError):
        key_words(0.5)  # type: ignore[arg-type]


# The statistics: the keys are fixed, so these hold or fail the same way every time.


def chi_square_deviations(counts: np.ndarray) -> float:
    """How many standard deviations a chi-square statistic over equally likely cells lies from its expectation."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom))


@pytest.mark.parametrize("key", [(0, 0), (0, 1), (1, 0), *(key_words(part) for part in (0, 1, "fair", "square"))])
def test_numbers_their_halves_and_neighbours_are_uniform_and_each_bit_is_fair(key: tuple[int, int]) -> None:
    bits = bits_of(1 << 20, key)
    neighbours = (bits[::2] >> 10) * 64 + (bits[1::2] >> 10)
    for numbers, kinds in ((bits, 65536), (bits >> 8, 256), (bits & 255, 256), (neighbours, 4096)):
        assert abs(chi_square_deviations(np.bincount(numbers, minlength=kinds))) < 5
    for place in range(16):
        ones = int(((bits >> place) & 1).sum())
        assert abs(ones - 2**19) < 5 * math.sqrt(2**20 / 4), place


@pytest.mark.parametrize(
    ("parts", "others"),
    [
        ((0, 0, "w"), (0, 1, "w")),  # the next step
        ((0, 0, "w"), (1, 0, "w")),  # another seed
        ((0, 0, "w"), (0, 0, "v")),  # another tensor
        ((0, 1, "w"), (1, 0, "w")),  # seed and step exchanged
    ],
)
def test_streams_of_different_keys_are_independent(parts: tuple[int | str, ...], others: tuple[int | str, ...]) -> None:
    first, second = bits_of(1 << 19, key_words(*parts)), bits_of(1 << 19, key_words(*others))
    cells = np.bincount((first >> 10) * 64 + (second >> 10), minlength=4096)
    assert abs(chi_square_deviations(cells)) < 5
