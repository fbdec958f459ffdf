from __future__ import annotations

import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from supermask.deltas.rounding import round_to_16_bits
from torch import Tensor

from deltas import reference_values as reference_coder
from deltas.reference_values import frame, with_length
from deltas.tiny_values import decoded, forced, numbers, random_bits, same, tuned
from supermask.deltas import value_codec
from supermask.deltas.tensor_bytes import STORED_DTYPES, as_bytes, dtype_name, from_bytes
from supermask.deltas.value_codec import (
    VALUE_CODINGS,
    EncodedValues,
    decode_values,
    encode_values,
    needs_reference,
)
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError, DeltaStateError

DTYPES = {name: dtype for name, (dtype, _) in STORED_DTYPES.items()}


@st.composite
def value_pairs(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Values and reference of any dtype and any bits: unrelated, near, or equal."""
    dtype = draw(st.sampled_from(list(DTYPES.values())))
    size = dtype.itemsize
    data = bytearray(draw(st.binary(max_size=60 * size)))
    data = data[: len(data) // size * size]
    count = len(data) // size
    values = from_bytes(bytes(data), dtype, (count,))
    relation = draw(st.sampled_from(["unrelated", "near", "equal"]))
    if relation == "unrelated":
        return values, random_bits(count, dtype, draw(st.integers(0, 99)))
    for at in range(0, len(data), size):
        step = draw(st.integers(-3, 3)) if relation == "near" else 0
        number = int.from_bytes(data[at : at + size], "little") + step
        data[at : at + size] = (number % 256**size).to_bytes(size, "little")
    return values, from_bytes(bytes(data), dtype, (count,))


# The example of the format.

EXAMPLE = bytes.fromhex("1c000000 28b52ffd e0 0c00000000000000 610000 010002 000000 000000 000000")


def test_the_example_of_the_format() -> None:
    base = from_bytes(bytes.fromhex("00000040 0100003f 000080bf"), torch.float32, (3,))
    values = from_bytes(bytes.fromhex("01000040 0000003f 000080bf"), torch.float32, (3,))
    found = decode_values(EXAMPLE, coding="sorted_difference", dtype=torch.float32, count=3, reference=base)
    assert same(found, values)
    assert reference_coder.encode(numbers(values), "float32", "sorted_difference", numbers(base)) == EXAMPLE


# Round trips and the reference.


@settings(max_examples=300, deadline=None)
@given(value_pairs(), st.booleans(), st.sampled_from([1, 3, 16, 1 << 18]))
def test_all_bits_of_all_dtypes_come_back(pair: tuple[Tensor, Tensor], with_base: bool, block: int) -> None:
    values, base = pair
    reference = base if with_base else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value_codec, "_BLOCK", block)
        encoded = encode_values(values, reference)
        assert same(decoded(encoded, values, reference), values)
    assert len(encoded.data) <= values.numel() * values.element_size()
    assert with_base or not needs_reference(encoded.coding)
    found = reference_coder.decode(
        encoded.data, dtype_name(values.dtype), values.numel(), encoded.coding, numbers(base), block=block
    )
    assert found == numbers(values)


@settings(max_examples=300, deadline=None)
@given(value_pairs(), st.sampled_from(VALUE_CODINGS), st.sampled_from([1, 5, 1 << 18]), st.integers(0, 2**32))
def test_payloads_of_another_writer_are_read(pair: tuple[Tensor, Tensor], coding: str, block: int, salt: int) -> None:
    values, base = pair
    name = dtype_name(values.dtype)
    # Another writer may expect whatever differences it likes.
    table = [
        index * salt % 256 ** values.element_size() for index in range(2 ** min(12, reference_coder.FRACTION[name]))
    ]
    payload = reference_coder.encode(numbers(values), name, coding, numbers(base), block=block, table=table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value_codec, "_BLOCK", block)
        assert same(decoded(EncodedValues(payload, coding), values, base), values)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(DTYPES.values())), st.sampled_from(VALUE_CODINGS[1:]), st.integers(0, 2**32))
def test_every_coding_is_exact_on_bits_that_it_does_not_suit(dtype: torch.dtype, coding: str, seed: int) -> None:
    values, base = random_bits(200, dtype, seed), random_bits(200, dtype, seed + 1)
    encoded = forced(coding, values, base)
    assert same(decoded(encoded, values, base), values)
    found = reference_coder.decode(encoded.data, dtype_name(dtype), 200, coding, numbers(base))
    assert found == numbers(values)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("coding", VALUE_CODINGS[1:])
def test_several_blocks_of_real_size(name: str, coding: str) -> None:
    count, dtype = 2 * (1 << 18) + 77, DTYPES[name]
    values, base = random_bits(count, dtype, 1), random_bits(count, dtype, 2)
    values[100_000:400_000] = base[100_000:400_000]
    encoded = forced(coding, values, base)
    assert same(decoded(encoded, values, base), values)
    assert encode_values(values, base).coding in ("difference", "sorted_difference")


def test_the_reference_agrees_on_blocks_of_real_size() -> None:
    base, values = tuned((1 << 18) + 5, torch.bfloat16)
    encoded = encode_values(values, base)
    found = reference_coder.decode(encoded.data, "bfloat16", values.numel(), encoded.coding, numbers(base))
    assert (encoded.coding, found) == ("sorted_difference", numbers(values))


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3)])
def test_any_shape_is_flattened(name: str, shape: tuple[int, ...]) -> None:
    values = torch.ones(shape).to(DTYPES[name])
    encoded = encode_values(values, values)
    assert same(decoded(encoded, values, values), values)
    assert values.numel() or encoded == EncodedValues(data=b"", coding="raw")


def test_order_is_row_major_whatever_the_strides() -> None:
    base, values = (tensor.reshape(40, 50) for tensor in tuned(2000))
    expected = encode_values(values.t().contiguous(), base.t().contiguous())
    assert encode_values(values.t(), base.t()) == expected
    assert same(decoded(expected, values.t().contiguous(), base.t()), values.t().contiguous())


def test_parameters_are_taken_and_left_alone() -> None:
    base, values = tuned(500)
    parameter, copy = torch.nn.Parameter(values.clone()), base.clone()
    encoded = encode_values(parameter, torch.nn.Parameter(base))
    found = decoded(encoded, values, torch.nn.Parameter(base))
    found.zero_()
    assert same(parameter.detach(), values) and same(base, copy)


def test_special_values_are_exact() -> None:
    patterns = [0x7FC00001, 0x7F800001, 0xFFC12345, 0x80000000, 0x7F800000, 0xFF800000, 1, 0x80000001, 0xFFFFFFFF]
    values = from_bytes(b"".join(p.to_bytes(4, "little") for p in patterns), torch.float32, (9,)).repeat(100)
    for reference in (None, values, torch.zeros(900), -values):
        assert same(decoded(encode_values(values, reference), values, reference), values)


def test_equal_arguments_give_equal_payloads() -> None:
    base, values = tuned(300_000)
    assert encode_values(values, base) == encode_values(values.clone(), base.clone())


def test_threads_decode_at_once() -> None:
    base, values = tuned(600_000)
    encoded = encode_values(values, base)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: decoded(encoded, values, base), range(8)))
    assert all(same(each, values) for each in found)


# Sizes and choices.


@pytest.mark.parametrize(
    ("dtype", "share", "coding", "most"),
    [
        (torch.float32, 1.0, "sorted_difference", 18.8),
        (torch.float32, 0.02, "difference", 0.35),
        (torch.bfloat16, 1.0, "sorted_difference", 2.75),
        (torch.float16, 1.0, "sorted_difference", 5.2),
        (torch.float64, 1.0, "sorted_difference", 23.2),
    ],
)
def test_what_moved_little_costs_little(dtype: torch.dtype, share: float, coding: str, most: float) -> None:
    base, values = tuned(200_000, dtype, share=share)
    encoded = encode_values(values, base)
    assert encoded.coding == coding
    assert 8 * len(encoded.data) / values.numel() < most


@pytest.mark.parametrize(("share", "most"), [(0.0, 0.12), (0.3, 6.3)])
def test_weights_that_only_decayed_cost_nearly_nothing(share: float, most: float) -> None:
    base, values = tuned(400_000, share=share)
    for step in range(50):
        values.mul_(1 - 2e-7 * (1 - step / 50))
    encoded = encode_values(values, base)
    assert encoded.coding == "difference"
    assert 8 * len(encoded.data) / values.numel() < most
    assert same(decoded(encoded, values, base), values)


def test_without_decay_no_difference_is_expected() -> None:
    base, values = tuned(200_000, share=0.02)
    encoded = encode_values(values, base)
    length = int.from_bytes(encoded.data[:4], "little")
    assert zstandard.decompress(encoded.data[4 : 4 + length]) == bytes(4 << 12)
    assert length < 40


def test_without_a_base_bytes_are_shuffled() -> None:
    _, values = tuned(200_000)
    encoded = encode_values(values)
    assert encoded.coding == "shuffle"
    assert 8 * len(encoded.data) / values.numel() < 27.5


def test_a_base_that_does_not_help_is_left_out() -> None:
    _, values = tuned(200_000)
    assert encode_values(values, random_bits(200_000, torch.float32)).coding == "shuffle"


@pytest.mark.parametrize("name", DTYPES)
def test_what_does_not_shrink_is_stored_raw(name: str) -> None:
    values = random_bits(5000, DTYPES[name])
    encoded = encode_values(values, random_bits(5000, DTYPES[name], 9))
    assert encoded == EncodedValues(data=bytes(as_bytes(values)), coding="raw")


def test_values_equal_to_the_base_cost_nothing_to_speak_of() -> None:
    base, _ = tuned(1 << 20)
    assert len(encode_values(base, base).data) < 2000


def test_the_coding_of_a_large_tensor_is_judged_by_blocks_all_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_codec, "_BLOCK", 1000)
    base, values = tuned(12_500)
    values[:1000] = base[:1000]  # the first block alone would say otherwise
    tried: list[tuple[str, int]] = []
    frames = value_codec._Encoder.frames

    def spy(self: Any, coding: str, starts: Any) -> dict[int, bytes]:
        found = frames(self, coding, starts)
        tried.extend((coding, start) for start in found)
        return found

    monkeypatch.setattr(value_codec._Encoder, "frames", spy)
    encoded = encode_values(values, base)
    assert encoded.coding == "sorted_difference"
    assert same(decoded(encoded, values, base), values)
    assert sorted(start for coding, start in tried if coding == "shuffle") == [0, 3000, 6000, 9000]
    assert sorted(start for coding, start in tried if coding == "sorted_difference") == list(range(0, 12_500, 1000))


# What is refused.


def test_values_that_cannot_be_stored_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"torch\.bool values cannot be stored; convert to one of float64"):
        encode_values(torch.ones(3, dtype=torch.bool))
    with pytest.raises(ConfigurationError, match="at most 17179869184 values"):
        encode_values(torch.ones(1).expand((1 << 34) + 1))
    with pytest.raises(ConfigurationError, match=r"3 of torch\.float32; received 4 of torch\.float32"):
        encode_values(torch.ones(3), torch.ones(4))
    with pytest.raises(ConfigurationError, match=r"received 3 of torch\.float64"):
        encode_values(torch.ones(3), torch.ones(3).double())


def test_a_reference_that_is_needed_and_missing_or_wrong_is_refused() -> None:
    base, values = tuned(400)
    encoded = encode_values(values, base)
    with pytest.raises(DeltaStateError, match=r"'sorted_difference' .* pass the base"):
        decoded(encoded, values)
    with pytest.raises(BaseMismatchError, match=r"received 399 of torch\.float32"):
        decoded(encoded, values, base[1:])
    with pytest.raises(BaseMismatchError, match=r"received 400 of torch\.float64"):
        decoded(encoded, values, base.double())
    unneeded = decoded(encode_values(values), values, base[1:])
    assert same(unneeded, values)


@pytest.mark.parametrize(
    ("coding", "count", "dtype", "message"),
    [
        ("zip", 1, torch.float32, "'zip', which is none of raw, shuffle"),
        ("raw", -1, torch.float32, "no payload of -1 values"),
        ("raw", (1 << 34) + 1, torch.int8, "no payload of 17179869185 values"),
        ("raw", 1, torch.bool, r"no payload of 1 values of torch\.bool"),
        ("raw", 2, torch.int16, "have 4 bytes, and 3 are stored"),
        ("shuffle", 0, torch.int16, "3 bytes follow the last of 0 frames"),
        ("shuffle", 2, torch.int16, "cut off in frame 0 of"),
        ("shuffle", 1 << 34, torch.float64, "cut off in frame 0 of"),
    ],
)
def test_impossible_claims_are_refused(coding: str, count: int, dtype: torch.dtype, message: str) -> None:
    with pytest.raises(DeltaFormatError, match=message):
        decode_values(b"abc", coding=coding, dtype=dtype, count=count)


@cache
def small_payload(coding: str) -> tuple[EncodedValues, Tensor, Tensor]:
    base, values = tuned(300)
    return forced(coding, values, base), values, base


@pytest.mark.parametrize("coding", VALUE_CODINGS[1:])
def test_every_truncation_is_refused(coding: str) -> None:
    encoded, values, base = small_payload(coding)
    for length in range(len(encoded.data)):
        with pytest.raises(DeltaFormatError):
            decoded(EncodedValues(encoded.data[:length], coding), values, base)


@pytest.mark.parametrize("coding", VALUE_CODINGS[1:])
def test_every_flipped_bit_is_refused_or_gives_other_values_of_the_same_size(coding: str) -> None:
    encoded, values, base = small_payload(coding)
    refused = 0
    for bit in range(8 * len(encoded.data)):
        data = bytearray(encoded.data)
        data[bit // 8] ^= 1 << bit % 8
        try:
            found = decoded(EncodedValues(bytes(data), coding), values, base)
        except DeltaFormatError:
            refused += 1
        else:
            assert found.shape == values.shape
    assert refused > 100


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_payloads_never_crash(data: st.DataObject) -> None:
    encoded, values, base = small_payload(data.draw(st.sampled_from(VALUE_CODINGS[1:])))
    payload = bytearray(encoded.data)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(payload)))
        payload[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    try:
        found = decoded(EncodedValues(bytes(payload), encoded.coding), values, base)
    except DeltaFormatError:
        return
    assert (found.shape, found.dtype) == (values.shape, values.dtype)


def test_working_memory_does_not_grow_with_the_values() -> None:
    peaks = []
    for blocks in (2, 12):
        base, values = tuned(blocks << 18, torch.float64)
        encoded = encode_values(values, base)
        tracemalloc.start()
        found = decoded(encoded, values, base)  # torch's own allocation, the result, is not traced
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert same(found, values)
        peaks.append(peak)
    assert peaks[1] < peaks[0] + (1 << 16)
    assert max(peaks) < 20 << 20


def test_no_values_have_no_frames() -> None:
    for coding in VALUE_CODINGS:
        found = decode_values(b"", coding=coding, dtype=torch.float16, count=0, reference=torch.empty(0).half())
        assert found.shape == (0,)
    for coding in VALUE_CODINGS[1:]:
        with pytest.raises(DeltaFormatError, match="20 bytes follow the last of 0 frames"):
            decode_values(
                with_length(frame(b"")), coding=coding, dtype=torch.int8, count=0, reference=torch.empty(0).char()
            )


def test_a_big_endian_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    base, values = tuned(10)
    encoded = encode_values(values, base)
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(DeltaFormatError, match="little-endian"):
        encode_values(values)
    with pytest.raises(DeltaFormatError, match="little-endian"):
        decoded(encoded, values, base)


# The lossy form.


def test_rounded_values_code_small_and_smaller_against_the_rounded_base() -> None:
    base, values = tuned(200_000)
    rounded = round_to_16_bits(values)
    plain = encode_values(rounded, base)
    assert plain.coding == "shuffle" and 8 * len(plain.data) / values.numel() < 12
    assert same(decoded(plain, values), rounded)
    narrow, narrow_base = rounded.bfloat16(), round_to_16_bits(base).bfloat16()
    near = encode_values(narrow, narrow_base)
    assert 8 * len(near.data) / values.numel() < 3
    assert same(decoded(near, narrow, narrow_base).float(), rounded)
