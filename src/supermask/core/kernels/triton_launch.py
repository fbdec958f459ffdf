"""How Triton kernels are defined and launched here; the one place that imports Triton."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

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

__all__ = ["BLOCK", "LAUNCH", "core", "jit", "key_arguments", "launch", "tl"]

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


def key_arguments(key: KeyWords | Tensor, unused: Tensor) -> tuple[Tensor, int, int, bool]:
    """What a kernel takes for a key: a pointer or two words, and which of the two."""
    if isinstance(key, Tensor):
        if key.device == unused.device:
            return key.contiguous(), 0, 0, True
        key = tuple(key.tolist())
    return unused, _signed(key[0]), _signed(key[1]), False


def _signed(word: int) -> int:
    # Triton types integers by their value; as int32 all words are of one type.
    word &= 0xFFFFFFFF
    return word - (1 << 32) if word >= 1 << 31 else word
