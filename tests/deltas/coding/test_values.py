import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deltas import reference_values as reference
from deltas.reference_values import frame, raw_block, run_block, skippable_frame, with_length
from deltas.tiny_values import decoded, forced, numbers, random_bits, same, tuned
from supermask.deltas.coding import VALUE_CODINGS, EncodedValues, decode_values, encode_values, needs_reference
from supermask.deltas.coding import values as value_coding
from supermask.deltas.coding.values import _fold, _magnitude_order, _shuffle, _unfold, _unshuffle_
from supermask.deltas.tensor_bytes import STORED_DTYPES, as_bytes, dtype_name, from_bytes
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError, DeltaStateError

DTYPES = dict(STORED_DTYPES)


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


# Values as whole numbers.

SIZES = (1, 2, 4, 8)


def words(size: int, numbers: list[int]) -> np.ndarray:
    return np.array([number % 256**size for number in numbers], dtype=f"<u{size}")


@pytest.mark.parametrize("size", SIZES)
def test_folding_takes_the_sign_into_the_lowest_bit(size: int) -> None:
    top = 256**size // 2
    numbers = [0, -1, 1, -2, 2, top - 1, -top, -top + 1]
    expected = [0, 1, 2, 3, 4, 2 * top - 2, 2 * top - 1, 2 * top - 3]
    assert _fold(words(size, numbers)).tolist() == expected
    assert _unfold(words(size, expected)).tolist() == words(size, numbers).tolist()
    assert _fold(words(size, numbers)).dtype == _unfold(words(size, numbers)).dtype == words(size, []).dtype


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SIZES), st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_folding_and_shuffling_have_inverses(size: int, numbers: list[int]) -> None:
    given_ = words(size, numbers)
    assert _unfold(_fold(given_)).tolist() == given_.tolist() == _fold(_unfold(given_)).tolist()
    assert _shuffle(given_).tobytes() == reference.planes(given_.tolist(), size)
    found = np.empty_like(given_)
    _unshuffle_(_shuffle(given_).tobytes(), found)
    assert found.tolist() == given_.tolist()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SIZES), st.lists(st.integers(0, 2**64 - 1), max_size=50), st.integers(1, 8))
def test_order_is_by_magnitude_and_then_by_place(size: int, numbers: list[int], repeats: int) -> None:
    old = words(size, numbers * repeats)
    assert _magnitude_order(old).tolist() == reference.order(old.tolist(), 8 * size)


# Round trips and the reference.


@settings(max_examples=300, deadline=None)
@given(value_pairs(), st.booleans(), st.sampled_from([1, 3, 16, 1 << 18]))
def test_all_bits_of_all_dtypes_come_back(pair: tuple[Tensor, Tensor], with_base: bool, block: int) -> None:
    values, base = pair
    old = base if with_base else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value_coding, "_BLOCK", block)
        encoded = encode_values(values, old)
        assert same(decoded(encoded, values, old), values)
    assert len(encoded.data) <= values.numel() * values.element_size()
    assert with_base or not needs_reference(encoded.coding)
    found = reference.decode(
        encoded.data, dtype_name(values.dtype), values.numel(), encoded.coding, numbers(base), block=block
    )
    assert found == numbers(values)


@settings(max_examples=200, deadline=None)
@given(value_pairs(), st.sampled_from(VALUE_CODINGS), st.sampled_from([1, 5, 1 << 18]))
def test_payloads_of_another_writer_are_read(pair: tuple[Tensor, Tensor], coding: str, block: int) -> None:
    values, base = pair
    payload = reference.encode(numbers(values), dtype_name(values.dtype), coding, numbers(base), block=block)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value_coding, "_BLOCK", block)
        assert same(decoded(EncodedValues(payload, coding), values, base), values)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("coding", VALUE_CODINGS[1:])
def test_several_blocks_of_real_size_that_a_coding_does_not_suit(name: str, coding: str) -> None:
    count, dtype = 2 * (1 << 18) + 77, DTYPES[name]
    values, base = random_bits(count, dtype, 1), random_bits(count, dtype, 2)
    values[100_000:400_000] = base[100_000:400_000]
    assert same(decoded(forced(coding, values, base), values, base), values)
    assert encode_values(values, base).coding == "sorted_difference"


def test_the_reference_agrees_on_blocks_of_real_size() -> None:
    base, values = tuned((1 << 18) + 5, torch.bfloat16)
    encoded = encode_values(values, base)
    found = reference.decode(encoded.data, "bfloat16", values.numel(), encoded.coding, numbers(base))
    assert (encoded.coding, found) == ("sorted_difference", numbers(values))


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3)])
def test_any_shape_is_flattened(name: str, shape: tuple[int, ...]) -> None:
    values = torch.ones(shape).to(DTYPES[name])
    encoded = encode_values(values, values)
    assert same(decoded(encoded, values, values), values)
    assert values.numel() or encoded == EncodedValues(data=b"", coding="raw")


def test_strides_and_parameters_make_no_difference_and_are_left_alone() -> None:
    base, values = (tensor.reshape(40, 50) for tensor in tuned(2000))
    turned, before = values.t().contiguous(), base.clone()
    encoded = encode_values(torch.nn.Parameter(values).t(), base.t())
    assert encoded == encode_values(turned, base.t().contiguous())
    decoded(encoded, turned, torch.nn.Parameter(base).t()).zero_()
    assert same(decoded(encoded, turned, base.t()), turned) and same(base, before)


def test_special_values_are_exact() -> None:
    patterns = [0x7FC00001, 0x7F800001, 0xFFC12345, 0x80000000, 0x7F800000, 0xFF800000, 1, 0x80000001, 0xFFFFFFFF]
    values = from_bytes(b"".join(p.to_bytes(4, "little") for p in patterns), torch.float32, (9,)).repeat(100)
    for old in (None, values, torch.zeros(900), -values):
        assert same(decoded(encode_values(values, old), values, old), values)


def test_threads_decode_at_once() -> None:
    base, values = tuned(600_000)
    encoded = encode_values(values, base)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: decoded(encoded, values, base), range(8)))
    assert all(same(each, values) for each in found)


# Sizes and choices.


@pytest.mark.parametrize(
    ("dtype", "share", "most"),
    [
        (torch.float32, 1.0, 18.8),
        (torch.float32, 0.02, 0.9),
        (torch.bfloat16, 1.0, 2.75),
        (torch.float16, 1.0, 5.2),
        (torch.float64, 1.0, 23.2),
    ],
)
def test_what_moved_little_costs_little(dtype: torch.dtype, share: float, most: float) -> None:
    base, values = tuned(200_000, dtype, share=share)
    encoded = encode_values(values, base)
    assert encoded.coding == "sorted_difference"
    assert 8 * len(encoded.data) / values.numel() < most


def test_a_base_that_does_not_help_is_left_out() -> None:
    _, values = tuned(200_000)
    encoded = encode_values(values)
    assert encoded.coding == "shuffle"
    assert 8 * len(encoded.data) / values.numel() < 27.5
    assert encode_values(values, random_bits(200_000, torch.float32)) == encoded


@pytest.mark.parametrize("count", [77 * 384, 200_000])
def test_low_bits_that_rounding_left_empty_cost_nothing(count: int) -> None:
    values = torch.randn(count, generator=torch.Generator().manual_seed(0)) / 20
    rounded = values.bfloat16().float()
    assert len(encode_values(rounded).data) < 0.45 * len(encode_values(values).data)
    assert len(encode_values(rounded).data) < 1.01 * len(encode_values(values.bfloat16()).data) + 100


@pytest.mark.parametrize("name", DTYPES)
def test_what_does_not_shrink_is_stored_raw_and_what_is_equal_costs_nothing(name: str) -> None:
    values = random_bits(50_000, DTYPES[name])
    encoded = encode_values(values, random_bits(50_000, DTYPES[name], 9))
    assert encoded == EncodedValues(data=bytes(as_bytes(values)), coding="raw")
    assert len(encode_values(values, values).data) < 200


def test_the_coding_of_a_large_tensor_is_judged_by_blocks_all_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_coding, "_BLOCK", 1000)
    base, values = tuned(12_500)
    values[:1000] = random_bits(1000, torch.float32)  # the first block alone would say otherwise
    tried: list[tuple[bool, int]] = []
    make = value_coding._frame

    def spy(words: object, old: object, start: int) -> bytes:
        tried.append((old is None, start))
        return make(words, old, start)  # type: ignore[arg-type]

    monkeypatch.setattr(value_coding, "_frame", spy)
    encoded = encode_values(values, base)
    assert encoded.coding == "sorted_difference"
    assert same(decoded(encoded, values, base), values)
    assert sorted(start for is_alone, start in tried if is_alone) == [0, 3000, 6000, 9000]
    assert sorted(start for is_alone, start in tried if not is_alone) == list(range(0, 12_500, 1000))


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
    assert same(decoded(encode_values(values), values, base[1:]), values)  # not looked at


@pytest.mark.parametrize(
    ("coding", "count", "dtype", "message"),
    [
        ("zip", 1, torch.float32, "'zip', which is none of raw, shuffle"),
        ("difference", 1, torch.float32, "'difference', which is none of raw, shuffle"),
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


def test_no_values_have_no_frames() -> None:
    for coding in VALUE_CODINGS:
        found = decode_values(b"", coding=coding, dtype=torch.float16, count=0, reference=torch.empty(0).half())
        assert found.shape == (0,)
        with pytest.raises(DeltaFormatError, match=r"20 bytes follow the last of 0 frames|and 20 are stored"):
            decode_values(
                with_length(frame(b"")), coding=coding, dtype=torch.int8, count=0, reference=torch.empty(0).char()
            )


@cache
def small_payload(coding: str) -> tuple[EncodedValues, Tensor, Tensor]:
    base, values = tuned(300)
    return forced(coding, values, base), values, base


@pytest.mark.parametrize("coding", VALUE_CODINGS[1:])
def test_every_truncation_and_every_flipped_bit(coding: str) -> None:
    encoded, values, base = small_payload(coding)
    for length in range(len(encoded.data)):
        with pytest.raises(DeltaFormatError):
            decoded(EncodedValues(encoded.data[:length], coding), values, base)
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


def test_a_big_endian_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    base, values = tuned(10)
    encoded = encode_values(values, base)
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(DeltaFormatError, match="little-endian"):
        encode_values(values)
    with pytest.raises(DeltaFormatError, match="little-endian"):
        decoded(encoded, values, base)


# Frames.

CONTENT = bytes(range(16))
HOSTILE = {
    "no length": (b"", "cut off"),
    "length alone": (with_length(b""), "no zstd frame"),
    "length beyond the end": (b"\xff\xff\xff\xff" + frame(CONTENT), "cut off"),
    "length too short": ((20).to_bytes(4, "little") + frame(CONTENT), "12 bytes follow"),
    "header cut off": (with_length(frame(CONTENT)[:9]), "no zstd frame"),
    "not zstd": (with_length(CONTENT), "no zstd frame"),
    "magic missing": (with_length(frame(CONTENT)[4:]), "no zstd frame"),
    "claims 2^40 bytes": (with_length(frame(CONTENT, stated=1 << 40)), "states a size of 1099511627776"),
    "claims 2^64-1 bytes": (with_length(frame(CONTENT, stated=2**64 - 1)), "states a size of"),
    "claims too little": (with_length(frame(CONTENT[:8])), "states a size of 8"),
    "no size": (with_length(zstandard.ZstdCompressor(write_content_size=False).compress(CONTENT)), "must state a size"),
    "checksum": (with_length(zstandard.ZstdCompressor(write_checksum=True).compress(CONTENT)), "checksum True"),
    "dictionary": (with_length(frame(CONTENT, dictionary=7)), "dictionary 7"),
    "window of 1 GiB": (with_length(frame(CONTENT, window=1 << 30)), "window of 1073741824"),
    "skippable frame": (with_length(skippable_frame(CONTENT)), "no zstd frame"),
    "frame after skippable frame": (with_length(skippable_frame(b"") + frame(CONTENT)), "no zstd frame"),
    "frame before skippable frame": (with_length(frame(CONTENT) + skippable_frame(b"")), "unused data"),
    "two frames in one": (with_length(frame(CONTENT) + frame(b"")), "unused data"),
    "two frames": (with_length(frame(CONTENT)) * 2, "bytes follow the last of 1 frames"),
    "trailing byte": (with_length(frame(CONTENT)) + b"\0", "1 bytes follow"),
    "trailing byte in the frame": (with_length(frame(CONTENT) + b"\0"), "unused data"),
    "gives less than it states": (with_length(frame(CONTENT[:15], stated=16)), "damaged|instead of"),
    "gives more than it states": (with_length(frame(CONTENT + b"!", stated=16)), "damaged"),
    "never ends": (with_length(frame(b"", stated=16, blocks=[raw_block(CONTENT, last=False)])), "damaged"),
    "a bomb of runs": (
        with_length(frame(b"", stated=16, blocks=[run_block(b"x", 1 << 17, last=False)] * 5000)),
        "damaged",
    ),
    "a million empty blocks": (
        with_length(frame(b"", stated=16, blocks=[raw_block(b"", last=False)] * 1_000_000)),
        "damaged",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_frames_are_refused(name: str) -> None:
    payload, message = HOSTILE[name]
    tracemalloc.start()
    with pytest.raises(DeltaFormatError, match=message):
        decode_values(payload, coding="shuffle", dtype=torch.uint8, count=16)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 17


def test_a_window_within_the_bound_and_empty_blocks_are_fine() -> None:
    for data in (
        frame(CONTENT, window=1 << 21),
        frame(b"", stated=16, blocks=[raw_block(b"", last=False), raw_block(CONTENT, last=True)]),
        zstandard.ZstdCompressor(level=19).compress(CONTENT),
    ):
        found = decode_values(memoryview(with_length(data)), coding="shuffle", dtype=torch.uint8, count=16)
        assert bytes(found.tolist()) == CONTENT


def test_all_headers_are_checked_before_anything_is_allocated() -> None:
    full = with_length(frame(b"", stated=2 << 20, blocks=[run_block(b"\0", 1 << 17, last=False)] * 16))
    other = with_length(frame(b"", stated=1 << 40))
    tracemalloc.start()
    for payload, message in ((full, "cut off in frame 1 of 65536"), (full + other, "frame 1 of values must state")):
        with pytest.raises(DeltaFormatError, match=message):
            decode_values(payload, coding="shuffle", dtype=torch.float64, count=1 << 34)  # 128 GiB
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20
