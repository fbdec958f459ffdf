"""How far two tensors are apart: L0, L1 and angular distance.

On the CPU both tensors are read once, at the speed of memory, and nothing of their size is written. Sums are float64 by
blocks of 4096 numbers, and blocks are added exactly: a sum of n terms of one sign is within 4096 · 2⁻⁵³ < 5 · 10⁻¹³ of
the true one, relatively, whatever n is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from supermask.errors import ConfigurationError

__all__ = ["angular_distance", "l0_distance", "l1_distance"]

# Below, loading the compiled loops takes longer than torch's detours.
_WORTH_COMPILING = 1 << 16
_PIECE_CPU = 1 << 17  # converted copies stay in cache
_PIECE_DEVICE = 1 << 24
# The share of ‖a ∓ b‖² that must be left of it for the angle to keep its digits.
_CANCELLED = 1e-2


def l0_distance(first: Tensor, second: Tensor) -> int:
    """How many components differ.

    Args:
        first: any shape and dtype.
        second: same shape. A number that is not one (NaN) differs from all.

    Example:
        >>> l0_distance(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]))
        1

    Raises:
        ConfigurationError: if the shapes differ.
    """
    _same_shape(first, second)
    if _compilable(first, second):
        from supermask.core import distance_kernels

        return sum(int(distance_kernels.unequal(a.numpy(), b.numpy())) for a, b in _pieces(first, second))
    return int((first != second).count_nonzero())


def l1_distance(first: Tensor, second: Tensor) -> float:
    """The L1 norm of the difference over the square root of the number of components.

    ‖a - b‖₁ / √n: for a square H x H matrix this is ‖a - b‖₁ / H. Between two independent draws of
    U(±1/√768) it gives 2 √768 / 3 = 18.5 in expectation. The paper does not state its normalisation; its 20.0 is what
    the largest column sum gives, see `supermask.analysis.random_initialisation`.

    Args:
        first: any shape; computed in float64.
        second: same shape.

    Example:
        >>> l1_distance(torch.zeros(2, 2), torch.ones(2, 2))
        2.0

    Raises:
        ConfigurationError: if the shapes differ.

    Source: Table 2 and Figure 2 of the paper.
    """
    _same_shape(first, second)
    total = sum(_sums("absolute_differences", lambda a, b: (a - b).abs_().sum()[None], first, second))
    return total / math.sqrt(max(first.numel(), 1))


def angular_distance(first: Tensor, second: Tensor) -> float:
    """The angle between two tensors taken as vectors, in units of π: 0 the same direction, 0.5 orthogonal, 1 opposite.

    2·atan2(‖â - b̂‖, ‖â + b̂‖) / π on unit vectors, which keeps its digits for small angles, where arccos loses them.
    From sums over the tensors as they are, ‖â ∓ b̂‖² = (‖a ∓ b‖² - (‖a‖ - ‖b‖)²) / (‖a‖ ‖b‖); where that would cancel
    (one is about a multiple of the other), a second reading sums over the unit vectors themselves.

    Args:
        first: any shape; computed in float64.
        second: same shape.

    Returns:
        The angle, to within 10⁻¹⁰ of itself or 10⁻¹⁵.

    Example:
        >>> angular_distance(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]))
        0.5

    Raises:
        ConfigurationError: if the shapes differ, or one tensor is zero and has no direction.

    Source: Table 2 and Figure 2 of the paper.
    """
    _same_shape(first, second)
    one, two, difference, total, product = _sums("square_sums", _square_sums, first, second) or [0.0] * 5
    if one == 0 or two == 0:
        raise ConfigurationError("a tensor of zeros has no direction, so it has no angular distance")
    norm_one, norm_two = math.sqrt(one), math.sqrt(two)
    gap = (product / (norm_one + norm_two)) ** 2  # (‖a‖ - ‖b‖)², from (a - b)·(a + b), where no norm cancels
    minus, plus = difference - gap, total - gap
    if minus < _CANCELLED * difference or plus < _CANCELLED * total:
        minus, plus = _unit_square_sums(first, norm_one, second, norm_two)
    return 2.0 * math.atan2(math.sqrt(minus), math.sqrt(plus)) / math.pi


def _square_sums(a: Tensor, b: Tensor) -> Tensor:
    """Σa², Σb², Σ(a - b)², Σ(a + b)² and Σ(a - b)(a + b)."""
    minus, plus = a - b, a + b
    return torch.stack([a.dot(a), b.dot(b), minus.dot(minus), plus.dot(plus), minus.dot(plus)])


def _sums(kernel: str, eager: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> list[float]:
    """Sums over both tensors: those of a compiled loop block by block, or the same in eager torch piece by piece."""
    parts: list[list[float]] = []
    for a, b in _pieces(first, second):
        if _compilable(first, second):
            from supermask.core import distance_kernels

            parts += getattr(distance_kernels, kernel)(a.numpy(), b.numpy()).tolist()
        else:
            parts.append(eager(a.double(), b.double()).tolist())
    return [_exact_sum(column) for column in zip(*parts, strict=True)]


def _exact_sum(values: Sequence[float]) -> float:
    """The sum rounded once; what floats make of it if it is not finite."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return sum(values)


def _unit_square_sums(first: Tensor, norm_one: float, second: Tensor, norm_two: float) -> tuple[float, float]:
    """‖â - b̂‖² and ‖â + b̂‖²."""
    minus, plus = [], []
    for start in range(0, first.numel(), _PIECE_CPU):
        stop = start + _PIECE_CPU
        a = first.reshape(-1)[start:stop].double() / norm_one
        b = second.reshape(-1)[start:stop].double() / norm_two
        minus.append(float((a - b).square().sum()))
        plus.append(float((a + b).square().sum()))
    return math.fsum(minus), math.fsum(plus)


def _compilable(first: Tensor, second: Tensor) -> bool:
    floating = first.is_floating_point() and second.is_floating_point()
    return floating and first.numel() >= _WORTH_COMPILING and first.device.type == second.device.type == "cpu"


def _pieces(first: Tensor, second: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Both tensors, flat, in pieces of one dtype: as they are where that is float32 or float64, else widened to it."""
    a, b = first.detach().reshape(-1), second.detach().reshape(-1)
    narrow = {a.dtype, b.dtype} <= {torch.float32, torch.bfloat16, torch.float16}
    wide = torch.float32 if narrow else torch.float64
    on_cpu = a.device.type == "cpu"
    size = _PIECE_CPU if on_cpu else _PIECE_DEVICE
    if on_cpu and a.dtype == b.dtype == wide:
        size = max(a.numel(), 1)
    for start in range(0, a.numel(), size):
        yield a[start : start + size].to(wide), b[start : start + size].to(wide)


def _same_shape(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise ConfigurationError(
            f"distances need tensors of one shape, received {tuple(first.shape)} and {tuple(second.shape)}"
        )
