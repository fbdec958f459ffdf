"""Zeros that two keep masks share, beside what chance would give."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from supermask.core import count_zeros

__all__ = ["OverlapCount", "count_overlap"]


@final
@dataclass(frozen=True, kw_only=True)
class OverlapCount:
    """Zeros that two masks share, in one tensor or summed over several, beside what chance would give.

    The null model: in each tensor on its own, given how many zeros each mask has there, the zeros of the second lie
    uniformly at random, independently of the first. With n weights, a and b zeros, the shared ones then follow the
    hypergeometric law: mean ab/n, variance ab(n-a)(n-b) / (n²(n-1)); tensors add up.

    Its limits: learnt zeros gather in some rows and columns of a matrix and at weights that are small in the base, for
    every task alike, so masks of unrelated tasks already share more than `expected`. With millions of weights `z` is
    then huge without saying that the tasks have anything in common; `ratio` says how much more is shared, and
    `expected_given_rows_and_columns` how much of that the rows and columns account for.

    Args:
        weights: that both masks could drop.
        first_zeros: dropped by the first.
        second_zeros: dropped by the second.
        shared: dropped by both.
        expected: `shared` in expectation under the null model.
        variance: of `shared` under it.
        expected_given_rows_and_columns: in expectation if each mask's zeros lay at random but for its own numbers of
            zeros in each row and column, to first order: weight (i, j) dropped with probability (zeros of row i)·(zeros
            of column j)/(zeros).
    """

    weights: int = 0
    first_zeros: int = 0
    second_zeros: int = 0
    shared: int = 0
    expected: float = 0.0
    variance: float = 0.0
    expected_given_rows_and_columns: float = 0.0

    @classmethod
    def of_tensor(
        cls,
        *,
        weights: int,
        first_zeros: int,
        second_zeros: int,
        shared: int,
        expected_given_rows_and_columns: float | None = None,
    ) -> OverlapCount:
        """The counts of one tensor, with what chance would give; without rows and columns, what chance gives alone.

        Example:
            >>> OverlapCount.of_tensor(weights=10, first_zeros=5, second_zeros=4, shared=3).expected
            2.0
        """
        n, a, b = weights, first_zeros, second_zeros
        expected = a * b / n if n else 0.0
        given = expected_given_rows_and_columns
        return cls(
            weights=n,
            first_zeros=a,
            second_zeros=b,
            shared=shared,
            expected=expected,
            variance=a * b * (n - a) * (n - b) / (n * n * (n - 1)) if n > 1 else 0.0,
            expected_given_rows_and_columns=expected if given is None else given,
        )

    @property
    def fraction(self) -> float | None:
        """The fraction of the first mask's zeros that are zeros of the second, in [0, 1]; None if it has none."""
        return self.shared / self.first_zeros if self.first_zeros else None

    @property
    def chance(self) -> float | None:
        """What `fraction` is in expectation under the null model."""
        return self.expected / self.first_zeros if self.first_zeros else None

    @property
    def ratio(self) -> float | None:
        """Shared zeros over those expected; 1 is chance, None if none are expected."""
        return self.shared / self.expected if self.expected else None

    @property
    def ratio_given_rows_and_columns(self) -> float | None:
        """Shared zeros over those that the rows' and columns' numbers of zeros lead one to expect."""
        expected = self.expected_given_rows_and_columns
        return self.shared / expected if expected else None

    @property
    def jaccard(self) -> float | None:
        """Shared zeros among all zeros of either mask, in [0, 1]; None if there are none."""
        either = self.first_zeros + self.second_zeros - self.shared
        return self.shared / either if either else None

    @property
    def z(self) -> float | None:
        """How many standard deviations `shared` lies above `expected`; None if chance leaves no other outcome."""
        return (self.shared - self.expected) / math.sqrt(self.variance) if self.variance else None

    def __add__(self, other: OverlapCount) -> OverlapCount:
        return OverlapCount(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})


def count_overlap(first_keep_mask: Tensor, second_keep_mask: Tensor) -> OverlapCount:
    """Count the zeros that two masks of one tensor share, beside what chance would give.

    Args:
        first_keep_mask: boolean, any shape; rows and columns are its first dimension and all others together, and a
            vector has none.
        second_keep_mask: boolean, same shape.

    Raises:
        ConfigurationError: if the shapes differ.

    Example:
        >>> keep_mask = torch.tensor([[False, True, True], [False, True, True]])
        >>> count = count_overlap(keep_mask, keep_mask)
        >>> count.shared, round(count.expected, 3), round(count.z, 3), count.expected_given_rows_and_columns
        (2, 0.667, 2.236, 2.0)

    Source: Figure 7 of the paper, for the counts.
    """
    first_zeros, second_zeros, shared = count_zeros(first_keep_mask, second_keep_mask)
    margins = (
        _from_margins(first_keep_mask, second_keep_mask) / (first_zeros * second_zeros)
        if first_zeros and second_zeros and first_keep_mask.ndim > 1
        else None
    )
    return OverlapCount.of_tensor(
        weights=first_keep_mask.numel(),
        first_zeros=first_zeros,
        second_zeros=second_zeros,
        shared=shared,
        expected_given_rows_and_columns=margins,
    )


def _from_margins(first_keep_mask: Tensor, second_keep_mask: Tensor) -> int:
    """Σᵢⱼ of the products of both masks' zeros in row i and in column j."""
    ours, theirs = (torch.logical_not(keep_mask).flatten(1) for keep_mask in (first_keep_mask, second_keep_mask))
    rows, columns = ((ours.sum(axis) * theirs.sum(axis)).sum() for axis in (1, 0))
    return int(rows) * int(columns)
