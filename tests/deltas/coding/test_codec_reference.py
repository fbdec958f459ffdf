"""The implementation against a reference that was written from docs/FORMAT.md alone."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deltas.coding import reference_masks
from deltas.coding.mask_cases import SHAPES, Case, any_case
from supermask.deltas.coding import codec, decode_mask, encode_mask, kernels, payload_needs_base
from supermask.deltas.coding.classes import as_matrix, base_bits
from supermask.deltas.keep_mask import MaskPositions
from supermask.errors import DeltaFormatError

SEEDS = st.integers(min_value=0, max_value=2**32)


def encoded(case: Case) -> bytes:
    dropped = ~case.keep_mask.numpy().reshape(-1)
    return codec._encode_modelled(dropped, as_matrix(case.shape), case.mask_model, base_bits(case.base_tensor))


def outcomes(payload: bytes, case: Case, zeros: int) -> tuple[list[bool] | None, list[bool] | None]:
    """What the implementation and the reference make of a payload; None where they refuse it."""
    ours = theirs = None
    with contextlib.suppress(DeltaFormatError):
        ours = decode_mask(payload, case.shape, zeros, case.base_tensor).keep.reshape(-1).tolist()
    with contextlib.suppress(reference_masks.RefusedError):
        theirs = reference_masks.decode(payload, case.shape, zeros, case.base)
    return ours, theirs


def damaged(payload: bytes, source: random.Random) -> bytes:
    data = bytearray(payload)
    for _ in range(source.choice((1, 1, 2, 5))):
        where = min(source.choice((source.randrange(12), source.randrange(len(data) + 1))), len(data))
        what = source.randrange(5)
        if what == 0:
            data[where : where + 1] = bytes(
                [source.choice((0, 1, 2, 3, 127, 128, 160, 161, 255, source.getrandbits(8)))]
            )
        elif what == 1:
            del data[where : where + source.choice((1, 4))]
        elif what == 2:
            data[where:where] = source.randbytes(source.choice((1, 4)))
        elif what == 3:
            data += source.randbytes(4)
        elif where < len(data):
            data[where] ^= 1 << source.randrange(8)
    return bytes(data)


def test_the_examples_of_the_format() -> None:
    assert reference_masks.encode_plain([True, False, False, True]).hex() == "0000000000f8ff7f00"
    assert encode_mask(MaskPositions.of(torch.tensor([True, False, False, True]))).hex() == "0000000000f8ff7f00"
    case = Case(
        (2, 2),
        [True, True, False, True],
        reference_masks.Base([0] * 4, "float32"),
        reference_masks.Model(offset=-3, columns=[0, 2]),
    )
    assert encoded(case).hex(" ") == "01 02 3d 01 20 fe 03 80 16 01 00 00 00"
    assert outcomes(encoded(case), case, 1) == (case.keep, case.keep)


@given(SEEDS)
@settings(max_examples=150)
def test_both_write_the_same_bytes_and_read_them_back(seed: int) -> None:
    case = any_case(seed)
    payload = reference_masks.encode(case.keep, case.shape, case.model, case.base)
    assert encoded(case) == payload
    assert payload_needs_base(payload) == case.model.based
    assert outcomes(payload, case, case.zeros) == (case.keep, case.keep)


@given(SEEDS)
@settings(max_examples=100)
def test_both_write_the_same_bytes_without_a_model(seed: int) -> None:
    source = random.Random(seed)
    weights, sparsity = source.choice((1, 2, 3, 50, 3000)), source.choice((0, 0.001, 0.1, 0.5, 0.9, 1))
    keep = [source.random() >= sparsity for _ in range(weights)]
    payload = reference_masks.encode_plain(keep)
    plain = encode_mask(MaskPositions.of(torch.tensor(keep)))
    assert plain == payload or (plain[0] == 1 and len(plain) < len(payload))
    case = Case((weights,), keep, reference_masks.Base([0] * weights, "float32"), reference_masks.Model())
    assert outcomes(payload, case, case.zeros) == (keep, keep)


@given(SEEDS)
@settings(max_examples=250)
def test_both_make_the_same_of_a_damaged_payload(seed: int) -> None:
    source, case = random.Random(seed), any_case(seed)
    payload = reference_masks.encode(case.keep, case.shape, case.model, case.base)
    if source.random() < 0.2:
        payload = reference_masks.encode_plain(case.keep)
    zeros = case.zeros + source.choice((0, 0, 0, 1, -1))
    ours, theirs = outcomes(damaged(payload, source), case, zeros)
    assert ours == theirs


@given(SEEDS)
@settings(max_examples=100)
def test_both_make_the_same_of_random_bytes(seed: int) -> None:
    source, case = random.Random(seed), any_case(seed)
    words = source.choice((0, 1, 2, 30))
    payload = bytes([source.randrange(3), source.choice((0, 3, 7, 0x17, 0x33, 0x30)), source.randrange(128)])
    payload += source.randbytes(source.randrange(16)) + source.randbytes(4 * words)
    ours, theirs = outcomes(payload, case, case.zeros)
    assert ours == theirs


@pytest.mark.slow
def test_both_make_the_same_of_many_payloads() -> None:
    for seed in range(20_000):
        source, case = random.Random(seed), any_case(seed)
        payload = encoded(case)
        assert payload == reference_masks.encode(case.keep, case.shape, case.model, case.base)
        ours, theirs = outcomes(damaged(payload, source), case, case.zeros)
        assert ours == theirs, seed


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if 0 not in shape])
def test_every_shape_with_every_mask_of_one_zero(shape: tuple[int, ...]) -> None:
    weights = int(np.prod(shape))
    base = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for place in range(weights):
        keep = torch.ones(weights, dtype=torch.bool)
        keep[place] = False
        mask = MaskPositions.of(keep.reshape(shape))
        back = decode_mask(encode_mask(mask, base), shape, mask.zeros, base)
        assert torch.equal(back.keep, keep.reshape(shape))


@given(SEEDS)
@settings(max_examples=40)
def test_the_loops_stay_within_their_arrays_whatever_the_payload(seed: int) -> None:
    # As plain Python they are checked; compiled they are not.
    source, case = random.Random(seed), any_case(seed)
    payload = damaged(encoded(case), source)
    compiled = outcomes(payload, case, case.zeros)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("take_runs", "sort_weights", "point_at"):
            patch.setattr(kernels, name, getattr(kernels, f"_{name}"))
        assert outcomes(payload, case, case.zeros) == compiled
