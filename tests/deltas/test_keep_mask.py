import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deltas.any_changes import random_bits
from deltas.reference_format import raw
from supermask.deltas import mask_kernels
from supermask.deltas.keep_mask import KeepMask, MaskPositions, Overwritten, position_dtype
from supermask.deltas.tensor_bytes import as_bits
from supermask.errors import ConfigurationError

DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.int64, torch.bool]
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda tensor: tensor.clone(),
    "transposed": lambda tensor: tensor.t().contiguous().t(),
    "every other column": lambda tensor: tensor.repeat_interleave(2, dim=1)[:, ::2],
}


@given(st.lists(st.integers(0, 40), min_size=0, max_size=3), st.floats(0, 1), st.integers(0, 2**32), st.booleans())
def test_a_mask_is_what_it_was_made_of_in_at_most_a_bit_a_weight(
    shape: list[int], sparsity: float, seed: int, transposed: bool
) -> None:
    keep = torch.rand(tuple(shape), generator=torch.Generator().manual_seed(seed)) >= sparsity
    if transposed and keep.dim() > 1:
        keep = keep.transpose(0, 1)
    kept = keep.reshape(-1).tolist()
    zeros = kept.count(False)
    dropped = 2 * zeros <= len(kept)  # a tie names the dropped
    positions = MaskPositions.of(keep)
    assert positions.positions.tolist() == [index for index, value in enumerate(kept) if value is not dropped]
    assert positions.dropped is dropped
    mask = KeepMask(positions)
    for one in (positions, mask, KeepMask(keep), mask.positions, pickle.loads(pickle.dumps(mask))):
        assert torch.equal(one.keep, keep)
        assert (one.shape, one.zeros) == (tuple(keep.shape), zeros)
    assert mask.dropped.nbytes == min(4 * zeros if dropped else len(kept) + 8, 8 * -(-len(kept) // 64))
    assert mask.positions.positions.tolist() == positions.positions.tolist()


def test_positions_are_32_bits_wide_up_to_2_31_weights() -> None:
    assert position_dtype(2**31 - 1) is np.int32
    assert position_dtype(2**31) is np.int64
    far = KeepMask(MaskPositions(np.array([2**31 + 5]), dropped=True, shape=(2**16, 2**16)))
    assert (far.zeros, far.dropped.nbytes, far.positions.positions.tolist()) == (1, 8, [2**31 + 5])


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
    with pytest.raises(ConfigurationError, match="of int64, received 1 dimensions of int32"):
        MaskPositions(np.array([5], dtype=np.int32), dropped=True, shape=(2**16, 2**16))
    for make in (KeepMask, MaskPositions.of):
        with pytest.raises(ConfigurationError, match=r"boolean.*received torch\.float32"):
            make(torch.ones(3))


def test_nothing_written_later_reaches_a_mask() -> None:
    for every in (2, 40):
        keep = torch.arange(640) % every != 0
        mask, before = KeepMask(keep), keep.clone()
        keep.fill_(False)
        mask.keep.fill_(False)
        assert torch.equal(mask.keep, before)
        with pytest.raises(ValueError, match="read-only"):
            mask.dropped[0] = 0
    positions = MaskPositions(np.arange(0, 12, 3, dtype=np.int32)[::2], dropped=True, shape=(12,))
    assert positions.positions.tolist() == [0, 6]
    with pytest.raises(ValueError, match="read-only"):
        positions.positions[0] = 100


# What a mask, or a whole tensor, overwrites.


def masks(shape: tuple[int, ...] = (16, 24)) -> dict[str, KeepMask | None]:
    generator = torch.Generator().manual_seed(1)
    drawn = {s: KeepMask(torch.rand(shape, generator=generator) >= s) for s in (0.0, 0.02, 0.3, 0.6, 0.99, 1.0)}
    return {"whole": None, **{f"{sparsity}": mask for sparsity, mask in drawn.items()}}


def overwrites(original: Tensor, tensor: Tensor, mask: KeepMask | None) -> Overwritten:
    """Goes through everything that a record does, each step twice where that must make no difference."""
    whole = random_bits(tuple(original.shape), original.dtype, 2)
    expected = raw(whole if mask is None else mask.apply(original))
    bits, strides = as_bits(tensor), tensor.stride()
    record = Overwritten(bits, mask)
    record.take_off_(bits)  # nothing is on yet
    assert raw(tensor) == raw(original)
    record.put_on_(bits, as_bits(whole).to(bits.device) if mask is None else None)
    assert raw(tensor) == expected
    replaced = bits.clone()
    for undone in (True, False, True):
        for _ in range(2):
            record.take_off_(bits) if undone else record.put_on_(bits, replaced)
            assert raw(tensor) == (raw(original) if undone else expected)
    assert tensor.stride() == strides
    return record


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_change_is_put_on_taken_off_and_put_on_again(dtype: torch.dtype, layout: str, device: str) -> None:
    original = random_bits((16, 24), dtype, 0)
    for mask in masks().values():
        tensor = LAYOUTS[layout](original.to(device))
        record = overwrites(original, tensor, mask)
        record.put_on_(as_bits(tensor), as_bits(tensor))
        moved = tensor.cpu()  # by now it may stand on another device
        record.take_off_(as_bits(moved))
        assert raw(moved) == raw(original)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (64,), (3, 0, 2), (2, 3, 5), (129,)])
def test_tensors_of_any_shape(shape: tuple[int, ...]) -> None:
    original = random_bits(shape, torch.float16, 0)
    for mask in masks(shape).values():
        overwrites(original, original.clone(), mask)
        if len(shape) == 3:
            overwrites(original, original.permute(2, 0, 1).contiguous().permute(1, 2, 0), mask)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("layout", "sparsity", "where", "method"),
    [
        ("contiguous", "0.02", mask_kernels, "move_positions"),
        ("contiguous", "0.3", mask_kernels, "move_bits"),
        ("transposed", "0.3", Tensor, "masked_fill_"),
        ("contiguous", "whole", Tensor, "copy_"),
    ],
)
def test_what_fails_before_or_after_a_write_is_undone(
    monkeypatch: pytest.MonkeyPatch, layout: str, sparsity: str, where: Any, method: str, late: bool
) -> None:
    original = random_bits((16, 24), torch.float32, 0)
    tensor, write = LAYOUTS[layout](original), getattr(where, method)
    bits = as_bits(tensor)
    record = Overwritten(bits, masks()[sparsity])

    def interrupted(*arguments: object) -> None:
        if late:
            write(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(where, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            record.put_on_(bits, torch.zeros_like(bits))
    assert (raw(tensor) == raw(original)) is not late
    record.take_off_(bits)
    assert raw(tensor) == raw(original)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_graph_from_before_does_not_go_backward_through_changed_weights(layout: str) -> None:
    for mask in masks().values():
        weight = LAYOUTS[layout](random_bits((16, 24), torch.float32, 0)).requires_grad_()
        record = Overwritten(as_bits(weight), mask)
        for put_on in (True, False):
            loss, bits = (weight**2).sum(), as_bits(weight)
            record.put_on_(bits, torch.zeros_like(bits)) if put_on else record.take_off_(bits)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()
