from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reference_bits import reference_bits16
from supermask.core import DrawKey, counter_random, sample_keep_mask, threshold_keep_mask
from supermask.core.counter_random import key_words
from supermask.core.kernels.reference import logit_levels

KEY = DrawKey(seed=1, step=2, micro_batch=3, rank=0)
NAME = "encoder.layer.0.attention.self.query.weight"
INFINITY = float("inf")


def spread_logits(count: int) -> Tensor:
    """Mask logits over [-6, 6], in no order."""
    return torch.from_numpy(np.random.default_rng(5).uniform(-6, 6, count)).float()


def reference_mask(mask_logits: Tensor, key: DrawKey, tensor_name: str) -> list[bool]:
    words = key_words(key.seed, key.step, key.micro_batch, key.rank, key.stream, tensor_name)
    kept = []
    for index, logit in enumerate(mask_logits.reshape(-1).tolist()):
        share = (reference_bits16(index, words) + 0.5) / 65536
        kept.append(logit > float(np.float32(math.log(share / (1 - share)))))
    return kept


# The draw itself.


def test_the_same_mask_as_plain_python() -> None:
    logits = spread_logits(20_000)
    assert sample_keep_mask(logits, KEY, NAME).tolist() == reference_mask(logits, KEY, NAME)


def test_golden_mask() -> None:
    keep_mask = sample_keep_mask(torch.linspace(-3, 3, 32), DrawKey(seed=1, step=2), "layer.weight")
    assert "".join("x" if keep else "." for keep in keep_mask) == "........x.xx..x.x.x.xxx.xxxxxx.x"


@pytest.mark.parametrize("mask_logit", [-5.0, -2.0, -0.5, 0.0, 0.5, 2.0, 5.0, 8.0])
def test_frequency_is_the_keep_probability(mask_logit: float) -> None:
    weights = 1 << 18
    probability = 1 / (1 + math.exp(-mask_logit))
    for name in ("first.weight", "second.weight", "third.weight"):
        kept = int(sample_keep_mask(torch.full((512, 512), mask_logit), KEY, name).sum())
        assert abs(kept - weights * probability) < 5 * math.sqrt(weights * probability * (1 - probability))


def test_an_untouched_logit_has_the_noise_floor() -> None:
    keep_mask = sample_keep_mask(torch.full((1024, 1024), 5.0), KEY, NAME)
    assert 1 - float(keep_mask.double().mean()) == pytest.approx(0.006693, abs=5 * math.sqrt(0.006693 / 2**20))


def test_every_probability_is_met_to_one_level() -> None:
    # A logit is kept by as many of the 65536 equally likely numbers as there are levels below it.
    levels = logit_levels(torch.device("cpu")).numpy()
    assert np.all(np.diff(levels) > 0)
    for mask_logit in np.linspace(-11.7, 11.7, 101).astype(np.float32):
        implied = np.searchsorted(levels, mask_logit, side="left") / 65536
        assert abs(implied - 1 / (1 + math.exp(-float(mask_logit)))) <= 1 / 65536


def test_levels_are_rounded_once() -> None:
    share = (np.arange(65536, dtype=np.longdouble) + 0.5) / 65536
    exact = np.log(share) - np.log1p(-share)
    levels = logit_levels(torch.device("cpu")).numpy()
    assert np.all(np.abs(levels - exact) <= np.spacing(np.abs(levels)) * 0.5000001)


def test_a_logit_right_at_its_level_is_dropped_and_the_next_number_kept() -> None:
    words = key_words(KEY.seed, KEY.step, KEY.micro_batch, KEY.rank, KEY.stream, NAME)
    levels = logit_levels(torch.device("cpu"))
    own = levels[torch.tensor([reference_bits16(index, words) for index in range(500)])]
    assert not bool(sample_keep_mask(own, KEY, NAME).any())
    assert bool(sample_keep_mask(own.nextafter(torch.tensor(INFINITY)), KEY, NAME).all())


@pytest.mark.parametrize(("mask_logit", "kept"), [(11.8, True), (-11.8, False), (INFINITY, True), (-INFINITY, False)])
def test_large_logits_are_certain(mask_logit: float, kept: bool) -> None:
    keep_mask = sample_keep_mask(torch.full((1 << 20,), mask_logit), KEY, NAME)
    assert bool((keep_mask == kept).all())


def test_what_is_not_a_number_is_dropped() -> None:
    logits = torch.tensor([float("nan"), 20.0])
    assert sample_keep_mask(logits, KEY, NAME).tolist() == [False, True]
    assert threshold_keep_mask(logits).tolist() == [False, True]


# Independence.

CHANGES = {
    "seed": replace(KEY, seed=2),
    "step": replace(KEY, step=3),
    "micro_batch": replace(KEY, micro_batch=4),
    "rank": replace(KEY, rank=1),
    "stream": replace(KEY, stream="evaluation"),
}


@pytest.mark.parametrize("mask_logit", [-2.0, 0.0, 5.0])
@pytest.mark.parametrize("change", [*CHANGES, "tensor_name"])
def test_another_key_draws_independently(change: str, mask_logit: float) -> None:
    logits = torch.full((1 << 19,), mask_logit)
    dropped = ~sample_keep_mask(logits, KEY, NAME)
    others = ~sample_keep_mask(logits, CHANGES.get(change, KEY), "other.weight" if change == "tensor_name" else NAME)
    both = 1 / (1 + math.exp(mask_logit)) ** 2
    shared = int((dropped & others).sum())
    assert abs(shared - logits.numel() * both) < 5 * math.sqrt(logits.numel() * both * (1 - both))


def test_a_weight_is_dropped_at_its_rate_over_the_steps() -> None:
    draws = torch.stack([sample_keep_mask(torch.full((64,), 1.0), KEY.at(step=step), NAME) for step in range(4000)])
    probability = 1 / (1 + math.exp(-1.0))
    deviations = (draws.double().sum(0) - 4000 * probability) / math.sqrt(4000 * probability * (1 - probability))
    assert float(deviations.abs().max()) < 5
    assert float((draws[1:] == draws[:-1]).double().mean()) == pytest.approx(
        probability**2 + (1 - probability) ** 2, abs=0.01
    )


# A pure function of the key.


def test_order_of_draws_global_seed_and_other_draws_make_no_difference() -> None:
    logits = spread_logits(5000)
    torch.manual_seed(0)
    first = sample_keep_mask(logits, KEY, NAME)
    torch.manual_seed(99)
    torch.rand(17)
    sample_keep_mask(logits, KEY.at(step=9), "other.weight")
    assert torch.equal(sample_keep_mask(logits, KEY, NAME), first)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    sample_keep_mask(spread_logits(100), KEY, NAME)
    assert torch.equal(torch.get_rng_state(), before)


def test_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = spread_logits(5000)
    expected = sample_keep_mask(logits, KEY, NAME)
    monkeypatch.setattr(counter_random, "_CHUNK_CPU", 333)
    assert torch.equal(sample_keep_mask(logits, KEY, NAME), expected)


def test_memory_layout_makes_no_difference() -> None:
    logits = spread_logits(300 * 400).reshape(300, 400)
    transposed = logits.t().contiguous().t()
    assert not transposed.is_contiguous()
    assert torch.equal(sample_keep_mask(transposed, KEY, NAME), sample_keep_mask(logits, KEY, NAME))
    strided = torch.stack([logits, -logits], dim=-1)[..., 0]
    assert torch.equal(sample_keep_mask(strided, KEY, NAME), sample_keep_mask(logits, KEY, NAME))


@given(st.integers(min_value=0, max_value=2000))
def test_an_index_keeps_its_draw_whatever_follows(count: int) -> None:
    logits = spread_logits(2000)
    assert torch.equal(sample_keep_mask(logits[:count], KEY, NAME), sample_keep_mask(logits, KEY, NAME)[:count])


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3, 4)])
def test_shape_is_kept(shape: tuple[int, ...]) -> None:
    keep_mask = sample_keep_mask(torch.zeros(shape), KEY, NAME)
    assert keep_mask.shape == shape and keep_mask.dtype == torch.bool


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_taken_in_float32(dtype: torch.dtype) -> None:
    logits = spread_logits(1000).to(dtype)
    assert torch.equal(sample_keep_mask(logits, KEY, NAME), sample_keep_mask(logits.float(), KEY, NAME))


def test_first_draw_in_inference_mode_serves_later_training() -> None:
    logit_levels.cache_clear()
    counter_random._indices.cache_clear()
    logits = spread_logits(1000).requires_grad_()
    with torch.inference_mode():
        inside = sample_keep_mask(logits, KEY, NAME)
    outside = sample_keep_mask(logits, KEY, NAME)
    assert torch.equal(outside, inside)
    assert not outside.is_inference()
    (logits * outside).sum().backward()
    assert torch.equal(logits.grad, outside.float())


def test_default_device_and_dtype_make_no_difference() -> None:
    logits = spread_logits(1000)
    expected = sample_keep_mask(logits, KEY, NAME)
    logit_levels.cache_clear()
    counter_random._indices.cache_clear()
    torch.set_default_dtype(torch.float16)
    try:
        with torch.device("meta"):
            assert torch.equal(sample_keep_mask(logits, KEY, NAME), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_masks_have_no_gradient_and_leave_the_logits_alone() -> None:
    logits = spread_logits(100).requires_grad_()
    before = logits.detach().clone()
    assert not sample_keep_mask(logits, KEY, NAME).requires_grad
    assert not threshold_keep_mask(logits).requires_grad
    assert torch.equal(logits, before)


@pytest.mark.gpu
def test_same_mask_on_a_gpu() -> None:
    logits = spread_logits(3 << 20)
    assert torch.equal(sample_keep_mask(logits.cuda(), KEY, NAME).cpu(), sample_keep_mask(logits, KEY, NAME))


# The key, and the two other functions.


def test_a_key_at_another_step_is_of_the_same_run() -> None:
    assert KEY.at(step=7) == DrawKey(seed=1, step=7, micro_batch=0, rank=0)
    assert replace(KEY, rank=4, stream="evaluation").at(step=7, micro_batch=1) == DrawKey(
        seed=1, step=7, micro_batch=1, rank=4, stream="evaluation"
    )


def test_a_numpy_step_draws_the_mask_of_the_same_step() -> None:
    logits = spread_logits(100)
    assert torch.equal(
        sample_keep_mask(logits, DrawKey(step=np.int64(5)), NAME),  # type: ignore[arg-type]
        sample_keep_mask(logits, DrawKey(step=5), NAME),
    )


def test_threshold_drops_a_logit_of_zero() -> None:
    logits = torch.tensor([[-0.0, 0.0], [5e-324, -INFINITY]], dtype=torch.float64)
    assert threshold_keep_mask(logits).tolist() == [[False, False], [True, False]]
