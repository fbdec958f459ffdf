import math

import pytest
import torch
from torch import Tensor, nn

from supermask.methods.gradient_norms import clip_by_norm_, gradient_norm


def gradients(scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(shape, generator=generator) for shape in ((40, 30), (7,), (3, 5, 2))]


@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1e6])
def test_clipping_is_that_of_torch(max_norm: float) -> None:
    ours, parameters = gradients(), [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients()]
    for parameter, gradient in zip(parameters, gradients(), strict=True):
        parameter.grad = gradient
    norm = gradient_norm(ours)
    assert norm == nn.utils.clip_grad_norm_(parameters, max_norm)
    assert norm.item() == pytest.approx(math.sqrt(sum(float(g.double().square().sum()) for g in gradients())), rel=1e-6)
    clip_by_norm_(ours, norm, max_norm=max_norm)
    for gradient, parameter in zip(ours, parameters, strict=True):
        assert parameter.grad is not None and torch.equal(gradient, parameter.grad)


def test_gradients_that_are_small_enough_are_not_written() -> None:
    gradient = torch.ones(3)
    version = gradient._version
    clip_by_norm_([gradient], gradient_norm([gradient]), max_norm=2.0)
    assert gradient._version == version
    clip_by_norm_([gradient], gradient_norm([gradient]), max_norm=1.0)
    assert gradient._version > version


def test_what_is_not_a_number_spoils_all_as_in_torch_and_the_norm_of_nothing_is_zero() -> None:
    gradient, other = torch.tensor([math.nan, 1.0]), torch.ones(2)
    clip_by_norm_([gradient, other], gradient_norm([gradient, other]), max_norm=1.0)
    assert gradient.isnan().all() and other.isnan().all()
    assert gradient_norm([]) == 0.0


def test_low_precision_gradients_are_summed_in_float32() -> None:
    gradient = torch.full((1 << 16,), 0.01, dtype=torch.bfloat16)
    exact = math.sqrt(float(gradient.double().square().sum()))
    assert gradient_norm([gradient]).item() == pytest.approx(exact, rel=1e-5)
