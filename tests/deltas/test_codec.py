from __future__ import annotations

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deltas import reference_codec
from supermask.deltas import codec
from supermask.deltas.codec import decode_keep_mask, encode_keep_mask, escape_limit, gap_frequencies, is_storable_shape
from supermask.errors import ConfigurationError, DeltaFormatError

ARRANGEMENTS = (
    "random",
    "front",
    "back",
    "alternating",
    "one row",
    "one column",
    "last only",
    "first and last",
    "runs",
)


def mask(arrangement: str, shape: tuple[int, int], sparsity: float, seed: int = 0) -> Tensor:
    weights = shape[0] * shape[1]
    zeros = round(sparsity * weights)
    keep = torch.ones(weights, dtype=torch.bool)
    if arrangement == "random":
        keep[torch.randperm(weights, generator=torch.Generator().manual_seed(seed))[:zeros]] = False
    elif arrangement == "front":
        keep[:zeros] = False
    elif arrangement == "back":
        keep[weights - zeros :] = False
    elif arrangement == "alternating":
        keep[:: max(1, weights // max(zeros, 1))] = False
    elif arrangement == "one row":
        keep.reshape(shape)[shape[0] // 2] = False
    elif arrangement == "one column":
        keep.reshape(shape)[:, shape[1] // 2] = False
    elif arrangement == "last only":
        keep[-1:] = False
    elif arrangement == "first and last":
        keep[:1] = keep[-1:] = False
    else:
        keep[(torch.arange(weights) // 37) % max(2, round(1 / max(sparsity, 1e-9))) == 0] = False
    return keep.reshape(shape)


def entropy(keep: Tensor) -> float:
    weights, zeros = keep.numel(), int((~keep).sum())
    return -sum(count * math.log2(count / weights) for count in (zeros, weights - zeros) if count)


def zeros_of(keep: Tensor) -> int:
    return int((~keep).sum())


def test_the_example_of_the_format() -> None:
    keep = torch.tensor([True, False, False, True])
    payload = bytes.fromhex("00000000 f8ff7f00")
    assert encode_keep_mask(keep) == payload
    assert torch.equal(decode_keep_mask(payload, (4,), 2), keep)


@pytest.mark.parametrize(
    ("weights", "rarer"),
    [(2, 1), (4, 2), (1000, 7), (1000, 500), (5000, 1), (10**7 + 1, 123456), (codec.MAX_WEIGHTS, 1)],
)
def test_the_integer_model_is_the_geometric_law_rounded(weights: int, rarer: int) -> None:
    frequencies = gap_frequencies(weights, rarer)
    limit, shares = reference_codec.table(weights, rarer)
    assert frequencies == [share for _, share in shares]
    assert (len(frequencies), sum(frequencies), limit) == (limit + 1, 2**24, escape_limit(weights, rarer))
    # No symbol falls short of its ideal frequency by more than the format promises: that bounds the cost of any mask.
    other = Fraction(weights - rarer, weights)
    worst = 1 - Fraction(limit + 2, 2**24)
    for gap in (0, 1, limit // 2, limit - 1):
        assert frequencies[gap] >= 1
        assert frequencies[gap] >= worst * 2**24 * other**gap * (1 - other)
    assert frequencies[limit] >= worst * 2**24 * other**limit


@settings(max_examples=150, deadline=None)
@given(st.lists(st.booleans(), max_size=400), st.integers(0, 5))
def test_an_independent_coder_agrees(bits: list[bool], stretch: int) -> None:
    keep = [bit or index % (stretch + 1) != 0 for index, bit in enumerate(bits)]
    zeros = keep.count(False)
    payload = encode_keep_mask(torch.tensor(keep, dtype=torch.bool))
    assert payload == reference_codec.encode(keep)
    assert reference_codec.decode(payload, len(keep), zeros) == keep
    assert decode_keep_mask(payload, (len(keep),), zeros).tolist() == keep


@pytest.mark.parametrize("places", [[4999], [0, 4000], [1023, 2047, 4999], [1024, 1025, 3500]])
def test_an_independent_coder_agrees_on_escapes(places: list[int]) -> None:
    keep = [index not in places for index in range(5000)]
    payload = encode_keep_mask(torch.tensor(keep))
    assert payload == reference_codec.encode(keep)
    assert int.from_bytes(payload[:4], "little") > 0
    assert decode_keep_mask(payload, (5000,), len(places)).tolist() == keep


@pytest.mark.parametrize("sparsity", [0.0, 0.0001, 0.001, 0.01, 0.13, 0.4, 0.5, 0.6, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_every_mask_comes_back_within_its_entropy(arrangement: str, sparsity: float) -> None:
    keep = mask(arrangement, (300, 311), sparsity)
    payload = encode_keep_mask(keep)
    assert torch.equal(decode_keep_mask(payload, keep.shape, zeros_of(keep)), keep)
    assert 8 * len(payload) <= 1.001 * entropy(keep) + 128


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(ARRANGEMENTS),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
def test_every_shape_and_sparsity_round_trips(
    arrangement: str, shape: tuple[int, int], sparsity: float, seed: int
) -> None:
    keep = mask(arrangement, shape, sparsity, seed)
    payload = encode_keep_mask(keep)
    assert torch.equal(decode_keep_mask(payload, shape, zeros_of(keep)), keep)
    assert 8 * len(payload) <= 1.001 * entropy(keep) + 128


def test_the_entropy_bound_holds_for_a_real_size() -> None:
    for sparsity in (0.001, 0.01, 0.4):
        keep = mask("random", (1024, 1024), sparsity)
        assert 8 * len(encode_keep_mask(keep)) <= 1.0002 * entropy(keep) + 128


@pytest.mark.parametrize("shape", [(0,), (3, 0), (), (1,), (5, 7)])
@pytest.mark.parametrize("kept", [True, False])
def test_masks_that_agree_throughout_cost_nothing(shape: tuple[int, ...], kept: bool) -> None:
    keep = torch.full(shape, kept)
    assert encode_keep_mask(keep) == b""
    assert torch.equal(decode_keep_mask(b"", shape, zeros_of(keep)), keep)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = [mask(arrangement, (40, 50), sparsity) for arrangement in ARRANGEMENTS for sparsity in (0.002, 0.3)]
    whole = [encode_keep_mask(keep) for keep in masks]
    for block in (1, 7, 1000):
        monkeypatch.setattr(codec, "_BLOCK", block)
        assert [encode_keep_mask(keep) for keep in masks[:: 4 if block == 1 else 1]] == whole[:: 4 if block == 1 else 1]
        for keep, payload in list(zip(masks, whole, strict=True))[:: 4 if block == 1 else 1]:
            assert torch.equal(decode_keep_mask(payload, keep.shape, zeros_of(keep)), keep)


def test_order_is_row_major_whatever_the_strides() -> None:
    keep = mask("random", (20, 30), 0.3)
    assert encode_keep_mask(keep.t()) == encode_keep_mask(keep.t().contiguous())


def test_what_is_no_mask_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"boolean, received torch\.uint8"):
        encode_keep_mask(torch.ones(3, dtype=torch.uint8))
    huge = torch.ones(1, dtype=torch.bool).expand(codec.MAX_WEIGHTS + 1)
    with pytest.raises(ConfigurationError, match=r"at most"):
        encode_keep_mask(huge)


@pytest.mark.parametrize(
    ("shape", "zeros"),
    [((4,), -1), ((4,), 5), ((-1,), 0), ((1 << 40,), 0), ((1 << 20, 1 << 20), 3), ((0, 1 << 60), 0)],
)
def test_impossible_shapes_and_counts_are_refused(shape: tuple[int, ...], zeros: int) -> None:
    with pytest.raises(DeltaFormatError, match=r"there is no keep mask"):
        decode_keep_mask(b"", shape, zeros)


def word(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "0 bytes cannot code"),
        (b"\0\0\0", "3 bytes cannot code"),
        (word(0) + b"\0", "5 bytes cannot code"),
        (word(1), "claims 1 escapes"),
        (word(2**32 - 1), "claims 4294967295 escapes"),
        (word(0, 5, 0), "ends in a zero word"),
        (word(0, 7, 7, 7, 7, 7, 7), "points behind its 4 weights"),
        (word(0, 7), "does not code"),
    ],
)
def test_hostile_payloads_are_refused(payload: bytes, message: str) -> None:
    with pytest.raises(DeltaFormatError, match=message):
        decode_keep_mask(payload, (4,), 2)


def test_bytes_for_a_mask_of_one_kind_are_refused() -> None:
    with pytest.raises(DeltaFormatError, match=r"4 bytes cannot code a keep mask of 9 weights with 9 zeros"):
        decode_keep_mask(word(0), (3, 3), 9)


@settings(max_examples=600, deadline=None)
@given(
    st.integers(2, 6000),
    st.floats(0, 1),
    st.integers(0, 9),
    st.lists(st.integers(0, 2**32 - 1), max_size=6),
    st.booleans(),
)
def test_any_payload_is_refused_or_is_the_only_one_of_its_mask(
    weights: int, share: float, escapes: int, words: list[int], small: bool
) -> None:
    zeros = min(3, weights) if small else round(share * weights)
    payload = word(escapes, *words)
    try:
        keep = decode_keep_mask(payload, (weights,), zeros)
    except DeltaFormatError:
        return
    assert zeros_of(keep) == zeros
    assert encode_keep_mask(keep) == payload


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_a_changed_payload_never_gives_the_same_mask(seed: int, data: st.DataObject) -> None:
    keep = mask("random", (30, 40), 0.05, seed)
    payload = bytearray(encode_keep_mask(keep))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_keep_mask(bytes(payload), keep.shape, zeros_of(keep))
    except DeltaFormatError:
        return
    assert zeros_of(found) == zeros_of(keep)
    assert not torch.equal(found, keep)


def test_memory_is_bounded_by_the_shape_and_not_by_the_payload() -> None:
    weights = 1 << 22
    hostile = [word(0, 1), word(weights // 32), word(0) + np.random.default_rng(0).bytes(4000)]
    tracemalloc.start()
    for payload in hostile:
        with pytest.raises(DeltaFormatError):
            decode_keep_mask(payload, (weights,), weights // 2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < weights + (48 << 20)


def test_storable_shapes() -> None:
    assert is_storable_shape((codec.MAX_WEIGHTS,))
    assert not is_storable_shape((codec.MAX_WEIGHTS + 1,))
    assert not is_storable_shape((3, -1))
