"""The Triton kernels against the eager forms: on a GPU, or in Triton's interpreter where TRITON_INTERPRET=1.

Triton reads that variable when it is imported, so `test_triton_launch.py` runs this file in a process of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from reference_bits import reference_bits16
from supermask.core.counter_random import key_words
from supermask.core.kernels import reference
from supermask.core.kernels.agreement import disagreement
from supermask.core.kernels.arguments import AdamStep
from supermask.errors import ConfigurationError
from triton_inputs import (
    ADAM,
    DEVICE,
    FLOATS,
    INTERPRETED,
    KEY,
    as_int32,
    levels_near,
    same_bits,
    some_weights,
    uniform,
)

GIB = 1 << 30

pytestmark = [] if INTERPRETED else [pytest.mark.gpu]
pytest.importorskip("triton")


@pytest.fixture
def kernels() -> Any:
    from supermask.core.kernels import triton_kernels

    return triton_kernels


# Drawing.


@pytest.mark.parametrize("count", [1, 1023, 1024, 2049])
def test_the_same_mask_for_every_form_of_key(kernels: Any, count: int) -> None:
    logits = uniform(count, 9.0)
    expected = reference.draw_keep_mask(logits, KEY)
    strided = torch.tensor([KEY[0], 99, KEY[1], 99], device=DEVICE)[::2]
    for key in (KEY, torch.tensor(KEY, device=DEVICE), as_int32(KEY), strided, torch.tensor(KEY, device="cpu")):
        assert torch.equal(kernels.draw_keep_mask(logits, key), expected)


@pytest.mark.parametrize("key", [(0, 0), (1, 16), (0xFFFFFFFF, 0xFFFFFFFF), (0x80000000, 0x7FFFFFFF)])
def test_the_same_mask_for_words_of_every_size(kernels: Any, key: tuple[int, int]) -> None:
    logits = uniform(1500, 6.0)
    assert torch.equal(kernels.draw_keep_mask(logits, key), reference.draw_keep_mask(logits, key))


def test_decisions_at_the_very_level(kernels: Any) -> None:
    level = levels_near(8192, KEY)
    below, above = (torch.nextafter(level, torch.tensor(side)) for side in (-math.inf, math.inf))
    assert not kernels.draw_keep_mask(level.to(DEVICE), KEY).any()
    assert not kernels.draw_keep_mask(below.to(DEVICE), KEY).any()
    assert kernels.draw_keep_mask(above.to(DEVICE), KEY).all()


@pytest.mark.parametrize("distance", [1e-6, 5.9e-5, 6.2e-5, 1e-3])
def test_decisions_on_both_sides_of_the_margin(kernels: Any, distance: float) -> None:
    level = levels_near(4096, KEY)
    assert not kernels.draw_keep_mask((level - distance).to(DEVICE), KEY).any()
    assert kernels.draw_keep_mask((level + distance).to(DEVICE), KEY).all()


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_decisions_for_every_kind_of_number(kernels: Any) -> None:
    numbers = [0.0, -0.0, 1e-45, -1e-45, 11.7, 11.79, -11.79, 80.0, -80.0, 88.8, -88.8, 130.0, -130.0, 3e38, -3e38]
    logits = torch.tensor([*numbers, math.inf, -math.inf, math.nan, -math.nan], device=DEVICE).repeat(200)
    assert torch.equal(kernels.draw_keep_mask(logits, KEY), reference.draw_keep_mask(logits, KEY))


def test_the_table_is_read_for_few_weights(kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a table, only the lanes that needed it are drawn wrong.
    from supermask.core.kernels import triton_draw

    count = 1 << 15
    logits = uniform(count, 8.0)
    expected = reference.draw_keep_mask(logits, KEY)
    monkeypatch.setattr(triton_draw, "logit_levels", lambda device: torch.full((65536,), math.inf, device=device))
    monkeypatch.setattr(triton_draw, "BLOCK", 4096)
    dropped = kernels.draw_keep_mask(logits, KEY)
    monkeypatch.setattr(triton_draw, "logit_levels", lambda device: torch.full((65536,), -math.inf, device=device))
    kept = kernels.draw_keep_mask(logits, KEY)
    assert not (dropped & ~expected).any() and not (expected & ~kept).any()
    assert (kept ^ dropped).sum() < count / 1000


@pytest.mark.parametrize("start", [0, 3 << 10, (1 << 31) - 1024, 1 << 31, (1 << 32) - 1024, 1 << 32, (5 << 32) + 2048])
def test_indices_of_any_size(kernels: Any, start: int) -> None:
    from supermask.core.kernels import triton_draw, triton_launch

    globals().update(tl=triton_launch.tl, drawn=triton_draw._drawn)
    logits = torch.zeros(1024, device=DEVICE)
    keep_mask = torch.empty(1024, dtype=torch.int32, device=DEVICE)
    levels = reference.logit_levels(logits.device)
    triton_launch.jit(draw_far_in)[(1,)](keep_mask, logits, levels, start >> 10, *KEY, 1024)
    expected = [reference_bits16(start + lane, KEY) < 32768 for lane in range(1024)]
    assert keep_mask.bool().tolist() == expected


tl: Any = None  # triton.language, once it may be imported
drawn: Any = None


def draw_far_in(keep_mask, mask_logits, levels, first_block, first_word, second_word, block: tl.constexpr):  # type: ignore
    """A kernel for weights far into a tensor that is too large to make."""
    lanes = tl.arange(0, block)
    logits = tl.load(mask_logits + lanes)
    start = first_block.to(tl.int64) * block
    keep = drawn(logits, start, lanes, levels, levels, first_word, second_word, False)
    tl.store(keep_mask + lanes, keep.to(tl.int32))


# Masked weights.


@pytest.mark.parametrize("to", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_masked_weights_of_every_dtype(kernels: Any, dtype: torch.dtype, to: torch.dtype) -> None:
    weight, logits = some_weights(1100, dtype), uniform(1100, 4.0)
    drawn = kernels.draw_masked_weight(weight, logits, torch.tensor(KEY, device=DEVICE), dtype=to)
    assert same_bits(drawn, reference.draw_masked_weight(weight, logits, KEY, dtype=to))
    thresholded = kernels.threshold_masked_weight(weight, logits, dtype=to)
    assert same_bits(thresholded, reference.threshold_masked_weight(weight, logits, dtype=to))


@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not round to bfloat16 to nearest even")
@pytest.mark.parametrize("to", FLOATS)
def test_rounding_to_the_compute_dtype(kernels: Any, to: torch.dtype) -> None:
    weight, logits = uniform(1 << 20, 70_000.0, seed=2), uniform(1 << 20, 4.0)
    drawn = kernels.draw_masked_weight(weight, logits, KEY, dtype=to)
    assert same_bits(drawn, reference.draw_masked_weight(weight, logits, KEY, dtype=to))


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("dtype", FLOATS)
def test_kept_weights_keep_their_bits_and_dropped_ones_are_plus_zero(kernels: Any, dtype: torch.dtype) -> None:
    weight = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1e-7, -1.0], device=DEVICE).to(dtype).repeat(2)
    logits = torch.tensor([100.0, -100.0], device=DEVICE).repeat_interleave(6)
    for masked in (
        kernels.draw_masked_weight(weight, logits, KEY, dtype=dtype),
        kernels.threshold_masked_weight(weight, logits, dtype=dtype),
    ):
        assert same_bits(masked[:6], weight[:6])
        assert not masked[6:].view(torch.uint8).any()


def test_the_threshold_drops_zero_and_what_is_not_a_number(kernels: Any) -> None:
    logits = torch.tensor([0.0, -0.0, 1e-45, -1e-45, math.nan, math.inf, -math.inf], device=DEVICE)
    masked = kernels.threshold_masked_weight(torch.ones_like(logits), logits, dtype=torch.float32)
    assert masked.tolist() == [0, 0, 1, 0, 0, 1, 0]


def test_any_layout_of_the_inputs(kernels: Any) -> None:
    stored = uniform(3 * 40 * 30 + 1, 5.0)
    logits = stored[1:1201].view(40, 30)  # not at a multiple of 16 bytes
    weight = stored[:1200].view(30, 40).T
    strided = stored[:3600].view(40, 30, 3)[..., 1]
    for nu in (logits, strided):
        drawn = kernels.draw_masked_weight(weight, nu, KEY, dtype=torch.float32)
        assert drawn.is_contiguous()
        assert same_bits(drawn, reference.draw_masked_weight(weight, nu, KEY, dtype=torch.float32))
        assert torch.equal(kernels.draw_keep_mask(nu, KEY), reference.draw_keep_mask(nu, KEY))
        gradient = kernels.mask_logit_gradient(strided, weight, nu, through=False)
        assert same_bits(gradient, reference.mask_logit_gradient(strided, weight, nu, through=False))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1, 1, 1)])
def test_shapes_of_no_weight_and_of_one(kernels: Any, shape: tuple[int, ...]) -> None:
    logits, weight = torch.full(shape, 9.0, device=DEVICE), torch.full(shape, 2.0, device=DEVICE)
    state = [logits.clone(), torch.zeros_like(logits), torch.zeros_like(logits)]
    for got in (
        kernels.draw_keep_mask(logits, (0, 0)),
        kernels.draw_masked_weight(weight, logits, (0, 0), dtype=torch.bfloat16),
        kernels.threshold_masked_weight(weight, logits, dtype=torch.float16),
        kernels.mask_logit_gradient(weight, weight, logits, through=True),
    ):
        assert got.shape == shape
    kernels.adam_step_(state[0], weight, *state[1:], AdamStep(**ADAM, step=1))
    kernels.adam_step_(state[0], weight, *state[1:], AdamStep(**ADAM, step=2), weight=weight)


# Gradients.


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_gradient_that_stops_bit_for_bit(kernels: Any, dtype: torch.dtype) -> None:
    incoming, weight, logits = some_weights(1500, dtype), uniform(1500, 1.0, seed=3), uniform(1500, 8.0)
    gradient = kernels.mask_logit_gradient(incoming, weight, logits, through=False)
    assert same_bits(gradient, reference.mask_logit_gradient(incoming, weight, logits, through=False))


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_gradient_through_the_sigmoid(kernels: Any, dtype: torch.dtype) -> None:
    logits = torch.cat([uniform(1500, 80.0), uniform(500, 6.0)])
    incoming, weight = some_weights(2000, dtype), uniform(2000, 1.0, seed=3)
    gradient = kernels.mask_logit_gradient(incoming, weight, logits, through=True).double()
    probability = torch.sigmoid(-logits.double().abs())
    exact = incoming.double() * weight.double() * probability * (1 - probability)
    normal = exact.abs() > 1e-37
    torch.testing.assert_close(gradient[normal], exact[normal], rtol=1e-5, atol=0.0)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_the_gradient_at_the_ends(kernels: Any) -> None:
    logits = torch.tensor([0.0, 100.0, -100.0, 3e38, math.inf, -math.inf, math.nan], device=DEVICE)
    ones = torch.ones_like(logits)
    gradient = kernels.mask_logit_gradient(ones, ones, logits, through=True)
    assert gradient[0] == 0.25
    assert (gradient[1:6].abs() < 1e-38).all()
    assert gradient[6].isnan()


# Refusals; `arguments.py` has the rest.


def test_what_does_not_fit_is_refused(kernels: Any) -> None:
    logits, weight = torch.zeros(4, 3, device=DEVICE), torch.zeros(4, 3, device=DEVICE)
    refused: list[Callable[[], object]] = [
        lambda: kernels.draw_masked_weight(weight.T, logits, KEY, dtype=torch.float32),
        lambda: kernels.draw_masked_weight(weight, logits, KEY, dtype=torch.int32),
        lambda: kernels.threshold_masked_weight(weight.int(), logits, dtype=torch.float32),
        lambda: kernels.mask_logit_gradient(weight.T, weight, logits, through=True),
        lambda: kernels.adam_step_(logits.T, weight.T, logits.T, logits.T, AdamStep(**ADAM, step=1)),
        lambda: kernels.adam_step_(
            logits.half(), weight, logits, logits, AdamStep(**ADAM, step=1), weight=weight, through=True
        ),
        lambda: kernels.adam_step_(logits, weight, logits, logits, AdamStep(**ADAM, step=1), weight=weight.T),
    ]
    for call in refused:
        with pytest.raises(ConfigurationError):
            call()


# On a GPU alone.


@pytest.mark.skipif(INTERPRETED, reason="the interpreter has no stream")
def test_nothing_waits_for_the_device(kernels: Any) -> None:
    logits, weight = uniform(1 << 16, 8.0), some_weights(1 << 16, torch.bfloat16)
    key, scale = torch.tensor(KEY, device=DEVICE), torch.tensor(0.5, device=DEVICE)
    state = [logits.clone(), torch.zeros_like(logits), torch.zeros_like(logits)]

    def step() -> Tensor:
        masked = kernels.draw_masked_weight(weight, logits, key, dtype=torch.bfloat16)
        kernels.threshold_masked_weight(weight, logits, dtype=torch.bfloat16)
        gradient = kernels.mask_logit_gradient(masked, weight, logits, through=True)
        kernels.adam_step_(state[0], gradient, *state[1:], AdamStep(**ADAM, step=1, gradient_scale=scale))
        adam = AdamStep(**ADAM, step=2, gradient_scale=scale)
        kernels.adam_step_(state[0], masked, *state[1:], adam, weight=weight, through=True)
        return masked

    step()  # compiles, and makes the table
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(INTERPRETED, reason="the interpreter has no graphs")
def test_a_captured_graph_draws_anew_when_its_key_changes(kernels: Any) -> None:
    logits, weight = uniform(1 << 16, 8.0), some_weights(1 << 16, torch.bfloat16)
    key = torch.tensor(KEY, device=DEVICE)
    kernels.draw_masked_weight(weight, logits, key, dtype=torch.bfloat16)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        masked = kernels.draw_masked_weight(weight, logits, key, dtype=torch.bfloat16)
    for words in (KEY, key_words("another")):
        key.copy_(torch.tensor(words))
        graph.replay()
        assert same_bits(masked, reference.draw_masked_weight(weight, logits, words, dtype=torch.bfloat16))


@pytest.mark.skipif(INTERPRETED, reason="needs a GPU")
def test_the_mask_of_the_cpu(kernels: Any) -> None:
    from supermask.core.kernels import cpu

    logits = uniform(3_000_001, 9.0)
    assert torch.equal(kernels.draw_keep_mask(logits, KEY).cpu(), cpu.draw_keep_mask(logits.cpu(), KEY))


@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not round to bfloat16 to nearest even")
def test_the_self_check_agrees() -> None:
    assert disagreement("triton", DEVICE) == ""


@pytest.mark.skipif(INTERPRETED, reason="needs two GPUs")
def test_a_device_that_is_not_the_current_one(kernels: Any) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    logits = uniform(5000, 9.0).to("cuda:1")
    assert torch.equal(kernels.draw_keep_mask(logits, KEY), reference.draw_keep_mask(logits, KEY))
    assert torch.cuda.current_device() == 0


@pytest.mark.skipif(INTERPRETED, reason="takes some minutes in the interpreter")
def test_more_weights_than_an_int32_counts(kernels: Any) -> None:
    if torch.cuda.mem_get_info()[0] < 24 * GIB:
        pytest.skip("needs 24 GiB of free GPU memory")
    logits = torch.zeros((1 << 31) + 4096, device=DEVICE)
    keep_mask = kernels.draw_keep_mask(logits, KEY)
    expected = [reference_bits16(index, KEY) < 32768 for index in range((1 << 31) - 2048, (1 << 31) + 4096)]
    assert keep_mask[-6144:].tolist() == expected
