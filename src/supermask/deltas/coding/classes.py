"""Which weights of a matrix are alike: the class of each, from what the decoder knows of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np
import numpy.typing as npt
from torch import Tensor

from supermask.deltas.coding.model import CLASSES, MAGNITUDES, MIDDLE, MaskModel
from supermask.deltas.tensor_bytes import as_bits, dtype_name

__all__ = ["BaseBits", "Classes", "as_matrix", "base_bits", "sort_weights"]

Classes: TypeAlias = npt.NDArray[np.uint8]

_SHIFTS = {"float64": 49, "float32": 20, "float16": 7, "bfloat16": 4}  # leaves sign, exponent and 3 bits more


@final
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
        """Exponent and the three leading bits of the fraction of each |w|: eight steps to an octave."""
        leading: npt.NDArray[Any] = self.bits >> self.bits.dtype.type(self.shift) & self.bits.dtype.type(self.sign - 1)
        return leading


def base_bits(base: Tensor) -> BaseBits | None:
    """What masks are coded against, of a base's tensor; None if its dtype has no magnitudes that a model can go by."""
    shift = _SHIFTS.get(dtype_name(base.dtype))
    if shift is None:
        return None
    bits = as_bits(base).cpu().contiguous().reshape(-1).numpy()
    return BaseBits(bits.view(f"u{bits.itemsize}"), shift)


def as_matrix(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a tensor: its first dimension, and all others in one; one row if there are no two.

    Example:
        >>> as_matrix((8, 4, 3, 3)), as_matrix((5,)), as_matrix(())
        ((8, 36), (1, 5), (1, 1))
    """
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def sort_weights(
    model: MaskModel, shape: tuple[int, int], base: BaseBits | None
) -> tuple[Classes, npt.NDArray[np.int64]]:
    """Each weight's class, flat and read-only, and how many weights each of the `CLASSES` has.

    Example:
        >>> classes, counts = sort_weights(MaskModel(columns=np.array([0, 2, 2], dtype=np.int16)), (2, 3), None)
        >>> classes.tolist(), counts[42].item()
        ([40, 42, 42, 40, 42, 42], 4)
    """
    from supermask.deltas.coding import loops

    rows, columns = shape
    counts = np.zeros(CLASSES, dtype=np.int64)
    if model.rows is None and model.columns is None and model.magnitudes is None:
        only = min(max(model.offset + MIDDLE, 0), CLASSES - 1)
        counts[only] = rows * columns
        return np.broadcast_to(np.uint8(only), rows * columns), counts
    classes = np.empty(rows * columns, dtype=np.uint8)
    row = np.full(rows, model.offset + MIDDLE, dtype=np.int16)
    if model.rows is not None:
        row += model.rows
    column = np.zeros(columns, dtype=np.int16) if model.columns is None else model.columns
    bits, shift, steps = np.empty(0, dtype=np.uint32), 0, np.empty(0, dtype=np.int16)
    if base is not None and model.magnitudes is not None:
        bits, shift = base
        ranges = np.clip(np.arange(base.sign) - model.first_magnitude, 0, MAGNITUDES - 1)
        steps = np.tile(model.magnitudes[ranges], 2)  # whatever the sign
    loops.sort_weights(row, column, bits, shift, steps, classes, counts)
    return classes, counts
