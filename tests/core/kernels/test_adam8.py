"""Adam with 8-bit moments: the bytes are what the definition says, and every backend gives the same."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supermask.core.counter_random import key_words
from supermask.core.kernels import Kernels, adam8, cpu
from supermask.core.kernels.adam8 import (
    BLOCK,
    EightBitMoments,
    adam_step_8bit_,
    first_moment,
    second_moment,
)
from supermask.core.kernels.arguments import AdamStep
from supermask.errors import ConfigurationError

SETTINGS: dict[str, Any] = {"learning_rate": 0.2, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
BYTES = torch.arange(256, dtype=torch.uint8)


def steps(count: int, times: int, take: Any = adam_step_8bit_) -> tuple[Tensor, EightBitMoments]:
    """Steps on gradients whose sizes span powers of ten; some are none, infinite, or next to nothing for a block."""
    generator = torch.Generator().manual_seed(count)
    sizes = 10.0 ** (6.0 * torch.rand(count, generator=generator) - 9)
    logits, held = torch.full((count,), 5.0), EightBitMoments.zeros(count)
    for step in range(1, times + 1):
        gradient = sizes * torch.randn(count, generator=generator)
        if step == 3:
            gradient[::50], gradient[0] = 0.0, math.inf
        if step == 4:
            gradient[256:512] *= 1e-30
        adam = AdamStep(**SETTINGS, step=step, gradient_scale=torch.tensor(0.3))
        take(logits, gradient, held, key=key_words("test", step), adam=adam)
    return logits, held


def same(ours: tuple[Tensor, EightBitMoments], theirs: tuple[Tensor, EightBitMoments]) -> bool:
    assert all(map(torch.equal, ours[1], theirs[1]))
    return torch.equal(ours[0].nan_to_num(7.0), theirs[0].nan_to_num(7.0))


def test_every_byte_has_the_value_of_the_format() -> None:
    # Written out independently: sign, exponent and mantissa, with byte 0 (either sign of it) for 0.
    firsts = [(1 + (code & 7) / 8) * 2.0 ** (code // 8 - 15) if code else 0.0 for code in range(128)]
    firsts += [-value for value in firsts]
    seconds = [(1 + (code & 7) / 8) * 2.0 ** (code // 8 - 31) if code else 0.0 for code in range(256)]
    assert first_moment(BYTES, torch.ones(1)).tolist() == firsts
    assert second_moment(BYTES, torch.ones(1)).tolist() == seconds
    assert max(firsts) == max(seconds) == adam8.TOP
    # 5 % of 2.03 bytes are scales.
    assert sum(tensor.nbytes for tensor in EightBitMoments.zeros(BLOCK)) / BLOCK == 2.03125


def test_each_block_has_its_own_scale() -> None:
    codes = torch.full((2 * BLOCK + 1,), 127, dtype=torch.uint8)
    moments = first_moment(codes, torch.tensor([1.0, 2.0, 4.0]))
    assert moments[[0, BLOCK - 1, BLOCK, 2 * BLOCK - 1, 2 * BLOCK]].tolist() == [1.875, 1.875, 3.75, 3.75, 7.5]


def test_the_first_moment_is_rounded_to_nearest() -> None:
    values = torch.cat([torch.linspace(-1.0, 1.0, 200), 10.0 ** torch.linspace(-7, 0, 56)])
    held = EightBitMoments.zeros(BLOCK)
    adam_step_8bit_(torch.zeros(BLOCK), values, held, key=(0, 0), adam=AdamStep(**SETTINGS, step=1))
    moments = (0.1 * values).double()
    grid = first_moment(BYTES, torch.ones(1)).double().unique()
    scale = moments.abs().max() / adam8.TOP
    nearest = (moments[:, None] - scale * grid).abs().amin(dim=1)
    error = (first_moment(held.first, held.first_scale).double() - moments).abs()
    assert (error <= nearest + 3e-7 * moments.abs()).all()  # float32 rounds too
    assert error.max() > 0


def test_the_second_moment_is_right_on_average() -> None:
    gradient, draws = torch.linspace(0.2, 1.0, BLOCK), 4000
    held = EightBitMoments.zeros(draws * BLOCK)
    adam = AdamStep(**SETTINGS, step=1)
    adam_step_8bit_(torch.zeros(draws * BLOCK), gradient.repeat(draws), held, adam, key=key_words("average"))
    mean = second_moment(held.second, held.second_scale).double().view(draws, BLOCK).mean(0)
    expected = 0.001 * gradient.double() ** 2
    # A draw is off by at most a grid step, an eighth, so 4000 draws by 0.125 / 2 / √4000 = 0.1 %; five of these.
    torch.testing.assert_close(mean, expected, rtol=5e-3, atol=0)
    assert ((mean - expected) / expected).mean().abs() < 2e-4


def test_a_small_second_moment_is_never_lost() -> None:
    gradient = torch.full((BLOCK,), 1e-9)
    gradient[0], gradient[1] = 1.0, 0.0
    held = EightBitMoments.zeros(BLOCK)
    adam_step_8bit_(torch.zeros(BLOCK), gradient, held, key=(0, 0), adam=AdamStep(**SETTINGS, step=1))
    assert held.second[0] == 255 and held.second[1] == 0
    assert (held.second[2:] == 1).all()


def test_what_is_not_finite_stays_where_it_is(kernels: Kernels) -> None:
    logits, held = torch.zeros(2 * BLOCK), EightBitMoments.zeros(2 * BLOCK)
    gradient = torch.ones(2 * BLOCK)
    gradient[3], gradient[4] = math.nan, math.inf
    kernels.adam_step_8bit_(logits, gradient, held, key=(1, 2), adam=AdamStep(**SETTINGS, step=1))
    finite = torch.isfinite(logits)
    assert not finite[3:5].any() and finite.sum() == 2 * BLOCK - 2
    assert (held.first[3:5] & 127).eq(0).all() and held.second[3:5].eq(0).all()
    assert held.first[5] == 127 and held.first_scale.isfinite().all() and held.second_scale.isfinite().all()


def test_blocks_without_gradient_stay_at_zero(kernels: Kernels) -> None:
    logits, held = torch.full((BLOCK,), 5.0), EightBitMoments.zeros(BLOCK)
    kernels.adam_step_8bit_(logits, torch.zeros(BLOCK), held, key=(1, 2), adam=AdamStep(**SETTINGS, step=1))
    assert (logits == 5.0).all()
    assert not any(tensor.any() for tensor in held)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 2500])
def test_every_backend_gives_the_same_bits(kernels: Kernels, count: int) -> None:
    assert same(steps(count, 5, kernels.adam_step_8bit_), steps(count, 5))


def test_threads_change_nothing() -> None:
    threads = torch.get_num_threads()
    alone = steps(200_000, 2, cpu.adam_step_8bit_)
    try:
        torch.set_num_threads(3)
        assert same(steps(200_000, 2, cpu.adam_step_8bit_), alone)
    finally:
        torch.set_num_threads(threads)


def test_it_follows_adam_in_float32() -> None:
    # A gradient with a direction, so that Adam's steps add up; and noise of three times its size.
    generator = torch.Generator().manual_seed(0)
    count = 4096
    direction = 1e-6 * torch.randn(count, generator=generator)
    exact = torch.nn.Parameter(torch.full((count,), 5.0))
    adam = torch.optim.Adam([exact], lr=0.05, eps=1e-8)
    logits, held = torch.full((count,), 5.0), EightBitMoments.zeros(count)
    for step in range(1, 101):
        gradient = direction + 3e-6 * torch.randn(count, generator=generator)
        exact.grad = gradient.clone()
        adam.step()
        settings = SETTINGS | {"learning_rate": 0.05}
        adam_step_8bit_(logits, gradient, held, key=key_words(step), adam=AdamStep(**settings, step=step))
    moved, ours = (exact.detach() - 5.0).numpy(), (logits - 5.0).numpy()
    assert np.corrcoef(moved, ours)[0, 1] > 0.99
    assert (moved @ ours) / (moved @ moved) == pytest.approx(1.0, abs=0.02)


def test_a_scale_may_be_a_tensor() -> None:
    states = [(torch.zeros(300), EightBitMoments.zeros(300)) for _ in range(2)]
    for (logits, held), scale in zip(states, (0.25, torch.tensor([0.25])), strict=True):
        adam = AdamStep(**SETTINGS, step=1, gradient_scale=scale)
        adam_step_8bit_(logits, torch.linspace(-1, 1, 300), held, adam, key=(0, 0))
    assert same(*states)
    assert states[0][1].first_scale[1] == pytest.approx(0.1 * 0.25 / adam8.TOP, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("first", torch.zeros(5, dtype=torch.uint8), r"first is a contiguous torch.uint8 tensor of shape \(600,\)"),
        ("second", torch.zeros(600), "received torch.float32"),
        ("second_scale", torch.zeros(2), r"second_scale .* shape \(3,\)"),
        ("gradient", torch.zeros(2, 300), "one shape"),
        ("mask_logits", torch.zeros(1200)[::2], "contiguous"),
    ],
)
def test_what_does_not_fit_is_refused(kernels: Kernels, name: str, tensor: Tensor, message: str) -> None:
    moments = EightBitMoments.zeros(600)
    moments = moments._replace(**{name: tensor}) if name in moments._fields else moments
    tensors = {"mask_logits": torch.zeros(600), "gradient": torch.zeros(600), name: tensor}
    with pytest.raises(ConfigurationError, match=message):
        kernels.adam_step_8bit_(
            tensors["mask_logits"], tensors["gradient"], moments, AdamStep(**SETTINGS, step=1), key=(0, 0)
        )
