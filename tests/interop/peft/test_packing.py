"""A mask is its bytes and back; anything else is refused."""

from __future__ import annotations

import struct

import pytest
import torch

from supermask.core import entropy_bits
from supermask.errors import DeltaFormatError
from supermask.interop.peft.packing import pack_keep_mask, unpack_keep_mask


@pytest.mark.parametrize("sparsity", [0.0, 0.01, 0.5, 0.97, 1.0])
def test_masks_come_back(sparsity: float) -> None:
    keep_mask = torch.rand(96, 200, generator=torch.Generator().manual_seed(1)) >= sparsity
    packed = pack_keep_mask(keep_mask)
    assert torch.equal(unpack_keep_mask(packed, (96, 200)), keep_mask)
    assert struct.unpack_from("<QQQ", bytes(packed.tolist())) == (96, 200, int((~keep_mask).sum()))
    true_sparsity = float((~keep_mask).float().mean())
    assert 8 * packed.numel() <= 1.001 * keep_mask.numel() * entropy_bits(true_sparsity) + 8 * 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda packed: packed.float(), "uint8"),
        (lambda packed: packed[:20], "at least 24 uint8"),
        (lambda packed: packed[:-4], "keep mask"),
        (lambda packed: torch.cat([packed, packed[-4:]]), "keep mask"),
        (lambda packed: packed.reshape(1, -1), "shape"),
    ],
)
def test_damage_is_named(change: object, message: str) -> None:
    keep_mask = torch.arange(32 * 8).reshape(32, 8) % 3 > 0
    with pytest.raises(DeltaFormatError, match=message):
        unpack_keep_mask(change(pack_keep_mask(keep_mask)), (32, 8))  # type: ignore[operator]


def test_a_transposed_mask_is_another() -> None:
    with pytest.raises(DeltaFormatError, match=r"shape \(8, 4\), and the model's is \(4, 8\)"):
        unpack_keep_mask(pack_keep_mask(torch.ones(8, 4, dtype=torch.bool)), (4, 8))
