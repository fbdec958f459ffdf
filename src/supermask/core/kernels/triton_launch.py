"""How Triton kernels are defined, launched and given random numbers; the one place that imports Triton."""
# mypy: allow-untyped-defs, allow-incomplete-defs
# Kernels have no annotations but `tl.constexpr`: Triton would read others as types of its own.

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from supermask.core import counter_random
from supermask.core.counter_random import KeyWords
from supermask.core.kernels.backend import OLDEST_TRITON
from supermask.errors import MissingDependencyError

try:
    import triton
    from triton import language as tl
    from triton.language import core
except ImportError as error:
    raise MissingDependencyError(
        f"the Triton kernels need the library triton, which cannot be imported here ({error}); it comes with torch for "
        "CUDA on Linux, else `pip install 'triton>=3.2'`, or choose another backend"
    ) from error

__all__ = ["BLOCK", "LAUNCH", "jit", "key_arguments", "launch", "random_numbers", "scale_arguments", "tl"]

# 8 weights a thread: one 16-byte access to bfloat16 and two to float32, all independent, so that a multiprocessor has
# some 50 KB of reads under way, twice what the memory of an H200 needs to stay busy. More a thread takes registers
# from the other warps, which hide the arithmetic. A fixed size needs no autotuning, whose timing runs wait for the GPU.
BLOCK = 1024
# Which products and sums are fused is said outright: the default differs between versions, and one warns of it.
LAUNCH: dict[str, Any] = {"num_warps": 4, "enable_fp_fusion": True}

if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST_TRITON:
    raise MissingDependencyError(
        f"the Triton kernels need triton {OLDEST_TRITON[0]}.{OLDEST_TRITON[1]} or newer, received "
        f"{triton.__version__}; upgrade torch, which brings its own, or choose another backend"
    )


def jit(function: Callable[..., Any]) -> Any:
    """A kernel, or a function for kernels to call.

    Scalars that change from step to step must not each compile a kernel of their own: words of a key are told from
    other integers by name, and how a key lies in memory is of no interest.
    """
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return triton.jit(
        function,
        do_not_specialize=[name for name in names if name in ("first_word", "second_word")],
        do_not_specialize_on_alignment=[name for name in names if name in ("key", "scale")],
    )


def launch(kernel: Any, block: int, result: Tensor, *arguments: Any, options: dict[str, Any] = LAUNCH) -> None:
    """Run a kernel over a tensor's weights, so many a program, on the current stream of its device; none is no work."""
    # Triton launches on the current device. Switching costs as much as a launch, and is hardly ever needed.
    elsewhere = result.is_cuda and result.get_device() != torch.cuda.current_device()
    if result.numel():
        with torch.cuda.device(result.device) if elsewhere else contextlib.nullcontext():
            kernel[(-(-result.numel() // block),)](result, *arguments, **options)


_FIRST, _SECOND, _THIRD = (tl.constexpr(multiplier) for multiplier in counter_random._MULTIPLIERS)


@jit
def _mixed(value, multiplier: tl.constexpr):
    """One round of the hash on uint32."""
    return core.mul(value ^ (value >> 16), multiplier, sanitize_overflow=False)


@jit
def random_numbers(lanes, start, key, first_word, second_word, key_in_memory: tl.constexpr):
    """The 16-bit numbers, as uint32, of the indices start + lanes, which share their upper 32 bits."""
    if key_in_memory:
        first_word = tl.load(key)
        second_word = tl.load(key + 1)
    low = core.add(first_word.to(tl.uint32), start.to(tl.uint32), sanitize_overflow=False)
    high = core.add(second_word.to(tl.uint32), (start >> 32).to(tl.uint32), sanitize_overflow=False)
    bits = core.add(lanes.to(tl.uint32), low, sanitize_overflow=False)
    bits = _mixed(_mixed(bits, _FIRST), _SECOND)
    return _mixed(core.add(bits, high, sanitize_overflow=False), _THIRD) >> 16


def key_arguments(key: KeyWords | Tensor, unused: Tensor) -> tuple[Tensor, int, int, bool]:
    """What a kernel takes for a key: a pointer or two words, and which of the two."""
    if isinstance(key, Tensor):
        if key.device == unused.device:
            return key.contiguous(), 0, 0, True
        key = tuple(key.tolist())
    return unused, _signed(key[0]), _signed(key[1]), False


def scale_arguments(gradient_scale: float | Tensor, on: Tensor) -> tuple[Tensor, float, bool]:
    """What a kernel takes for a scale: a pointer or a number, and which of the two.

    Args:
        gradient_scale: a number, or a tensor of one element; it is read when the kernel runs if it is where `on` is.
        on: any tensor of the kernel's.
    """
    if isinstance(gradient_scale, Tensor) and gradient_scale.device == on.device:
        return gradient_scale, 1.0, True
    return on, float(gradient_scale), False


def _signed(word: int) -> int:
    # Triton types integers by their value; as int32 all words are of one type.
    word &= 0xFFFFFFFF
    return word - (1 << 32) if word >= 1 << 31 else word
