from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supermask.core import DrawKey, masked_weight, sample_keep_mask
from supermask.core.straight_through import GradientConvention
from supermask.errors import ConfigurationError

CONVENTIONS: tuple[GradientConvention, ...] = ("stop", "through")


def random_problem(seed: int, shape: tuple[int, ...] = (5, 7)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weight, mask logits, keep mask and an input, in float64."""
    generator = torch.Generator().manual_seed(seed)
    weight, inputs = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    logits = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return weight, logits, torch.rand(shape, generator=generator) < 0.6, inputs


def loss_of(masked: Tensor, inputs: Tensor) -> Tensor:
    """A loss whose gradient at each weight depends on all weights."""
    return torch.sin(masked @ inputs.t()).square().sum() + masked.exp().mean()


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
    assert torch.equal(weight, before), "the base is not written"


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


# Memory.


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


# Refused input.


ONES, NOUGHTS, KEPT = torch.ones(2, 3), torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("tensors", "convention", "message"),
    [
        ((ONES[:1], NOUGHTS, KEPT), "stop", r"one shape, received .*\(1, 3\)"),
        ((ONES, NOUGHTS[:1], KEPT), "stop", r"one shape, received .*\(1, 3\)"),
        ((ONES, NOUGHTS, KEPT[:1]), "stop", r"one shape, received .*\(1, 3\)"),
        ((ONES, NOUGHTS, ONES), "stop", r"boolean.*received torch\.float32"),
        ((ONES, NOUGHTS, KEPT), "thru", "one of stop, through; received 'thru'"),
    ],
)
def test_what_does_not_fit_is_refused(tensors: tuple[Tensor, ...], convention: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        masked_weight(*tensors, gradient=convention)
