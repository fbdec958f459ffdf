from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from supermask.deltas import positions as module
from supermask.deltas.positions import (
    MaskBits,
    MaskPositions,
    compact_places,
    keep_from_places,
    places_in,
    places_nbytes,
    position_dtype,
    positions_from_keep,
    positions_from_places,
)
from supermask.errors import ConfigurationError


def slow_positions(keep: Tensor) -> tuple[list[int], bool]:
    """The rarer kind by a loop over Python booleans; dropped weights if both are as many."""
    kept = keep.reshape(-1).tolist()
    dropped = 2 * kept.count(False) <= len(kept)
    return [index for index, value in enumerate(kept) if value is not dropped], dropped


@given(st.lists(st.integers(0, 40), min_size=0, max_size=3), st.floats(0, 1), st.integers(0, 2**32), st.booleans())
def test_every_form_holds_the_same_mask(shape: list[int], sparsity: float, seed: int, transposed: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(tuple(shape), generator=generator) >= sparsity
    if transposed and keep.dim() > 1:
        keep = keep.transpose(0, 1)
    mask = positions_from_keep(keep)
    assert (mask.positions.tolist(), mask.dropped) == slow_positions(keep)
    small = compact_places(mask)
    assert small.nbytes == min(4 * mask.count, 8 * -(-keep.numel() // 64)) == places_nbytes(mask.count, keep.numel())
    for places in (mask, small, places_in(small, np.empty), positions_from_places(small)):
        assert torch.equal(keep_from_places(places), keep)
        assert (places.shape, places.weights, places.count) == (tuple(keep.shape), keep.numel(), mask.count)
        assert places.zeros == keep.numel() - int(keep.count_nonzero())


def test_masks_longer_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 7)
    keep = torch.arange(100) % 3 != 1
    assert positions_from_keep(keep).positions.tolist() == list(range(1, 100, 3))
    assert positions_from_keep(~keep).positions.tolist() == list(range(1, 100, 3))


def test_a_tie_names_the_dropped_and_an_empty_mask_none() -> None:
    assert positions_from_keep(torch.tensor([True, False])).positions.tolist() == [1]
    assert positions_from_keep(torch.tensor([True, False])).dropped
    assert positions_from_keep(torch.ones(0, 3, dtype=torch.bool)).zeros == 0
    assert positions_from_keep(torch.zeros(3, dtype=torch.bool)).zeros == 3


def test_positions_are_32_bits_wide_up_to_2_31_weights() -> None:
    assert position_dtype(2**31 - 1) is np.int32
    assert position_dtype(2**31) is np.int64
    far = MaskPositions(np.array([2**31 + 5]), dropped=True, shape=(2**16, 2**16))
    assert far.zeros == 1
    assert compact_places(far) is far
    with pytest.raises(ConfigurationError, match="of int64, received 1 dimensions of int32"):
        MaskPositions(np.array([5], dtype=np.int32), dropped=True, shape=(2**16, 2**16))


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([3, 2], "must ascend"),
        ([2, 2], "must ascend"),
        ([-1, 2], "must ascend, from 0"),
        ([2, 8], "less than 8"),
        ([0, 1, 2, 3, 4], "5 of 8 weights are not the rarer kind"),
        ([[1], [2]], "2 dimensions"),
        ([1.0], "received 1 dimensions of float64"),
    ],
)
def test_what_loops_could_not_be_trusted_with_is_refused(positions: Any, message: str) -> None:
    array = np.array(positions)
    with pytest.raises(ConfigurationError, match=message):
        MaskPositions(array.astype(np.int32) if array.dtype.kind == "i" else array, dropped=True, shape=(2, 4))


def test_a_mask_of_numbers_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"boolean.*received torch\.float32"):
        positions_from_keep(torch.ones(3))


def test_positions_are_read_only() -> None:
    mask = MaskPositions(np.arange(0, 12, 3, dtype=np.int32)[::2], dropped=True, shape=(12,))
    assert mask.positions.tolist() == [0, 6]
    with pytest.raises(ValueError, match="read-only"):
        mask.positions[0] = 100
    bits = compact_places(positions_from_keep(torch.arange(128) % 2 == 0))
    assert isinstance(bits, MaskBits)
    with pytest.raises(ValueError, match="read-only"):
        bits.words[0] = 0


def test_masks_travel_between_processes() -> None:
    keep = torch.arange(256) % 5 != 0
    for places in (positions_from_keep(keep), compact_places(positions_from_keep(keep))):
        assert torch.equal(keep_from_places(pickle.loads(pickle.dumps(places))), keep)
