"""Mask logits stay float32; a fixed mask has to be loaded; masks and logits of a file must agree."""

import struct
from collections.abc import Callable

import pytest
import torch

from interop.peft.tiny_adapters import bits
from supermask.core import entropy_bits, masked_weight
from supermask.errors import DeltaFormatError, DeltaStateError
from supermask.interop.peft import SupermaskConfig
from supermask.interop.peft.mask import AdapterMask, pack_keep_mask, unpack_keep_mask
from supermask.methods.draw_clock import DrawClock

WEIGHT = torch.linspace(-1, 1, 24).reshape(4, 6)
KEEP = torch.arange(24).reshape(4, 6) % 4 > 0


def mask_of(**settings: object) -> AdapterMask:
    return AdapterMask(WEIGHT, name="weight", config=SupermaskConfig(**settings), clock=DrawClock())


def test_logits_stay_float32_and_fixed_masks_boolean() -> None:
    mask = mask_of(initial_sparsity=0.25, init_logit=3.0)
    assert mask.mask_logits is not None
    smallest = WEIGHT.abs().flatten().sort().values[5]
    assert torch.equal(mask.mask_logits, torch.where(WEIGHT.abs() > smallest, 3.0, -3.0))
    assert int((~mask.keep_mask()).sum()) == 6
    mask.mask_logits.grad = torch.ones(4, 6)
    for converted in (mask.half(), mask.to(torch.bfloat16), mask.double()):
        assert converted.mask_logits is not None and converted.mask_logits.grad is not None
        assert converted.mask_logits.dtype == converted.mask_logits.grad.dtype == torch.float32
    fixed = mask_of(inference_mode=True)
    fixed.fix(KEEP, device=torch.device("cpu"))
    assert torch.equal(fixed.half().keep_mask(), KEEP)


@pytest.mark.parametrize("gradient", ["stop", "through"])
def test_values_and_gradients_are_the_methods(gradient: str) -> None:
    mask = mask_of(gradient=gradient, init_logit=0.5, seed=4)
    assert mask.mask_logits is not None
    weight = mask.masked(WEIGHT, sampled=True)
    keep = weight != 0
    assert 0 < int(keep.sum()) < 24
    (weight * 3).sum().backward()
    slope = 1.0 if gradient == "stop" else 0.6224593312018546 * (1 - 0.6224593312018546)  # σ(0.5) (1 - σ(0.5))
    torch.testing.assert_close(mask.mask_logits.grad, 3 * WEIGHT * slope)
    assert torch.equal(weight, masked_weight(WEIGHT, mask.mask_logits, keep))


def test_a_fixed_mask_must_be_loaded() -> None:
    mask = mask_of(inference_mode=True)
    assert not mask.is_loaded
    assert list(mask.parameters()) == []
    with pytest.raises(DeltaStateError, match="the mask of weight was not in the adapter's file"):
        mask.masked(WEIGHT, sampled=False)
    mask.load(WEIGHT, packed=pack_keep_mask(KEEP), logits=None)
    assert torch.equal(mask.masked(WEIGHT, sampled=True), WEIGHT * KEEP)


def test_training_goes_on_from_the_stored_mask() -> None:
    mask = mask_of(init_logit=2.0)
    parameter = mask.mask_logits
    mask.load(WEIGHT, packed=pack_keep_mask(KEEP), logits=None)
    assert mask.mask_logits is parameter  # an optimizer may hold it
    assert torch.equal(parameter, torch.where(KEEP, 2.0, -2.0))
    exact = torch.where(KEEP, 0.25, -7.5)
    mask.load(WEIGHT, packed=pack_keep_mask(KEEP), logits=exact)
    assert torch.equal(parameter, exact)


def test_what_a_mask_cannot_be_loaded_from_or_put_on_is_named() -> None:
    for logits in (torch.ones(4, 6), torch.ones(6, 4)):
        with pytest.raises(DeltaFormatError, match="contradict"):
            mask_of().load(WEIGHT, packed=pack_keep_mask(KEEP), logits=logits)
    with pytest.raises(DeltaFormatError, match=r"the mask of weight: the mask is for .*\(6, 4\), .* is \(4, 6\)"):
        mask_of().load(WEIGHT, packed=pack_keep_mask(KEEP.t().contiguous()), logits=None)
    with pytest.raises(DeltaStateError, match="meta device"):
        mask_of().masked(WEIGHT.to("meta"), sampled=False)


def fixed_mask(weight: torch.Tensor, keep_mask: torch.Tensor) -> AdapterMask:
    mask = AdapterMask(weight, name="weight", config=SupermaskConfig(inference_mode=True), clock=DrawClock())
    mask.fix(keep_mask, device=weight.device)
    return mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_bit_pattern_comes_back(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (48 * dtype.itemsize,), generator=generator).to(torch.uint8)
    for weight in (raw.view(dtype).reshape(8, 6).t(), raw.view(dtype).reshape(6, 8).clone()):
        before = bits(weight).clone()  # NaNs, infinities, -0.0, and once strides
        keep_mask = torch.rand(6, 8, generator=generator) > 0.4
        mask = fixed_mask(weight, keep_mask)
        for _ in range(2):  # as the two layers of a tied weight do
            mask.merge_(weight)
        assert not bits(weight).view(dtype).reshape(6, 8)[~keep_mask].any()
        assert torch.equal(bits(weight[keep_mask]), bits(before.view(dtype).reshape(6, 8)[keep_mask]))
        mask.unmerge_(weight)
        assert not torch.equal(bits(weight), before)
        mask.unmerge_(weight)
        assert torch.equal(bits(weight), before)


@pytest.mark.parametrize("convert", [lambda w: w.half(), lambda w: w.view(torch.int32), lambda w: w.reshape(2, 8)])
def test_a_converted_weight_is_refused(convert: Callable[[torch.Tensor], torch.Tensor]) -> None:
    weight = torch.ones(4, 4)
    mask = fixed_mask(weight, torch.eye(4) > 0)
    mask.merge_(weight)
    converted = convert(weight)
    before = bits(converted).clone()
    with pytest.raises(DeltaStateError, match=rf"weight is {converted.dtype} of shape \({converted.shape[0]}, "):
        mask.unmerge_(converted)
    assert torch.equal(bits(converted), before)


# A mask is its bytes and back; anything else is refused.


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
