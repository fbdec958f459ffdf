from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from supermask.core import DrawKey, masked_weight, sample_keep_mask
from supermask.core.straight_through import GradientConvention
from supermask.errors import ConfigurationError

CONVENTIONS: tuple[GradientConvention, ...] = ("stop", "through")
INTEGERS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}


def bits(values: Tensor) -> Tensor:
    return values.contiguous().view(INTEGERS[values.dtype])


def random_problem(seed: int, shape: tuple[int, ...] = (5, 7)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weight, mask logits, keep mask and an input, in float64."""
    generator = torch.Generator().manual_seed(seed)
    weight, inputs = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    logits = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return weight, logits, torch.rand(shape, generator=generator) < 0.6, inputs


def loss_of(masked: Tensor, inputs: Tensor) -> Tensor:
    """A loss whose gradient at each weight depends on all weights."""
    return torch.sin(masked @ inputs.t()).square().sum() + masked.exp().mean()


# Forward: exact bits.


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_kept_weights_have_exactly_their_bits(dtype: torch.dtype, convention: GradientConvention) -> None:
    integers = INTEGERS[dtype]
    limits = torch.iinfo(integers)
    # Any bit pattern at all: denormals, infinities, both zeros and not-a-numbers with every payload among them.
    drawn = np.random.default_rng(3).integers(limits.min, limits.max, 5000, dtype=np.int64, endpoint=True)
    zero, denormal = torch.tensor([-0.0], dtype=dtype), torch.tensor([1], dtype=integers).view(dtype)
    special = torch.tensor([float("inf"), float("-inf"), float("nan"), 0.0], dtype=dtype)
    weight = torch.cat([torch.from_numpy(drawn).to(integers).view(dtype), zero, denormal, -denormal, special])
    keep_mask = torch.arange(weight.numel()) % 3 > 0
    logits = torch.zeros(weight.shape)
    masked = masked_weight(weight, logits, keep_mask, gradient=convention)
    assert masked.dtype == dtype
    assert torch.equal(bits(masked), torch.where(keep_mask, bits(weight), torch.zeros((), dtype=integers)))


# Backward: both conventions against an explicit formula that autograd differentiates.


def surrogate(values: Tensor, convention: GradientConvention) -> Tensor:
    return values if convention == "stop" else torch.sigmoid(values)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_gradient_is_that_of_the_explicit_formula(convention: GradientConvention, transposed: bool, seed: int) -> None:
    weight, logits, keep_mask, inputs = random_problem(seed)
    if transposed:
        weight, logits, keep_mask = (tensor.t().contiguous().t() for tensor in (weight, logits, keep_mask))
    ours, theirs, before = logits.clone().requires_grad_(), logits.clone().requires_grad_(), weight.clone()
    loss_of(masked_weight(weight, ours, keep_mask, gradient=convention), inputs).backward()
    passed_on = surrogate(theirs, convention)
    loss_of(weight * (keep_mask + passed_on - passed_on.detach()), inputs).backward()
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-11, atol=1e-13)
    assert bool((ours.grad[~keep_mask] != 0).all()), "dropped weights must have a gradient, or they never come back"
    assert torch.equal(bits(weight), bits(before)), "the base is not written"


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_gradient_is_that_of_finite_differences(convention: GradientConvention) -> None:
    # L(θ̃ ⊙ (μ + g(ν) - g(ν₀))) at ν₀, where g is ν itself or σ(ν), differentiated with no autograd at all.
    weight, logits, keep_mask, inputs = random_problem(11, (3, 4))
    ours = logits.clone().requires_grad_()
    loss_of(masked_weight(weight, ours, keep_mask, gradient=convention), inputs).backward()
    step = 1e-5
    for place in np.ndindex(3, 4):
        sides = []
        for sign in (1, -1):
            moved = logits.clone()
            moved[place] += sign * step
            change = surrogate(moved, convention) - surrogate(logits, convention)
            sides.append(float(loss_of(weight * (keep_mask + change), inputs)))
        assert float(ours.grad[place]) == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("mask_logit", [-30.0, -17.0, -5.0, 0.0, 5.0, 12.0, 17.0, 30.0])
def test_the_sigmoid_factor_keeps_its_digits_on_both_sides(mask_logit: float) -> None:
    logits = torch.tensor([mask_logit], requires_grad=True)
    masked_weight(torch.ones(1), logits, logits > 0, gradient="through").sum().backward()
    slope = math.exp(-abs(mask_logit)) / (1 + math.exp(-abs(mask_logit))) ** 2
    assert float(logits.grad) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_product_is_taken_in_float32_whatever_the_weight(dtype: torch.dtype) -> None:
    # In bfloat16 1/3 · 1/3 would keep 8 bits; the gradient of ν keeps those of float32. The weight itself gets none.
    weight = torch.tensor([1 / 3, -2.0], dtype=dtype, requires_grad=True)
    logits, factor = torch.zeros(2, requires_grad=True), torch.tensor(1 / 3, dtype=dtype)
    (masked_weight(weight, logits, torch.tensor([True, False])) * factor).sum().backward()
    assert weight.grad is None and logits.grad is not None and logits.grad.dtype == torch.float32
    assert torch.equal(logits.grad, weight.detach().float() * factor.float())


def test_no_graph_where_none_is_wanted() -> None:
    weight, logits, keep_mask, _ = random_problem(0)
    assert not masked_weight(weight, logits, keep_mask).requires_grad
    with torch.no_grad():
        assert not masked_weight(weight, logits.requires_grad_(), keep_mask).requires_grad


# Memory and replay.


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_backward_keeps_only_the_weight_and_the_logits(convention: GradientConvention) -> None:
    weight, logits = torch.randn(64, 64), torch.zeros(64, 64, requires_grad=True)
    keep_mask = sample_keep_mask(logits, DrawKey(), "w")
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda kept: kept):
        masked = masked_weight(weight, logits, keep_mask, gradient=convention)
    storages = {tensor.untyped_storage().data_ptr() for tensor in saved}
    assert storages == {weight.untyped_storage().data_ptr(), logits.untyped_storage().data_ptr()}
    masked.sum().backward()


class MaskedLayer(nn.Module):
    """A linear layer that draws its mask in the forward pass, between draws of the global generator."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.mask_logits = nn.Parameter(torch.zeros_like(weight))
        self.drawn: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        torch.rand(3)
        keep_mask = sample_keep_mask(self.mask_logits, DrawKey(seed=1, step=2), "layer.weight")
        self.drawn.append(keep_mask)
        return torch.tanh(inputs @ masked_weight(self.weight, self.mask_logits, keep_mask).t())


@pytest.mark.parametrize("preserve_rng_state", [True, False])
def test_gradient_checkpointing_replays_the_draw(preserve_rng_state: bool) -> None:
    weight, inputs = torch.randn(8, 8), torch.randn(4, 8)
    plain, replayed = MaskedLayer(weight), MaskedLayer(weight)
    plain(inputs).square().sum().backward()
    outputs = checkpoint(replayed, inputs, use_reentrant=False, preserve_rng_state=preserve_rng_state)
    torch.rand(5)
    outputs.square().sum().backward()
    assert len(plain.drawn) == 1 and len(replayed.drawn) == 2, "checkpointing must have run the forward pass again"
    assert torch.equal(replayed.drawn[0], replayed.drawn[1])
    assert torch.equal(replayed.mask_logits.grad, plain.mask_logits.grad)


# Refused input.


@pytest.mark.parametrize("misfit", range(3))
def test_other_shapes_are_refused_rather_than_broadcast(misfit: int) -> None:
    tensors: list[Tensor] = [torch.ones(2, 3), torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)]
    tensors[misfit] = tensors[misfit][:1]
    with pytest.raises(ConfigurationError, match=r"one shape, received .*\(1, 3\)"):
        masked_weight(*tensors)


def test_a_mask_of_numbers_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"boolean.*received torch\.float32"):
        masked_weight(torch.ones(2), torch.zeros(2), torch.ones(2))


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="one of stop, through; received 'thru'"):
        masked_weight(torch.ones(1), torch.zeros(1), torch.ones(1, dtype=torch.bool), gradient="thru")  # type: ignore[arg-type]
