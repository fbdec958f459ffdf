"""Adam's Triton kernels against the eager forms; run as `test_triton.py` is."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from supermask.core.counter_random import key_words
from supermask.core.kernels import adam8, reference
from supermask.core.kernels.arguments import AdamStep
from triton_inputs import ADAM, DEVICE, FLOATS, INTERPRETED, KEY, same_bits, some_weights, uniform

# A device fuses products and sums, and m / √v magnifies the difference.
ROUNDING = 1e-6 if INTERPRETED else 2e-5
DIVISION = "ignore:divide by zero:RuntimeWarning"  # by the scale of an empty block, whose quotient is not taken

pytestmark = [] if INTERPRETED else [pytest.mark.gpu]
pytest.importorskip("triton")


@pytest.fixture
def kernels() -> Any:
    from supermask.core.kernels import triton_kernels

    return triton_kernels


def adam_state(count: int, *, padding: int = 0) -> list[Tensor]:
    """ν, m and v as after some steps, each inside of a larger tensor."""
    state = [uniform(count, 6.0), uniform(count, 0.1, seed=4), uniform(count, 0.1, seed=5).square()]
    return [torch.cat([torch.full((padding,), 77.0, device=DEVICE), one]) for one in state]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_adam_as_in_eager_torch(kernels: Any, scale: float, dtype: torch.dtype) -> None:
    ours, theirs = adam_state(1030), adam_state(1030)
    for step in (3, 4):
        gradient = uniform(1030, 1.0, seed=10 + step).to(dtype)
        as_tensor = torch.tensor([scale], device=DEVICE, dtype=torch.float64)
        kernels.adam_step_(ours[0], gradient, *ours[1:], AdamStep(**ADAM, step=step, gradient_scale=as_tensor))
        reference.adam_step_(theirs[0], gradient, *theirs[1:], AdamStep(**ADAM, step=step, gradient_scale=scale))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-6, atol=ROUNDING)


def test_adam_as_in_torch_optim(kernels: Any) -> None:
    start = uniform(600, 6.0)
    parameter = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([parameter], lr=0.2, betas=(0.9, 0.999), eps=1e-8)
    state = [start.clone(), torch.zeros_like(start), torch.zeros_like(start)]
    for step in range(1, 6):
        gradient = uniform(600, 1.0, seed=step)
        parameter.grad = gradient.clone()
        optimizer.step()
        kernels.adam_step_(state[0], gradient, *state[1:], AdamStep(**ADAM, step=step))
    torch.testing.assert_close(state[0], parameter.detach(), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("through", [False, True])
def test_gradient_and_adam_in_one(kernels: Any, through: bool) -> None:
    ours, theirs = adam_state(1030), adam_state(1030)
    weight = some_weights(1030, torch.bfloat16)
    for step in (3, 4):
        incoming = uniform(1030, 1.0, seed=10 + step).bfloat16()
        for backend, state, scale in (
            (kernels, ours, torch.tensor(0.5, device=DEVICE)),
            (reference, theirs, 0.5),
        ):
            adam = AdamStep(**ADAM, step=step, gradient_scale=scale)
            backend.adam_step_(state[0], incoming, *state[1:], adam, weight=weight, through=through)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=ROUNDING)


def test_nothing_beside_the_state_is_written(kernels: Any) -> None:
    stored = adam_state(1001, padding=3)
    stored = [torch.cat([one, torch.full((2000,), 77.0, device=DEVICE)]) for one in stored]
    state = [one[3:1004] for one in stored]
    gradient = uniform(1001, 1.0)
    kernels.adam_step_(state[0], gradient, *state[1:], AdamStep(**ADAM, step=1))
    kernels.adam_step_(state[0], gradient, *state[1:], AdamStep(**ADAM, step=2), weight=gradient, through=True)
    for one in stored:
        assert (one[:3] == 77).all() and (one[1004:] == 77).all()
        assert not (one[3:1004] == 77).any()


def test_a_scale_on_the_host_and_on_the_device_are_one(kernels: Any) -> None:
    states = []
    for scale in (0.25, torch.tensor(0.25), torch.tensor([0.25], device=DEVICE, dtype=torch.bfloat16)):
        state = adam_state(100)
        kernels.adam_step_(state[0], uniform(100, 1.0), *state[1:], AdamStep(**ADAM, step=1, gradient_scale=scale))
        states.append(torch.cat(state))
    assert same_bits(states[0], states[1]) and same_bits(states[0], states[2])


# Adam with 8-bit moments.


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid:RuntimeWarning", DIVISION)
@pytest.mark.parametrize("count", [1, 255, 257, 2500])
def test_8bit_adam_bit_for_bit(kernels: Any, count: int) -> None:
    ours, theirs = eight_bit_state(count), eight_bit_state(count)
    generator = torch.Generator().manual_seed(1)
    for step in range(1, 5):
        gradient = torch.randn(count, generator=generator) * torch.randn(count, generator=generator).mul(6).exp()
        if step == 3:
            gradient[::50], gradient[0] = 0.0, math.inf
        if step == 4:
            gradient[256:512] *= 1e-30  # a block of next to nothing
        gradient, words = gradient.to(DEVICE), key_words("rounding", step)
        scale, key = torch.tensor(0.3, device=DEVICE), torch.tensor(words, device=DEVICE)
        kernels.adam_step_8bit_(
            ours[0],
            gradient,
            adam8.EightBitMoments(*ours[1:]),
            AdamStep(**ADAM, step=step, gradient_scale=scale),
            key=key,
        )
        adam8.adam_step_8bit_(
            theirs[0],
            gradient,
            adam8.EightBitMoments(*theirs[1:]),
            AdamStep(**ADAM, step=step, gradient_scale=0.3),
            key=words,
        )
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=0.0, atol=0.0, equal_nan=True)


@pytest.mark.filterwarnings(DIVISION)
def test_8bit_adam_writes_nothing_beside_its_state(kernels: Any) -> None:
    stored = [torch.cat([torch.full_like(one[:16], 7), one, torch.full_like(one, 7)]) for one in eight_bit_state(1030)]
    sizes = [1030, 1030, 5, 1030, 5]
    heads = [min(16, size) for size in sizes]
    state = [one[head : head + size] for one, head, size in zip(stored, heads, sizes, strict=True)]
    kernels.adam_step_8bit_(
        state[0], uniform(1030, 1.0), adam8.EightBitMoments(*state[1:]), AdamStep(**ADAM, step=1), key=KEY
    )
    for one, head, size in zip(stored, heads, sizes, strict=True):
        assert (one[:head] == 7).all() and (one[head + size :] == 7).all()
        assert not (one[head : head + size] == 7).all()


def eight_bit_state(count: int) -> list[Tensor]:
    return [uniform(count, 6.0), *adam8.EightBitMoments.zeros(count, DEVICE)]
