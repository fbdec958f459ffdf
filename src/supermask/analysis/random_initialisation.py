"""How far two independent random initialisations are apart: what a distance between trained models is held against.

Two matrices of n = R x C independent components X, Y with one law are compared. With m = E|X - Y| and v the variance of
one component:

- ‖X - Y‖₁ / √n = √n · m in expectation. A uniform law on ±b has m = 2b/3; a normal law of standard deviation s has
  m = 2s/√π; cut off at ±c·s, with Z = 2Φ(c) - 1, it has m = s · [2/√π · (2Φ(c√2) - 1)/Z² - 4φ(c)/Z]. These follow from
  m = 4 E[X F(X)], F the distribution function, by parts.
- a column sum Σ|X - Y| over R rows has mean R·m and variance R·(2v - m²), as E(X - Y)² = 2v. The largest of C such sums
  lies E[max of C standard normals] standard deviations above: 3.20 for C = 768.
- the angle between X and Y is 1/2 in units of π by symmetry, with standard deviation 1/(π√n).

**Which of them the paper prints.** Its Table 2 has 20.0 ± 0.1 for uniform and 16.7 ± 0.1 for normal initialisations
"from -1/√H to 1/√H", H = 768, and does not state the norm. ‖·‖₁/H of uniform ones is 18.5, and no normal law of a usual
size gives 16.7. But the largest column sum of |X - Y|, the matrix norm that `numpy.linalg.norm(X - Y, 1)` computes, is
20.0 ± 0.1 for uniform ones, and 16.8 ± 0.1 for BERT's own initialisation, a normal law with s = 0.02 cut off at 2s.
Both fit, so that norm is what we take its L1 distances for; the records have both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from supermask.analysis.distances import tensor_distance
from supermask.errors import ConfigurationError

__all__ = [
    "PAPER_NORMAL",
    "PAPER_UNIFORM",
    "ExpectedDistances",
    "RandomLaw",
    "SampledDistances",
    "expected_distances",
    "normal_law",
    "sampled_distances",
    "truncated_normal_law",
    "uniform_law",
]


@final
@dataclass(frozen=True, kw_only=True)
class RandomLaw:
    """The law of one component of a random initialisation; `uniform_law` and its neighbours make one.

    Args:
        kind: `uniform`, `normal` or `truncated_normal`.
        scale: the bound of a uniform law, the standard deviation (before cutting off) of a normal one.
        cut: where a truncated law is cut off, in units of `scale`.

    Raises:
        ConfigurationError: if one of the numbers is not positive and finite.
    """

    kind: Literal["uniform", "normal", "truncated_normal"]
    scale: float
    cut: float | None = None

    def __post_init__(self) -> None:
        for what, value in (("the scale", self.scale), ("the cut", self.cut)):
            if value is not None and not 0.0 < value < math.inf:
                raise ConfigurationError(f"{what} of a random law is a positive number, received {value}")

    @property
    def variance(self) -> float:
        """Of one component."""
        if self.kind == "uniform":
            return self.scale**2 / 3
        if self.cut is None:
            return self.scale**2
        return self.scale**2 * (1 - 2 * self.cut * _density(self.cut) / (2 * _distribution(self.cut) - 1))

    @property
    def mean_difference(self) -> float:
        """E|X - Y| of two independent components."""
        if self.kind == "uniform":
            return 2 * self.scale / 3
        if self.cut is None:
            return 2 * self.scale / math.sqrt(math.pi)
        inside = 2 * _distribution(self.cut) - 1
        spread = 2 / math.sqrt(math.pi) * (2 * _distribution(self.cut * math.sqrt(2)) - 1) / inside**2
        return self.scale * (spread - 4 * _density(self.cut) / inside)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """One initialisation, float32; the generator is on the CPU."""
        if self.kind == "normal":
            return torch.randn(shape, generator=generator) * self.scale
        share = torch.rand(shape, generator=generator, dtype=torch.float64)  # in [0, 1)
        if self.cut is None:
            return (self.scale * (2 * share - 1)).float()
        inside = 2 * _distribution(self.cut) - 1
        drawn: Tensor = torch.special.ndtri((share - 0.5) * inside + 0.5)
        return (self.scale * drawn).float()


@final
@dataclass(frozen=True, kw_only=True)
class ExpectedDistances:
    """Distances between two independent initialisations, by formula.

    Args:
        l1, l1_sd: expectation and standard deviation of ‖X - Y‖₁ / √n.
        largest_column_sum: of the matrix norm; None for a vector. Column sums are taken as normal and independent,
            which is right to 0.3 % at 768 rows.
        largest_row_sum: the same of the transposed matrix.
        angular, angular_sd: of the angle, in units of π.
    """

    l1: float
    l1_sd: float
    largest_column_sum: float | None
    largest_row_sum: float | None
    angular: float
    angular_sd: float


@final
@dataclass(frozen=True, kw_only=True)
class SampledDistances:
    """Distances between pairs of initialisations that were drawn: mean and sample standard deviation of each.

    Args:
        pairs: how many.
        l1: of ‖X - Y‖₁ / √n.
        largest_column_sum, largest_row_sum: of the matrix norm; None for vectors.
        angular: of the angle, in units of π.
    """

    pairs: int
    l1: tuple[float, float]
    largest_column_sum: tuple[float, float] | None
    largest_row_sum: tuple[float, float] | None
    angular: tuple[float, float]


def uniform_law(bound: float) -> RandomLaw:
    """Uniform between -bound and bound."""
    return RandomLaw(kind="uniform", scale=bound)


def normal_law(standard_deviation: float) -> RandomLaw:
    """Normal around 0."""
    return RandomLaw(kind="normal", scale=standard_deviation)


def truncated_normal_law(standard_deviation: float, *, cut: float = 2.0) -> RandomLaw:
    """Normal around 0, drawn again where it is further off than `cut` standard deviations.

    Example:
        >>> round(truncated_normal_law(0.02).variance ** 0.5, 4)
        0.0176
    """
    return RandomLaw(kind="truncated_normal", scale=standard_deviation, cut=cut)


PAPER_UNIFORM = RandomLaw(kind="uniform", scale=1 / math.sqrt(768))
"""Uniform from -1/√768 to 1/√768, as in the paper's Table 2."""

PAPER_NORMAL = RandomLaw(kind="truncated_normal", scale=0.02, cut=2.0)
"""BERT's initialisation: normal, 0.02, cut off at 2 standard deviations. The paper says "normally distributed from
-1/√H to 1/√H" and no more; this is the law that gives what its Table 2 prints."""


def expected_distances(shape: tuple[int, ...], law: RandomLaw) -> ExpectedDistances:
    """Distances between two independent initialisations, by formula; the module derives them.

    Args:
        shape: of the tensor; what follows the first dimension is taken together.
        law: of its components.

    Raises:
        ConfigurationError: if the shape has no components.

    Example:
        >>> paper = expected_distances((768, 768), PAPER_UNIFORM)
        >>> round(paper.l1, 2), round(paper.largest_column_sum, 1), paper.angular  # the paper prints 20.0 and 0.500
        (18.48, 20.0, 0.5)

    Source: Table 2 of the paper.
    """
    n = _components(shape)
    mean, second = law.mean_difference, 2 * law.variance
    sd = math.sqrt(max(second - mean**2, 0.0))
    rows, columns = shape[0], n // shape[0]

    def largest(terms: int, sums: int) -> float | None:
        return terms * mean + math.sqrt(terms) * sd * _largest_normal(sums) if len(shape) > 1 else None

    return ExpectedDistances(
        l1=math.sqrt(n) * mean,
        l1_sd=sd,
        largest_column_sum=largest(rows, columns),
        largest_row_sum=largest(columns, rows),
        angular=0.5,
        angular_sd=1 / (math.pi * math.sqrt(n)),
    )


def sampled_distances(shape: tuple[int, ...], law: RandomLaw, *, pairs: int = 10, seed: int = 0) -> SampledDistances:
    """Draw pairs of initialisations and measure them.

    Args:
        shape: of the tensor.
        law: of its components.
        pairs: how many, at least 2; a standard deviation from 10 of them is itself uncertain by a quarter.
        seed: of the random numbers; the global generator is left alone.

    Raises:
        ConfigurationError: if there are fewer than 2 pairs, or the shape has no components.

    Example:
        >>> found = sampled_distances((64, 64), uniform_law(64 ** -0.5))
        >>> abs(found.l1[0] - expected_distances((64, 64), uniform_law(64 ** -0.5)).l1) < 0.1
        True

    Source: Table 2 of the paper.
    """
    _components(shape)
    if pairs < 2:
        raise ConfigurationError(f"a spread takes at least 2 pairs, received {pairs}")
    generator = torch.Generator().manual_seed(seed)
    found = [tensor_distance(law.draw(shape, generator), law.draw(shape, generator)) for _ in range(pairs)]

    def spread(values: list[float | None]) -> tuple[float, float] | None:
        known = torch.tensor([value for value in values if value is not None], dtype=torch.float64)
        return (float(known.mean()), float(known.std())) if len(known) == pairs else None

    return SampledDistances(
        pairs=pairs,
        l1=spread([one.l1 for one in found]) or (math.nan, math.nan),
        largest_column_sum=spread([one.largest_column_sum for one in found]),
        largest_row_sum=spread([one.largest_row_sum for one in found]),
        angular=spread([one.angular for one in found]) or (math.nan, math.nan),
    )


def _largest_normal(count: int) -> float:
    """The expectation of the largest of `count` independent standard normals: ∫₀^∞ (1 - Φᵏ) - ∫₋∞⁰ Φᵏ."""
    step = 1 / 1024
    right = (torch.arange(12 * 1024, dtype=torch.float64) + 0.5) * step
    above = 1 - torch.special.ndtr(right) ** count
    below = torch.special.ndtr(-right) ** count
    return float((above - below).sum()) * step


def _density(x: float) -> float:
    return math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _distribution(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _components(shape: tuple[int, ...]) -> int:
    if not shape or math.prod(shape) < 1:
        raise ConfigurationError(f"a tensor of shape {tuple(shape)} has no components to compare")
    return math.prod(shape)
