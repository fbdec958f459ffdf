import struct
import sys

import pytest
import torch

from supermask.deltas.tensor_bytes import STORED_DTYPES, as_bits, as_bytes, from_bytes
from supermask.errors import DeltaFormatError


def test_bytes_are_row_major_little_endian() -> None:
    tensor = torch.tensor([[1.5, -2.0], [0.25, 3.0]])
    assert bytes(as_bytes(tensor.t())) == struct.pack("<4f", 1.5, 0.25, -2.0, 3.0)


def test_a_contiguous_tensor_is_not_copied() -> None:
    tensor = torch.zeros(3)
    view = as_bytes(tensor)
    tensor[0] = 1.0
    assert bytes(view[:4]) == struct.pack("<f", 1.0)


@pytest.mark.parametrize("name", STORED_DTYPES)
@pytest.mark.parametrize("shape", [(), (3, 5), (0, 4)])
def test_every_stored_dtype_round_trips(name: str, shape: tuple[int, ...]) -> None:
    dtype = STORED_DTYPES[name]
    size = torch.empty(shape).numel() * dtype.itemsize
    data = bytes((37 * index + 5) % 256 for index in range(size))
    tensor = from_bytes(data, dtype, shape)
    assert (tensor.dtype, tuple(tensor.shape)) == (dtype, shape)
    assert bytes(as_bytes(tensor)) == data


def test_bits_share_memory_and_drop_the_gradient() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    as_bits(parameter)[0] = 0
    assert parameter.tolist() == [0.0, 1.0]


def test_a_big_endian_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(DeltaFormatError, match="little-endian"):
        as_bytes(torch.ones(1))
    with pytest.raises(DeltaFormatError, match="little-endian"):
        from_bytes(b"\0\0\0\0", torch.float32, (1,))
