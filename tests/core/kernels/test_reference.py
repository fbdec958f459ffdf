"""One matrix that holds every backend to the eager forms; `test_bernoulli` holds these to plain Python."""

import itertools
import math
import os
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supermask.core.counter_random import key_words, random_bits16
from supermask.core.kernels import Backend, Kernels, reference
from supermask.errors import ConfigurationError

KEY = key_words(3, 14, "encoder.layer.0.weight")
INTEGERS = {
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
    torch.float64: torch.int64,
}
FLOATS = tuple(INTEGERS)
INFINITY, NAN = math.inf, math.nan

# How far σ'(ν) may be from the exact one, relatively.
SLOPE_BOUNDS = {"eager": 4e-7, "cpu": 4e-7, "triton": 1e-5}

# Triton's interpreter takes milliseconds for each 1024 weights.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SHAPES: dict[str, tuple[int, ...]] = {"nothing": (0, 7), "scalar": (), "blocks": (33, 62)}
if not INTERPRETED:
    SHAPES |= {"one": (1,), "odd": (7, 13), "over a block": (129,), "layer": (384, 384)}
LAYOUTS = ("contiguous", "transposed", "strided", "shifted")


def bits(values: Tensor) -> Tensor:
    return values.contiguous().view(INTEGERS[values.dtype])


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Equal to the last bit, whatever bits stand for what is not a number."""
    if one.dtype != other.dtype or one.shape != other.shape or not torch.equal(one.isnan(), other.isnan()):
        return False
    return torch.equal(bits(one.nan_to_num(0.0)), bits(other.nan_to_num(0.0)))


def own_levels(count: int) -> Tensor:
    """For each index the very level that its number is compared with: nowhere is a wrong decision nearer."""
    numbers = [piece.clone() for _, piece in random_bits16(count, KEY)]
    return reference.logit_levels(torch.device("cpu"))[torch.cat(numbers) if numbers else []]


def logits_of(kind: str, shape: tuple[int, ...]) -> Tensor:
    count = math.prod(shape)
    random = torch.from_numpy(np.random.default_rng(1).normal(0, 4, count)).float()
    if kind == "kept":
        logits = torch.full((count,), 5.0)
    elif kind == "dropped":
        logits = torch.full((count,), -5.0)
    elif kind == "random":
        logits = random
    elif kind == "levels":
        steps = torch.arange(count) % 3 - 1  # the level itself, the next float below, the next above
        logits = torch.nextafter(own_levels(count), own_levels(count) + steps)
    else:
        special = [0.0, -0.0, 1e-45, 11.79, 11.8, -11.78, -11.8, 12.5, -12.5, 90.0, -90.0, 3e38, -3e38]
        logits = torch.tensor([*special, INFINITY, -INFINITY, NAN, -NAN]).repeat(count // 17 + 1)[:count]
    return logits.reshape(shape)


def lay(values: Tensor, layout: str) -> Tensor:
    """The same numbers, lying otherwise in memory."""
    if layout == "transposed":
        return values.t().contiguous().t() if values.dim() == 2 else values
    if layout == "strided":
        return torch.stack([values, torch.zeros_like(values)], dim=-1)[..., 0]
    if layout == "shifted":  # off every boundary of 16 bytes
        return torch.cat([values.new_zeros(1), values.reshape(-1)])[1:].view(values.shape)
    return values


def weights_of(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 2) -> Tensor:
    """Weights of all magnitudes that a dtype has, down to subnormal ones and up to infinity."""
    random = np.random.default_rng(seed)
    count = math.prod(shape)
    values = random.normal(0, 1, count) * 10.0 ** random.integers(-9, 6, count)
    weights = torch.from_numpy(values).reshape(shape).to(dtype)
    if count > 8:
        weights.view(-1)[:4] = torch.tensor([INFINITY, -INFINITY, -0.0, NAN]).to(dtype)
    return weights


def exact_weights(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Weights that all dtypes have exactly, minus zero too: Triton's interpreter does not round as devices do."""
    weights = torch.from_numpy(np.random.default_rng(2).uniform(-2, 2, math.prod(shape))).bfloat16()
    weights[::7] = -0.0
    return weights.reshape(shape).to(dtype)


# Drawing: bit for bit.


@pytest.mark.parametrize("kind", ["kept", "dropped", "random", "levels", "special"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_keep_masks(kernels: Kernels, shape: tuple[int, ...], kind: str) -> None:
    logits = logits_of(kind, shape)
    expected = reference.draw_keep_mask(logits, KEY)
    for layout in LAYOUTS:
        keep_mask = kernels.draw_keep_mask(lay(logits, layout), KEY)
        assert keep_mask.dtype == torch.bool and keep_mask.is_contiguous()
        assert torch.equal(keep_mask, expected)


@pytest.mark.parametrize("distance", [0.0, 1e-7, 1e-6, 3e-6, 1e-5, 3e-5, 5.9e-5, 6.2e-5, 1e-4, 1e-3])
def test_decisions_next_to_a_level(kernels: Kernels, distance: float) -> None:
    # As far away as an approximate comparison may or may not trust itself. One weight in 128 only, because the CPU
    # draws a block again as a whole where it does not.
    count, apart = (1 << 12, 1) if INTERPRETED else (1 << 17, 128)
    level = own_levels(count)
    above = torch.nextafter(level + distance, torch.tensor(INFINITY))
    for lane in range(0, apart, 8):
        here = torch.arange(count) % apart == lane
        assert not bool(kernels.draw_keep_mask(torch.where(here, level - distance, -20.0), KEY).any())
        assert bool(kernels.draw_keep_mask(torch.where(here, above, 20.0), KEY).all())


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("key", [(0, 0), (2**32 - 1, 2**32 - 1), (2**31, 2**31 - 1)])
def test_keys_of_every_size_and_logits_taken_in_float32(
    kernels: Kernels, key: tuple[int, int], dtype: torch.dtype
) -> None:
    logits = logits_of("random", (1000,)).to(dtype)
    assert torch.equal(kernels.draw_keep_mask(logits, key), reference.draw_keep_mask(logits.float(), key))


@pytest.mark.parametrize("kind", ["random"] if INTERPRETED else ["kept", "random", "special"])
@pytest.mark.parametrize("to", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_masked_weights(kernels: Kernels, backend: Backend, dtype: torch.dtype, to: torch.dtype, kind: str) -> None:
    for name, shape in SHAPES.items():
        if name == "layer" and kind != "random":
            continue
        make = exact_weights if backend == "triton" and dtype != to else weights_of
        weight, logits = make(shape, dtype), logits_of(kind, shape)
        drawn = reference.draw_masked_weight(weight, logits, KEY, dtype=to)
        thresholded = reference.threshold_masked_weight(weight, logits, dtype=to)
        for layout in LAYOUTS:
            tensors = lay(weight, layout), lay(logits, LAYOUTS[LAYOUTS.index(layout) - 1])
            masked = kernels.draw_masked_weight(*tensors, KEY, dtype=to)
            assert masked.is_contiguous() and same_bits(masked, drawn)
            assert same_bits(kernels.threshold_masked_weight(*tensors, dtype=to), thresholded)


@pytest.mark.parametrize("dtype", FLOATS)
def test_kept_weights_have_exactly_their_bits_and_dropped_ones_are_plus_zero(
    kernels: Kernels, dtype: torch.dtype
) -> None:
    integers = INTEGERS[dtype]
    limits = torch.iinfo(integers)
    # Any bit pattern at all: denormals, infinities and not-a-numbers with every payload among them.
    drawn = np.random.default_rng(3).integers(limits.min, limits.max, 3000, dtype=np.int64, endpoint=True)
    weight = torch.from_numpy(drawn).to(integers).view(dtype)
    logits = logits_of("random", (3000,))
    masked = kernels.draw_masked_weight(weight, logits, KEY, dtype=dtype)
    keep_mask = reference.draw_keep_mask(logits, KEY)
    assert torch.equal(bits(masked), torch.where(keep_mask, bits(weight), torch.zeros((), dtype=integers)))


@pytest.mark.skipif(INTERPRETED, reason="Triton's interpreter does not round as devices do")
@pytest.mark.parametrize("to", [torch.bfloat16, torch.float16])
def test_narrowing_rounds_every_float_as_torch_does(kernels: Kernels, to: torch.dtype) -> None:
    # Every upper half with lower halves around each tie.
    lower = torch.tensor([0, 1, 0x0FFF, 0x1000, 0x1001, 0x2FFF, 0x3000, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    weight = ((torch.arange(-(1 << 15), 1 << 15)[:, None] << 16) + lower).to(torch.int32).view(torch.float32).flatten()
    kept = torch.full(weight.shape, 20.0)
    assert same_bits(kernels.draw_masked_weight(weight, kept, KEY, dtype=to), weight.to(to))


@pytest.mark.skipif(INTERPRETED, reason="Triton's interpreter flushes what is subnormal")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_widening_is_exact_for_every_number(kernels: Kernels, dtype: torch.dtype) -> None:
    weight = torch.arange(-(1 << 15), 1 << 15).to(torch.int16).view(dtype)
    kept = torch.full(weight.shape, 20.0)
    for to in (torch.float32, torch.float64):
        assert same_bits(kernels.draw_masked_weight(weight, kept, KEY, dtype=to), weight.to(to))


def test_a_tensor_given_for_the_result_is_written(kernels: Kernels) -> None:
    weight, logits = weights_of((20, 30), torch.bfloat16), logits_of("random", (20, 30))
    out = torch.full((20, 30), 7.0, dtype=torch.bfloat16)
    assert kernels.draw_masked_weight(weight, logits, KEY, dtype=torch.bfloat16, out=out) is out
    assert same_bits(out, reference.draw_masked_weight(weight, logits, KEY, dtype=torch.bfloat16))
    assert kernels.threshold_masked_weight(weight, logits, dtype=torch.bfloat16, out=out) is out
    assert same_bits(out, reference.threshold_masked_weight(weight, logits, dtype=torch.bfloat16))


def test_the_threshold_drops_zero_and_what_is_not_a_number(kernels: Kernels) -> None:
    logits = torch.tensor([0.0, -0.0, 1e-45, -1e-45, NAN, INFINITY, -INFINITY])
    masked = kernels.threshold_masked_weight(torch.ones(7), logits, dtype=torch.float32)
    assert masked.tolist() == [0, 0, 1, 0, 0, 1, 0]


# The gradient of the mask logits.


def slope(logits: Tensor) -> Tensor:
    """σ'(ν) in float64."""
    small = torch.sigmoid(-logits.double().abs())
    return small - small.square()


@pytest.mark.parametrize("dtypes", [*itertools.product(FLOATS, FLOATS)], ids=str)
def test_a_gradient_that_stops_is_the_same_bit_for_bit(kernels: Kernels, dtypes: Any) -> None:
    for shape in SHAPES.values():
        gradient, weight = weights_of(shape, dtypes[0], seed=8), weights_of(shape, dtypes[1])
        logits = logits_of("random", shape)
        expected = reference.mask_logit_gradient(gradient, weight, logits, through=False)
        for layout in LAYOUTS:
            tensors = (lay(gradient, layout), lay(weight, "strided"), lay(logits, layout))
            result = kernels.mask_logit_gradient(*tensors, through=False)
            assert result.is_contiguous() and same_bits(result, expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_gradient_through_the_sigmoid(kernels: Kernels, backend: Backend, dtype: torch.dtype) -> None:
    logits = torch.cat([torch.linspace(-80, 80, 20_001), logits_of("random", (20_000,))])
    gradient, weight = (torch.where(logits > 0, 1.5, -0.75).to(dtype) for _ in range(2))
    exact = (gradient.double() * weight.double()) * slope(logits)
    result = kernels.mask_logit_gradient(gradient, weight, logits, through=True)
    assert float(((result - exact) / exact).abs().max()) < SLOPE_BOUNDS[backend]


def test_a_gradient_through_the_sigmoid_at_the_ends(kernels: Kernels, backend: Backend) -> None:
    logits = torch.tensor([86.0, 87.5, -88.0, -95.0, 3e38, INFINITY, -INFINITY, NAN, 0.0, -0.0])
    ones = torch.ones(logits.shape)
    result = kernels.mask_logit_gradient(ones, ones, logits, through=True)
    assert bool(result[7].isnan()) and result[8:].tolist() == [0.25, 0.25]
    far = 1e-34 if backend == "triton" else 1.2e-38
    torch.testing.assert_close(result[:7].double(), slope(logits[:7]), rtol=SLOPE_BOUNDS[backend], atol=far)


@pytest.mark.parametrize("through", [False, True])
def test_what_is_not_finite_comes_out_in_the_gradient(kernels: Kernels, through: bool) -> None:
    numbers = [INFINITY, -INFINITY, NAN, 1.0, 0.0]
    gradient, weight = (torch.tensor(pair) for pair in zip(*itertools.product(numbers, numbers), strict=True))
    logits = torch.full(gradient.shape, 3.0)
    expected = reference.mask_logit_gradient(gradient, weight, logits, through=through)
    result = kernels.mask_logit_gradient(gradient, weight, logits, through=through)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=0, equal_nan=True)


@pytest.mark.parametrize("through", [False, True])
def test_a_gradient_may_take_the_place_of_the_weights(kernels: Kernels, through: bool) -> None:
    gradient, weight = weights_of((301,), torch.float32, seed=8), weights_of((301,), torch.float32)
    logits = logits_of("random", (301,))
    expected = kernels.mask_logit_gradient(gradient, weight, logits, through=through)
    assert kernels.mask_logit_gradient(gradient, weight, logits, through=through, out=gradient) is gradient
    assert same_bits(gradient, expected)


# What is not written, and what is refused.


def test_nothing_but_the_result_is_written(kernels: Kernels) -> None:
    tensors = [weights_of((333,), torch.float32, seed=seed) for seed in (1, 2)] + [logits_of("special", (333,))]
    before = [tensor.clone() for tensor in tensors]
    kernels.draw_masked_weight(tensors[1], tensors[2], KEY, dtype=torch.bfloat16)
    kernels.mask_logit_gradient(*tensors, through=True)
    assert all(torch.equal(bits(now), bits(then)) for now, then in zip(tensors, before, strict=True))


def test_memory_around_a_result_stays(kernels: Kernels) -> None:
    room = torch.full((700,), 7.0)
    weight, logits = weights_of((300,), torch.float32), logits_of("random", (300,))
    kernels.draw_masked_weight(weight, logits, KEY, dtype=torch.float32, out=room[200:500])
    kernels.mask_logit_gradient(weight, weight, logits, through=True, out=room[200:500])
    assert bool((room[:200] == 7).all()) and bool((room[500:] == 7).all())


def test_tensors_that_take_gradients_are_taken_as_numbers(kernels: Kernels) -> None:
    weight, logits = weights_of((50,), torch.float32), logits_of("random", (50,)).requires_grad_()
    assert not kernels.draw_masked_weight(weight, logits, KEY, dtype=torch.float32).requires_grad
    assert not kernels.draw_keep_mask(logits, KEY).requires_grad
    assert not kernels.mask_logit_gradient(weight, weight, logits, through=True).requires_grad


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (r"weight and mask logits need one shape.*\(3, 4\).*\(4, 3\)", {"weight": torch.ones(3, 4)}),
        (r"mask logits are float32.*bfloat16", {"mask_logits": torch.zeros(4, 3).bfloat16()}),
        (r"weight is float32.*received torch.int32", {"weight": torch.ones(4, 3).int()}),
        (r"weight and mask logits need one device.*meta", {"weight": torch.ones(4, 3, device="meta")}),
        (r"masked weight.*torch.int8", {"dtype": torch.int8}),
        (r"out is to be contiguous torch.float32", {"out": torch.ones(3, 4)}),
        (r"out is to be contiguous torch.float32", {"out": torch.ones(4, 3).bfloat16()}),
        (r"out is to be contiguous torch.float32", {"out": torch.ones(3, 4).t()}),
        (r"out is to be contiguous torch.float32", {"out": torch.ones(4, 3, device="meta")}),
        (r"weight gradient and mask logits", {"weight_gradient": torch.ones(2, 3)}),
    ],
)
def test_what_does_not_fit_is_refused(kernels: Kernels, message: str, change: dict[str, Any]) -> None:
    tensors = {"weight": torch.ones(4, 3), "mask_logits": torch.zeros(4, 3)}
    with pytest.raises(ConfigurationError, match=message):
        if "weight_gradient" in change:
            kernels.mask_logit_gradient(**tensors, **change, through=True)
        kernels.threshold_masked_weight(**{**tensors, "dtype": torch.float32, **change})
    if "weight_gradient" not in change:
        with pytest.raises(ConfigurationError, match=message):
            kernels.draw_masked_weight(**{**tensors, "key": KEY, "dtype": torch.float32, **change})
