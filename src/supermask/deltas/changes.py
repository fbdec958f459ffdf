"""What a delta does to one tensor: three kinds of change, each a pure function of the base's tensor.

Storage is no concern here: how a change becomes bytes is `coding`, how it is put on a model is `applying`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias, final

from torch import Tensor

from supermask.deltas.keep_mask import KeepMask, MaskPositions
from supermask.deltas.tensor_bytes import as_bits
from supermask.errors import ConfigurationError

__all__ = ["Change", "DenseValues", "KeepMask", "SparseValues", "require_fit"]


@final
@dataclass(frozen=True, eq=False)
class DenseValues:
    """Replace a tensor as a whole by `values`, which are of the base's shape and dtype."""

    values: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor that is changed."""
        return tuple(self.values.shape)

    @property
    def whole(self) -> Tensor:
        """What the tensor becomes."""
        return self.values.detach()

    def apply(self, tensor: Tensor) -> Tensor:
        """A changed copy of the base's tensor, on its device; ConfigurationError if it has another shape or dtype."""
        require_fit(tensor, self)
        return self.whole.to(tensor.device, copy=True)


@final
@dataclass(frozen=True, eq=False, init=False)
class SparseValues:
    """Replace the surviving weights and zero the others.

    Args:
        keep: boolean, the tensor's shape, True where the weight survives; or where the rarer kind stands; or the mask.
        values: the survivors' values, one-dimensional, in row-major order, in the base's dtype.

    Raises:
        ConfigurationError: if `keep` is a tensor and not boolean, or there are not as many values as survivors.

    Example:
        >>> import torch
        >>> SparseValues(torch.tensor([True, False, True]), torch.tensor([4.0, 5.0])).apply(torch.ones(3))
        tensor([4., 0., 5.])
    """

    mask: KeepMask
    values: Tensor
    shape: tuple[int, ...]
    zeros: int

    def __init__(self, keep: Tensor | MaskPositions | KeepMask, values: Tensor) -> None:
        mask = keep if isinstance(keep, KeepMask) else KeepMask(keep)
        survivors = math.prod(mask.shape) - mask.zeros
        if tuple(values.shape) != (survivors,):
            raise ConfigurationError(
                f"the keep mask has {survivors} survivors, so values must have shape ({survivors},), "
                f"received {tuple(values.shape)}"
            )
        for name, value in (("mask", mask), ("values", values), ("shape", mask.shape), ("zeros", mask.zeros)):
            object.__setattr__(self, name, value)

    @property
    def keep(self) -> Tensor:
        """One boolean a weight, True where it survives; a new tensor on the CPU."""
        return self.mask.keep

    @property
    def positions(self) -> MaskPositions:
        """Where the rarer kind of weight stands."""
        return self.mask.positions

    @property
    def whole(self) -> Tensor:
        """What the tensor becomes; a new tensor on the device of the values."""
        bits = as_bits(self.values)
        return bits.new_zeros(self.shape).masked_scatter_(self.keep.to(bits.device), bits).view(self.values.dtype)

    def apply(self, tensor: Tensor) -> Tensor:
        """The whole on the device of the base's tensor; ConfigurationError if that has another shape or dtype."""
        require_fit(tensor, self)
        return self.whole.to(tensor.device)


Change: TypeAlias = KeepMask | DenseValues | SparseValues
"""What can happen to one tensor."""


def require_fit(tensor: Tensor, change: Change) -> None:
    """Refuse a tensor of another shape or dtype than a change is for; a mask is for any dtype."""
    if tuple(tensor.shape) != change.shape:
        raise ConfigurationError(f"this change is for a tensor of shape {change.shape}, received {tuple(tensor.shape)}")
    if not isinstance(change, KeepMask) and tensor.dtype is not change.values.dtype:
        raise ConfigurationError(
            f"the values are {change.values.dtype} and the tensor is {tensor.dtype}: convert one first"
        )
