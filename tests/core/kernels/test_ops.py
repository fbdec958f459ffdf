"""The masked weight as an operation: what autograd and the compiler are told of it, against its formula."""

import itertools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from supermask.core import DrawKey, masked_weight, sample_keep_mask, threshold_keep_mask
from supermask.core.kernels import ops, use_backend
from supermask.core.straight_through import GradientConvention
from supermask.errors import ConfigurationError

KEY = DrawKey(seed=3, step=5, micro_batch=1, rank=2)
NAME = "layer.weight"
DTYPES = ((torch.float32, torch.float32), (torch.float32, torch.bfloat16), (torch.bfloat16, torch.bfloat16))
CONVENTIONS: tuple[GradientConvention, ...] = ("stop", "through")


def problem(dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = (6, 10)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    weight, logits = (torch.randn(shape, generator=generator) for _ in range(2))
    return weight.to(dtype), (2 * logits).requires_grad_()


def traced() -> ops.TracedKey:
    return ops.TracedKey(ops.key_tensor(KEY), KEY.seed, NAME)


KEYS: dict[str, Callable[[], ops.MaskKey]] = {"words": lambda: KEY.words(NAME), "traced": traced, "none": lambda: None}


# The operation itself.


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("dtypes", DTYPES)
def test_weight_and_gradient_are_those_of_the_formula(kind: str, convention: GradientConvention, dtypes: Any) -> None:
    weight, logits = problem(dtypes[0])
    keep = threshold_keep_mask(logits) if kind == "none" else sample_keep_mask(logits, KEY, NAME)
    assert 0 < int(keep.sum()) < keep.numel()
    incoming = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)).to(dtypes[1])
    masked = ops.masked_by_logits(weight, logits, KEYS[kind](), dtype=dtypes[1], through=convention == "through")
    assert masked.dtype == dtypes[1]
    assert torch.equal(masked.view(torch.uint8), torch.where(keep, weight.to(dtypes[1]), 0.0).view(torch.uint8))
    masked.backward(incoming)
    surrogate = logits.detach().double().requires_grad_()
    passed_on = surrogate if convention == "stop" else surrogate.sigmoid()
    (weight.double() * passed_on).backward(incoming.double())
    assert logits.grad is not None and logits.grad.dtype == torch.float32
    torch.testing.assert_close(logits.grad, surrogate.grad.float(), rtol=3e-6, atol=1e-9)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_it_is_what_core_does_with_a_mask_at_hand(convention: GradientConvention) -> None:
    weight, logits = problem()
    theirs = logits.detach().clone().requires_grad_()
    keep = sample_keep_mask(logits, KEY, NAME)
    incoming = torch.randn(weight.shape)
    with use_backend("eager"):
        masked = ops.masked_by_logits(
            weight, logits, KEY.words(NAME), dtype=weight.dtype, through=convention == "through"
        )
        masked.backward(incoming)
    other = masked_weight(weight, theirs, keep, gradient=convention)
    other.backward(incoming)
    assert torch.equal(masked.view(torch.int32), other.view(torch.int32))
    assert torch.equal(logits.grad, theirs.grad)


@pytest.mark.parametrize("kind", KEYS)
def test_only_what_exists_anyway_is_saved(kind: str) -> None:
    weight, logits = problem()
    key, saved = KEYS[kind](), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda kept: kept):
        ops.masked_by_logits(weight, logits, key, dtype=weight.dtype, through=True)
    pointers = {tensor.untyped_storage().data_ptr() for tensor in saved}
    assert pointers == {tensor.untyped_storage().data_ptr() for tensor in (weight, logits)}
    with torch.no_grad():
        assert not ops.masked_by_logits(weight, logits, key, dtype=weight.dtype, through=True).requires_grad


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    weight, logits = problem()
    masked = ops.masked_by_logits(weight, logits, KEY.words(NAME), dtype=weight.dtype, through=True)
    (gradient,) = torch.autograd.grad(masked.square().sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# Keys as tensors.


@pytest.mark.parametrize(
    "key",
    [
        DrawKey(),
        KEY,
        DrawKey(seed=9, step=2**40, stream="training/12"),
        DrawKey(step=7, stream="evaluation"),
        DrawKey(stream="ν" * 16),
        DrawKey(stream=""),
    ],
)
def test_a_key_comes_out_of_its_tensor_again(key: DrawKey) -> None:
    tensor = ops.key_tensor(key)
    assert tensor.shape == (7,) and tensor.dtype == torch.int64 and tensor.device.type == "cpu"
    weight, logits = problem()
    for name in (NAME, "другой"):
        drawn = ops.draw_masked_weight(weight, logits, tensor, key.seed, name, weight.dtype, False)
        assert torch.equal(drawn, torch.where(sample_keep_mask(logits, key, name), weight, 0.0))


def test_a_long_stream_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="up to 32 bytes"):
        ops.key_tensor(DrawKey(stream="ν" * 17))


# What compilers are told.


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dtypes", DTYPES[1:2])
def test_the_operators_keep_what_they_promise_the_compiler(dtypes: Any) -> None:
    weight, logits = problem(dtypes[0], (4, 6))
    key, incoming = ops.key_tensor(KEY), torch.randn(4, 6).to(dtypes[1])
    arguments: dict[Any, tuple[Any, ...]] = {
        ops.draw_masked_weight: (weight, logits, key, 3, NAME, dtypes[1], True),
        ops.threshold_masked_weight: (weight, logits, dtypes[1], True),
        ops.redraw_masked_weight: (weight, logits.detach(), key, 3, NAME, dtypes[1], incoming),
        ops.mask_logit_gradient: (incoming, weight, logits.detach(), True),
    }
    for operator, given in arguments.items():
        torch.library.opcheck(operator, given)


def test_redrawing_does_not_read_the_gradient() -> None:
    weight, logits = problem()
    key = ops.key_tensor(KEY)
    drawn = ops.draw_masked_weight(weight, logits, key, 3, NAME, weight.dtype, True)
    again = ops.redraw_masked_weight(weight, logits, key, 3, NAME, weight.dtype, torch.full_like(weight, torch.nan))
    assert torch.equal(drawn, again)


def test_without_a_compiled_graph_the_compiler_is_not_even_loaded() -> None:
    """It takes more than a second."""
    code = (
        "import sys, torch\n"
        "from supermask.core.kernels.masked_linear import masked_linear\n"
        "from supermask.core.kernels.ops import masked_by_logits\n"
        "weight, logits = torch.ones(2, 2), torch.ones(2, 2, requires_grad=True)\n"
        "masked_linear(torch.ones(1, 2), weight, logits, None, (1, 2), through=True).sum().backward()\n"
        "masked_by_logits(weight, logits, (1, 2), dtype=torch.bfloat16, through=True).sum().backward()\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# The dtype of the computation.


@pytest.mark.parametrize(
    ("dtype", "autocast"),
    list(itertools.product((torch.float32, torch.bfloat16, torch.float16, torch.float64), (None, torch.bfloat16))),
)
def test_the_dtype_is_the_one_that_a_product_is_taken_in(dtype: torch.dtype, autocast: torch.dtype | None) -> None:
    weight = torch.ones(2, 2, dtype=dtype)
    with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
        product = torch.nn.functional.linear(torch.ones(1, 2, dtype=dtype), weight)
        assert ops.compute_dtype(weight) == product.dtype
        with torch.autocast("cpu", enabled=False):
            assert ops.compute_dtype(weight) == dtype
    assert ops.compute_dtype(weight.to("meta")) == dtype
