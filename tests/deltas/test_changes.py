import dataclasses

import pytest
import torch
from torch import Tensor

from supermask.deltas import Change, DenseValues, KeepMask, SparseValues
from supermask.errors import ConfigurationError


def bits(tensor: Tensor) -> list[int]:
    return tensor.contiguous().view(torch.int32).reshape(-1).tolist()


def floats(*patterns: int) -> Tensor:
    return torch.tensor(patterns, dtype=torch.uint32).view(torch.float32)


QUIET_NAN, SIGNALLING_NAN, MINUS_ZERO, DENORMAL = 0x7FC01234, 0xFF801234, 0x80000000, 0x00000001


def test_kept_weights_keep_every_bit_and_dropped_ones_are_plus_zero() -> None:
    tensor = floats(QUIET_NAN, SIGNALLING_NAN, MINUS_ZERO, DENORMAL, QUIET_NAN, MINUS_ZERO)
    keep = torch.tensor([True, True, True, True, False, False])
    assert bits(KeepMask(keep).apply(tensor)) == [*bits(tensor[:4]), 0, 0]


def test_sparse_values_place_survivors_in_row_major_order() -> None:
    keep = torch.tensor([[False, True], [True, False], [True, True]])
    values = floats(QUIET_NAN, MINUS_ZERO, DENORMAL, SIGNALLING_NAN)
    changed = SparseValues(keep, values).apply(torch.ones(3, 2))
    assert bits(changed) == [0, *bits(values[:2]), 0, *bits(values[2:])]


def test_dense_values_replace_every_bit() -> None:
    values = floats(QUIET_NAN, SIGNALLING_NAN, MINUS_ZERO)
    assert bits(DenseValues(values).apply(torch.ones(3))) == bits(values)


@pytest.mark.parametrize(
    "change",
    [
        KeepMask(torch.tensor([[True, False]])),
        DenseValues(torch.tensor([[5.0, 6.0]])),
        SparseValues(torch.tensor([[True, False]]), torch.tensor([5.0])),
    ],
)
def test_apply_leaves_the_given_tensor_alone_and_returns_another(change: Change) -> None:
    tensor = torch.tensor([[1.0, 2.0]], requires_grad=True)
    changed = change.apply(tensor)
    assert tensor.tolist() == [[1.0, 2.0]]
    assert not changed.requires_grad
    changed.fill_(9)
    assert change.apply(tensor).tolist() != [[9.0, 9.0]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int8])
def test_every_element_size(dtype: torch.dtype) -> None:
    tensor = torch.tensor([1, 2, 3, 4]).to(dtype).reshape(2, 2).t()
    assert KeepMask(torch.tensor([[True, False], [True, True]])).apply(tensor).tolist() == [[1, 0], [2, 4]]


def test_zeros_and_shape() -> None:
    keep = torch.tensor([[True, False, False]])
    assert (KeepMask(keep).zeros, KeepMask(keep).shape) == (2, (1, 3))
    assert (SparseValues(keep, torch.ones(1)).zeros, SparseValues(keep, torch.ones(1)).shape) == (2, (1, 3))


def test_changes_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        KeepMask(torch.tensor([True])).keep = torch.tensor([False])  # type: ignore[misc]


def test_a_mask_of_numbers_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"boolean.*received torch\.float32"):
        KeepMask(torch.ones(2))
    with pytest.raises(ConfigurationError, match=r"boolean"):
        SparseValues(torch.ones(2), torch.ones(2))


@pytest.mark.parametrize("values", [torch.ones(3), torch.ones(2, 1), torch.ones(())])
def test_survivors_must_be_counted_right(values: Tensor) -> None:
    with pytest.raises(ConfigurationError, match=r"2 survivors.*\(2,\)"):
        SparseValues(torch.tensor([True, False, True]), values)


def test_another_shape_or_dtype_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"\(2,\), received \(2, 1\)"):
        KeepMask(torch.tensor([True, False])).apply(torch.ones(2, 1))
    with pytest.raises(ConfigurationError, match=r"float16.*float32.*convert"):
        DenseValues(torch.ones(2, dtype=torch.float16)).apply(torch.ones(2))
    with pytest.raises(ConfigurationError, match=r"convert"):
        SparseValues(torch.tensor([True]), torch.ones(1, dtype=torch.float64)).apply(torch.ones(1))
