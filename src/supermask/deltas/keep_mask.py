"""A keep mask in memory: small, and quick to put on a tensor and to take off again.

At a sparsity of 1% a mask names one weight in a hundred: as positions of 32 bits it takes a third of a bit a weight,
and putting it on touches those weights alone, in half of the time that a look at one bit for every weight takes. From
one weight in 32 on, one bit a weight is smaller, and as quick. A mask takes the smaller form; nobody else sees which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supermask.deltas.tensor_bytes import as_bits
from supermask.errors import ConfigurationError

__all__ = ["KeepMask", "MaskPositions", "Overwritten", "position_dtype"]


def position_dtype(weights: int) -> npt.DTypeLike:
    """What positions in a tensor of so many weights are counted in: int32 below 2^31, int64 from there on.

    Example:
        >>> np.dtype(position_dtype(1000)), np.dtype(position_dtype(2**31))
        (dtype('int32'), dtype('int64'))
    """
    return np.int32 if weights < 1 << 31 else np.int64


@final
@dataclass(frozen=True, eq=False)
class MaskPositions:
    """Where the rarer kind of a mask's weights stand, as coding reads and gives it: the dropped, or the survivors.

    Args:
        positions: in the flattened tensor (row-major), ascending, of dtype `position_dtype(weights)`; at most half of
            the weights. Not copied: from here on it is the mask's, and read-only through it.
        dropped: whether these are the dropped weights; False if they are the survivors.
        shape: of the tensor that the mask is for.

    Raises:
        ConfigurationError: if the positions are of another dtype, out of order, twice the same, outside of the tensor,
            or more than half of its weights.

    Example:
        >>> mask = MaskPositions(np.array([1, 5], dtype=np.int32), dropped=True, shape=(2, 3))
        >>> mask.zeros, mask.keep
        (2, tensor([[ True, False,  True],
                [ True,  True, False]]))
        >>> MaskPositions.of(~mask.keep).positions, MaskPositions.of(~mask.keep).dropped
        (array([1, 5], dtype=int32), False)
    """

    positions: npt.NDArray[Any]
    dropped: bool
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        positions, dtype = self.positions, np.dtype(position_dtype(self.weights))
        if positions.dtype != dtype or positions.ndim != 1:
            raise ConfigurationError(
                f"positions among {self.weights} weights are a one-dimensional array of {dtype}, received "
                f"{positions.ndim} dimensions of {positions.dtype}"
            )
        if 2 * positions.size > self.weights:
            raise ConfigurationError(
                f"{positions.size} of {self.weights} weights are not the rarer kind; give the positions of the others"
            )
        if positions.size and not (
            positions[0] >= 0 and positions[-1] < self.weights and bool((positions[1:] > positions[:-1]).all())
        ):
            raise ConfigurationError(f"positions must ascend, from 0 or more to less than {self.weights}")
        object.__setattr__(self, "positions", _read_only(positions))

    @classmethod
    def of(cls, keep: Tensor) -> MaskPositions:
        """The positions of a keep mask's dropped weights, or of the survivors if they are fewer.

        Args:
            keep: boolean, any shape, strides and device; True where the weight survives.

        Raises:
            ConfigurationError: if the mask is not boolean.
        """
        if keep.dtype is not torch.bool:
            raise ConfigurationError(
                f"a keep mask is boolean, True where the weight survives; received {keep.dtype}: pass `mask > 0`"
            )
        flat = keep.detach().cpu().contiguous().reshape(-1).numpy()
        dropped = 2 * int(np.count_nonzero(flat)) >= flat.size
        return cls(np.flatnonzero(flat != dropped).astype(position_dtype(flat.size)), dropped, tuple(keep.shape))

    @property
    def count(self) -> int:
        """How many weights are of the rarer kind."""
        return self.positions.size

    @property
    def weights(self) -> int:
        """How many weights the mask is for."""
        return math.prod(self.shape)

    @property
    def zeros(self) -> int:
        """How many weights are dropped."""
        return self.count if self.dropped else self.weights - self.count

    @property
    def keep(self) -> Tensor:
        """One boolean a weight, True where it survives; a new tensor on the CPU."""
        flat = np.full(self.weights, self.dropped)
        flat[self.positions] = not self.dropped
        return torch.from_numpy(flat).reshape(self.shape)


@final
@dataclass(frozen=True, eq=False, init=False, repr=False)
class KeepMask:
    """Zero some weights and leave the others at the base's values.

    θ = θ̃ ⊙ μ, exactly: kept weights keep every bit, dropped ones become +0.0. It takes at most one bit a weight.

    Args:
        keep: boolean, the tensor's shape, True where the weight survives; or where the rarer kind stands, as decoding
            gives it, so that no boolean is ever made. Nothing that is written to it later reaches the mask.

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

    shape: tuple[int, ...]
    zeros: int
    dropped: npt.NDArray[Any]  # positions, or words of 64 bits: weight i is bit i mod 64 of word i // 64

    def __init__(self, keep: Tensor | MaskPositions) -> None:
        mask = MaskPositions.of(keep) if isinstance(keep, Tensor) else keep
        dropped, words = mask.positions, -(-mask.weights // 64)
        if not mask.dropped or dropped.nbytes > 8 * words:
            from supermask.deltas import mask_kernels

            dropped = np.zeros(words, dtype=np.uint64)
            mask_kernels.pack(mask.positions, dropped)
            if not mask.dropped:
                np.invert(dropped, out=dropped)
                dropped[-1:] &= np.uint64((1 << 64) - 1 >> -mask.weights % 64)
        object.__setattr__(self, "shape", mask.shape)
        object.__setattr__(self, "zeros", mask.zeros)
        object.__setattr__(self, "dropped", _read_only(dropped))

    @property
    def keep(self) -> Tensor:
        """One boolean a weight, True where it survives; a new tensor on the CPU."""
        return self.dropped_on(torch.device("cpu")).logical_not_()

    @property
    def positions(self) -> MaskPositions:
        """The positions of the rarer kind of weight."""
        return MaskPositions.of(self.keep) if self.in_bits else MaskPositions(self.dropped, True, self.shape)

    @property
    def nbytes(self) -> int:
        """The memory it takes."""
        return self.dropped.nbytes

    def apply(self, tensor: Tensor) -> Tensor:
        """The changed tensor, leaving the given one as it is.

        Args:
            tensor: the base's tensor, of the mask's shape.

        Returns:
            A new tensor of the same dtype and device.

        Raises:
            ConfigurationError: if the shape is another.
        """
        if tuple(tensor.shape) != self.shape:
            raise ConfigurationError(
                f"this change is for a tensor of shape {self.shape}, received {tuple(tensor.shape)}"
            )
        return as_bits(tensor).masked_fill(self.dropped_on(tensor.device), 0).view(tensor.dtype)

    @property
    def in_bits(self) -> bool:
        """Whether `dropped` are words of bits."""
        return self.dropped.dtype == np.uint64

    def dropped_on(self, device: torch.device) -> Tensor:
        """One boolean a weight, True where it is dropped; what moves to the device is the small form."""
        weights = math.prod(self.shape)
        if self.in_bits:
            data = torch.from_numpy(self.dropped.view(np.uint8).copy()).to(device)
            flat = (
                (data.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8, device=device) & 1).view(-1)[:weights].bool()
            )
        else:
            flat = torch.zeros(weights, dtype=torch.bool, device=device)
            flat[torch.from_numpy(self.dropped.copy()).to(device).long()] = True
        return flat.reshape(self.shape)

    def __repr__(self) -> str:
        return f"KeepMask({self.zeros} of {math.prod(self.shape)} weights dropped, shape {self.shape})"


@final
class Overwritten:
    """What a change overwrites in one tensor, so that it can be put back: the weights that a mask drops, or all.

    Tensors are given as integers (`as_bits`), of any strides and without overlap, on any device.

    Args:
        tensor: that is going to be changed; nothing is written to it yet.
        mask: what is put on it, or None if it is replaced as a whole.
    """

    def __init__(self, tensor: Tensor, mask: KeepMask | None) -> None:
        self.mask = mask
        self._old = tensor.clone() if mask is None else tensor.new_empty(mask.zeros)
        self._filled = np.zeros(1, dtype=np.bool_)  # until then a mask has moved nothing

    def put_on_(self, tensor: Tensor, whole: Tensor | None = None) -> None:
        """Drop what the mask drops, or write the whole. Whatever interrupts it, `take_off_` gives the tensor back."""
        if self.mask is not None:
            self._lift_(self.mask, tensor, self._old, self._filled)
        elif whole is not None:
            tensor.copy_(whole)

    def take_off_(self, tensor: Tensor) -> None:
        """Put back what was there before; once or several times makes no difference."""
        if self.mask is None:
            tensor.copy_(self._old)
        elif not self._filled[0]:
            return
        elif _is_plain(tensor):
            from supermask.deltas import mask_kernels

            put = mask_kernels.put_bits if self.mask.in_bits else mask_kernels.put_positions
            put(tensor.view(-1).numpy(), self.mask.dropped, self._old.cpu().numpy())
            _tell_autograd(tensor)
        else:
            tensor.masked_scatter_(self.mask.dropped_on(tensor.device), self._old.to(tensor.device))

    def put_on_again_(self, tensor: Tensor, whole: Tensor | None) -> None:
        """Undo `take_off_`; once or several times makes no difference.

        Args:
            tensor: to change again.
            whole: what it was before it was taken off, if it was and there is no mask: that stands nowhere else.
        """
        if self.mask is not None:
            scratch = torch.empty_like(self._old, device=tensor.device)
            self._lift_(self.mask, tensor, scratch, np.zeros(1, dtype=np.bool_))
        elif whole is not None:
            tensor.copy_(whole)

    @staticmethod
    def _lift_(mask: KeepMask, tensor: Tensor, lifted: Tensor, filled: npt.NDArray[np.bool_]) -> None:
        """Move the dropped weights to `lifted`, in row-major order, and leave zeros."""
        if _is_plain(tensor):
            from supermask.deltas import mask_kernels

            lift = mask_kernels.lift_bits if mask.in_bits else mask_kernels.lift_positions
            lift(tensor.view(-1).numpy(), mask.dropped, lifted.numpy(), filled)
            _tell_autograd(tensor)
        else:
            dropped = mask.dropped_on(tensor.device)
            lifted.copy_(tensor[dropped])
            filled[0] = True
            tensor.masked_fill_(dropped, 0)


def _is_plain(bits: Tensor) -> bool:
    return bits.device.type == "cpu" and bits.is_contiguous()


def _tell_autograd(bits: Tensor) -> None:
    # torch counts its own writes, so that a backward pass through a graph from before one fails; it missed this one.
    if not bits.is_inference():
        torch.autograd.graph.increment_version(bits)


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view: npt.NDArray[Any] = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
