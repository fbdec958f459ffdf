"""What a delta does to one tensor: three kinds of change, each a pure function of the base's tensor.

Storage is no concern here: how a change becomes bytes is `codec` and `container`, how it is put on a model is
`application`. A mask is held in the form that it came in, one boolean a weight or the places of the rarer kind, and is
turned into the other form when that is asked for, each time anew: keep what is used often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Tensor

from supermask.deltas.positions import (
    MaskBits,
    MaskPlaces,
    MaskPositions,
    compact_places,
    keep_from_places,
    positions_from_keep,
    positions_from_places,
)
from supermask.deltas.tensor_bytes import as_bits
from supermask.errors import ConfigurationError

__all__ = ["Change", "DenseValues", "KeepMask", "SparseValues"]


@final
@dataclass(frozen=True, eq=False, init=False)
class KeepMask:
    """Zero some weights and leave the others at the base's values.

    θ = θ̃ ⊙ μ, exactly: kept weights keep every bit, dropped ones become +0.0.

    Args:
        keep: boolean, the tensor's shape, True where the weight survives; or the places of the rarer kind of weight, as
            decoding gives them, so that no boolean is ever made.

    Raises:
        ConfigurationError: if `keep` is a tensor and not boolean.

    Example:
        >>> change = KeepMask(torch.tensor([True, False, True]))
        >>> change.apply(torch.tensor([1.0, 2.0, -0.0])), change.zeros
        (tensor([1., 0., -0.]), 1)
        >>> change.positions.positions, KeepMask(change.positions).keep
        (array([1], dtype=int32), tensor([ True, False,  True]))

    Source: equation 3 of the paper.
    """

    mask: Tensor | MaskPlaces

    def __init__(self, keep: Tensor | MaskPlaces) -> None:
        object.__setattr__(self, "mask", _checked(keep))

    @property
    def keep(self) -> Tensor:
        """One boolean a weight, True where it survives: the tensor that was given, or else a new one on the CPU."""
        return _keep(self.mask)

    @property
    def positions(self) -> MaskPositions:
        """The positions of the rarer kind of weight, on the CPU."""
        return _positions(self.mask)

    @property
    def places(self) -> MaskPlaces:
        """The mask in the smaller of its two decoded forms, on the CPU."""
        return _places(self.mask)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor that is changed."""
        return tuple(self.mask.shape)

    @property
    def zeros(self) -> int:
        """How many weights are dropped."""
        return _zeros(self.mask)

    def compact(self) -> KeepMask:
        """The same change in little memory, and its own: at most one bit a weight."""
        return KeepMask(self.places)

    def apply(self, tensor: Tensor) -> Tensor:
        """The changed tensor, leaving the given one as it is.

        Args:
            tensor: the base's tensor, of the mask's shape.

        Returns:
            A new tensor of the same dtype and device.

        Raises:
            ConfigurationError: if the shape is another.
        """
        _require_shape(tensor, self.shape)
        bits = as_bits(tensor)
        zero = torch.zeros((), dtype=bits.dtype, device=bits.device)
        return torch.where(self.keep.to(bits.device), bits, zero).view(tensor.dtype)


@final
@dataclass(frozen=True, eq=False)
class DenseValues:
    """Replace a tensor as a whole.

    Args:
        values: the new values, in the base's dtype.

    Example:
        >>> DenseValues(torch.tensor([3.0])).apply(torch.tensor([1.0]))
        tensor([3.])
    """

    values: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor that is changed."""
        return tuple(self.values.shape)

    def compact(self) -> DenseValues:
        """The same change: there is no smaller form."""
        return self

    def apply(self, tensor: Tensor) -> Tensor:
        """The changed tensor, leaving the given one as it is.

        Args:
            tensor: the base's tensor, of the values' shape and dtype.

        Returns:
            A new tensor on the device of the given one.

        Raises:
            ConfigurationError: if the shape or dtype is another.
        """
        _require_shape(tensor, self.shape)
        _require_dtype(tensor, self.values)
        return self.values.detach().to(tensor.device, copy=True)


@final
@dataclass(frozen=True, eq=False, init=False)
class SparseValues:
    """Replace the surviving weights and zero the others.

    Args:
        keep: boolean, the tensor's shape, True where the weight survives; or the places of the rarer kind of weight.
        values: the survivors' values, one-dimensional, in row-major order, in the base's dtype.

    Raises:
        ConfigurationError: if `keep` is a tensor and not boolean, or there are not as many values as survivors.

    Example:
        >>> SparseValues(torch.tensor([True, False, True]), torch.tensor([4.0, 5.0])).apply(torch.ones(3))
        tensor([4., 0., 5.])
    """

    mask: Tensor | MaskPlaces
    values: Tensor

    def __init__(self, keep: Tensor | MaskPlaces, values: Tensor) -> None:
        mask = _checked(keep)
        survivors = (mask.numel() if isinstance(mask, Tensor) else mask.weights) - _zeros(mask)
        if tuple(values.shape) != (survivors,):
            raise ConfigurationError(
                f"the keep mask has {survivors} survivors, so values must have shape ({survivors},), "
                f"received {tuple(values.shape)}"
            )
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "values", values)

    @property
    def keep(self) -> Tensor:
        """One boolean a weight, True where it survives: the tensor that was given, or else a new one on the CPU."""
        return _keep(self.mask)

    @property
    def positions(self) -> MaskPositions:
        """The positions of the rarer kind of weight, on the CPU."""
        return _positions(self.mask)

    @property
    def places(self) -> MaskPlaces:
        """The mask in the smaller of its two decoded forms, on the CPU."""
        return _places(self.mask)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor that is changed."""
        return tuple(self.mask.shape)

    @property
    def zeros(self) -> int:
        """How many weights are dropped."""
        return _zeros(self.mask)

    def compact(self) -> SparseValues:
        """The same change in little memory: the values, and at most one bit a weight."""
        return SparseValues(self.places, self.values)

    def apply(self, tensor: Tensor) -> Tensor:
        """The changed tensor, leaving the given one as it is.

        Args:
            tensor: the base's tensor, of the mask's shape and the values' dtype; its own values play no part.

        Returns:
            A new tensor on the device of the given one.

        Raises:
            ConfigurationError: if the shape or dtype is another.
        """
        _require_shape(tensor, self.shape)
        _require_dtype(tensor, self.values)
        bits = torch.zeros(self.shape, dtype=as_bits(self.values).dtype, device=tensor.device)
        bits[self.keep.to(tensor.device)] = as_bits(self.values).to(tensor.device)
        return bits.view(tensor.dtype)


Change: TypeAlias = KeepMask | DenseValues | SparseValues
"""What can happen to one tensor."""


def _checked(keep: Tensor | MaskPlaces) -> Tensor | MaskPlaces:
    if isinstance(keep, MaskPositions | MaskBits):
        return keep
    if keep.dtype is not torch.bool:
        raise ConfigurationError(
            f"a keep mask is boolean, True where the weight survives; received {keep.dtype}: pass `mask > 0` or alike"
        )
    return keep


def _keep(mask: Tensor | MaskPlaces) -> Tensor:
    return mask if isinstance(mask, Tensor) else keep_from_places(mask)


def _positions(mask: Tensor | MaskPlaces) -> MaskPositions:
    return positions_from_keep(mask) if isinstance(mask, Tensor) else positions_from_places(mask)


def _places(mask: Tensor | MaskPlaces) -> MaskPlaces:
    return compact_places(positions_from_keep(mask) if isinstance(mask, Tensor) else mask)


def _zeros(mask: Tensor | MaskPlaces) -> int:
    return mask.numel() - int(mask.count_nonzero()) if isinstance(mask, Tensor) else mask.zeros


def _require_shape(tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ConfigurationError(f"this change is for a tensor of shape {shape}, received {tuple(tensor.shape)}")


def _require_dtype(tensor: Tensor, values: Tensor) -> None:
    if tensor.dtype is not values.dtype:
        raise ConfigurationError(f"the values are {values.dtype} and the tensor is {tensor.dtype}: convert one first")
