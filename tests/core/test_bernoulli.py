import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from reference_bits import reference_bits16
from supermask.core import DrawKey, counter_random, sample_keep_mask, threshold_keep_mask
from supermask.core.counter_random import key_words
from supermask.core.kernels import use_backend
from supermask.core.kernels.reference import logit_levels

KEY = DrawKey(seed=1, step=2, micro_batch=3, rank=0)
NAME = "encoder.layer.0.attention.self.query.weight"
INFINITY = float("inf")


def spread_logits(count: int) -> Tensor:
    """Mask logits over [-6, 6], in no order."""
    return torch.from_numpy(np.random.default_rng(5).uniform(-6, 6, count)).float()


# The draw itself.


def test_the_same_mask_as_plain_python() -> None:
    logits, kept = spread_logits(20_000), []
    words = key_words(KEY.seed, KEY.step, KEY.micro_batch, KEY.rank, KEY.stream, NAME)
    for index, logit in enumerate(logits.tolist()):
        share = (reference_bits16(index, words) + 0.5) / 65536
        kept.append(logit > float(np.float32(math.log(share / (1 - share)))))
    for backend in ("eager", "cpu"):
        with use_backend(backend):
            assert sample_keep_mask(logits, KEY, NAME).tolist() == kept


def test_golden_mask() -> None:
    keep_mask = sample_keep_mask(torch.linspace(-3, 3, 32), DrawKey(seed=1, step=2), "layer.weight")
    assert "".join("x" if keep else "." for keep in keep_mask) == "........x.xx..x.x.x.xxx.xxxxxx.x"


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


def test_what_is_not_a_number_is_dropped() -> None:
    logits = torch.tensor([float("nan"), 20.0]).requires_grad_()
    for keep_mask in (sample_keep_mask(logits, KEY, NAME), threshold_keep_mask(logits)):
        assert keep_mask.tolist() == [False, True] and not keep_mask.requires_grad


# A pure function of the key.


def test_order_of_draws_global_seed_and_other_draws_make_no_difference() -> None:
    logits = spread_logits(5000)
    torch.manual_seed(0)
    first = sample_keep_mask(logits, KEY, NAME)
    torch.manual_seed(99)
    torch.rand(17)
    sample_keep_mask(logits, KEY.at(step=9), "other.weight")
    before = torch.get_rng_state()
    assert torch.equal(sample_keep_mask(logits, KEY, NAME), first)
    assert torch.equal(torch.get_rng_state(), before)


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
