"""Merging zeroes to the bit, and unmerging restores to the bit."""

from __future__ import annotations

import pytest
import torch

from interop.peft.tiny_adapters import bits
from supermask.errors import DeltaStateError
from supermask.interop.peft.merging import drop_


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_bit_pattern_comes_back(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (48 * dtype.itemsize,), generator=generator).to(torch.uint8)
    weight = raw.view(dtype).reshape(8, 6).t()  # NaNs, infinities, -0.0, and strides
    before = bits(weight).clone()
    keep_mask = torch.rand(6, 8, generator=generator) > 0.4
    dropped = drop_(weight, keep_mask)
    assert not bits(weight).view(dtype).reshape(6, 8)[~keep_mask].any()
    assert torch.equal(bits(weight[keep_mask]), bits(before.view(dtype).reshape(6, 8)[keep_mask]))
    dropped.restore_(weight)
    assert torch.equal(bits(weight), before)


def test_a_converted_weight_is_refused() -> None:
    weight = torch.ones(4, 4)
    dropped = drop_(weight, torch.eye(4) > 0)
    converted = weight.half()
    with pytest.raises(DeltaStateError, match=r"torch\.float16 of shape \(4, 4\)"):
        dropped.restore_(converted)
    assert torch.equal(converted, torch.eye(4).half())
