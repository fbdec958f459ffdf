"""How far two tensors are apart: L0, L1 and angular distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from supermask.errors import ConfigurationError

__all__ = ["angular_distance", "l0_distance", "l1_distance"]


def l0_distance(first: Tensor, second: Tensor) -> int:
    """How many components differ.

    Example:
        >>> l0_distance(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]))
        1

    Raises:
        ConfigurationError: if the shapes differ.
    """
    _same_shape(first, second)
    return int((first != second).count_nonzero())


def l1_distance(first: Tensor, second: Tensor) -> float:
    """The L1 norm of the difference over the square root of the number of components.

    ‖a - b‖₁ / √n: for a square H x H matrix this is ‖a - b‖₁ / H. The paper does not state its normalisation; between
    two independent draws of U(±1/√768) this one gives 2 √768 / 3 = 18.5 in expectation, where the
    paper prints 20.0 (and 16.7 for normal draws).

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
    return float((first.double() - second.double()).abs().sum()) / math.sqrt(max(first.numel(), 1))


def angular_distance(first: Tensor, second: Tensor) -> float:
    """The angle between two tensors taken as vectors, in units of π: 0 the same direction, 0.5 orthogonal, 1 opposite.

    Computed as 2·atan2(‖â - b̂‖, ‖â + b̂‖) / π on unit vectors, which keeps its digits for small angles, where arccos
    loses them.

    Example:
        >>> angular_distance(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]))
        0.5

    Raises:
        ConfigurationError: if the shapes differ, or one tensor is zero and has no direction.

    Source: Table 2 and Figure 2 of the paper.
    """
    _same_shape(first, second)
    a, b = first.double().reshape(-1), second.double().reshape(-1)
    norm_a, norm_b = a.norm(), b.norm()
    if norm_a == 0 or norm_b == 0:
        raise ConfigurationError("a tensor of zeros has no direction, so it has no angular distance")
    a, b = a / norm_a, b / norm_b
    return float(2.0 * torch.atan2((a - b).norm(), (a + b).norm())) / math.pi


def _same_shape(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise ConfigurationError(
            f"distances need tensors of one shape, received {tuple(first.shape)} and {tuple(second.shape)}"
        )
