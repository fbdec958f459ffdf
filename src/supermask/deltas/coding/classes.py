"""Which weights of a matrix are alike: the class of each, from what the decoder knows of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from supermask.deltas.coding.model import CLASSES, MAGNITUDES, MIDDLE, MaskModel
from supermask.deltas.tensor_bytes import as_bits, dtype_name

__all__ = ["BaseBits", "Classes", "as_matrix", "base_bits", "sort_weights"]

Classes: TypeAlias = npt.NDArray[np.uint8]
Steps: TypeAlias = npt.NDArray[np.int16]

_SHIFTS = {"float64": 49, "float32": 20, "float16": 7, "bfloat16": 4}  # leaves sign, exponent and 3 bits more


class BaseBits(NamedTuple):
    """The base's values, as their bits.

    Args:
        bits: unsigned integers of the values' width, flat.
        shift: leaves, to the right, sign, exponent and the three leading bits of the fraction.
    """

    bits: npt.NDArray[Any]
    shift: int

    @property
    def sign(self) -> int:
        """The sign's bit, once shifted."""
        return 1 << 8 * self.bits.itemsize - 1 - self.shift

    def leading(self) -> npt.NDArray[Any]:
        """Exponent and the three leading bits of the fraction of each |w|: eight steps to an octave.

        Example:
            >>> import torch
            >>> base_bits(torch.tensor([1.0, -2.0, 0.0])).leading().tolist()
            [1016, 1024, 0]
        """
        leading: npt.NDArray[Any] = self.bits >> self.bits.dtype.type(self.shift) & self.bits.dtype.type(self.sign - 1)
        return leading

    def negative(self) -> npt.NDArray[np.bool_]:
        """Which values have the sign's bit set."""
        negative: npt.NDArray[np.bool_] = self.bits >> self.bits.dtype.type(8 * self.bits.itemsize - 1) != 0
        return negative


def base_bits(base: Tensor) -> BaseBits | None:
    """What masks are coded against, of a base's tensor.

    Args:
        base: any shape, dtype, strides and device.

    Returns:
        Its bits; None if its dtype has no magnitudes and signs that a model can go by.

    Example:
        >>> import torch
        >>> base_bits(torch.tensor([1])) is None
        True
    """
    shift = _SHIFTS.get(dtype_name(base.dtype))
    if shift is None:
        return None
    bits = as_bits(base).cpu().contiguous().reshape(-1).numpy()
    return BaseBits(bits.view(f"u{bits.itemsize}"), shift)


def as_matrix(shape: Sequence[int]) -> tuple[int, int]:
    """A tensor as a matrix: the first dimension, and all others in one.

    Args:
        shape: of the tensor.

    Returns:
        Rows and columns; one row if there are no two dimensions.

    Example:
        >>> as_matrix((8, 4, 3, 3)), as_matrix((5,)), as_matrix(())
        ((8, 36), (1, 5), (1, 1))
    """
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def sort_weights(
    model: MaskModel, rows: int, columns: int, base: BaseBits | None
) -> tuple[Classes, npt.NDArray[np.int64]]:
    """Each weight's class.

    Args:
        model: the mask's.
        rows: of the matrix.
        columns: of the matrix.
        base: the base's values, flat; None if the model does without.

    Returns:
        The classes, shape (rows · columns,), and how many weights each of the `CLASSES` has.

    Example:
        >>> classes, counts = sort_weights(MaskModel(columns=np.array([0, 2, 2], dtype=np.int16)), 2, 3, None)
        >>> classes.tolist(), counts[42].item()
        ([40, 42, 42, 40, 42, 42], 4)
    """
    from supermask.deltas.coding import kernels

    classes, counts = np.empty(rows * columns, dtype=np.uint8), np.zeros(CLASSES, dtype=np.int64)
    row = np.full(rows, model.offset + MIDDLE, dtype=np.int16)
    if model.rows is not None:
        row += model.rows
    column = np.zeros(columns, dtype=np.int16) if model.columns is None else model.columns
    left, right = np.empty((len(model.terms), rows), np.int16), np.empty((len(model.terms), columns), np.int16)
    for term, (over_rows, over_columns) in enumerate(model.terms):
        left[term], right[term] = over_rows, over_columns
    bits, shift = (base.bits, base.shift) if base else (np.empty(0, dtype=np.uint32), 0)
    steps = np.empty(0, dtype=np.int16) if base is None else _signed_steps(model, base.sign)
    kernels.sort_weights(row, column, left, right, bits, shift, steps, classes, counts)
    return classes, counts


def _signed_steps(model: MaskModel, sign: int) -> Steps:
    """For sign, exponent and leading bits: twice the steps of the magnitude, and 1 more if it is negative."""
    leading = np.arange(sign)
    steps = np.zeros(MAGNITUDES, dtype=np.int16) if model.magnitudes is None else model.magnitudes
    doubled = 2 * steps[np.clip(leading - model.first_magnitude, 0, MAGNITUDES - 1)]
    return np.concatenate((doubled, doubled + np.int16(1)))
