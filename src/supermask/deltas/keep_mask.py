"""A keep mask in memory: small, and quick to put on a tensor and to take off again.

At a sparsity of 1% a mask names one weight in a hundred: as positions of 32 bits it takes a third of a bit a weight,
and putting it on touches those weights alone, in half of the time that a look at one bit for every weight takes. From
one weight in 32 on, one bit a weight is smaller, and as quick. A mask takes the smaller form; nobody else sees which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supermask.deltas.tensor_bytes import as_bits
from supermask.errors import ConfigurationError

__all__ = ["KeepMask", "MaskPositions", "Overwritten", "position_dtype"]


def position_dtype(weights: int) -> npt.DTypeLike:
    """What positions in a tensor of so many weights are counted in: int32 below 2^31, int64 from there on."""
    return np.int32 if weights < 1 << 31 else np.int64


@final
@dataclass(frozen=True, eq=False)
class MaskPositions:
    """Where the rarer kind of a mask's weights stand, as coding reads and gives it: the dropped, or the survivors.

    Args:
        positions: in the flattened tensor (row-major), ascending, of dtype `position_dtype(weights)`; at most half of
            the weights. ConfigurationError if not. Not copied: from here on it is the mask's.
        dropped: whether these are the dropped weights; False if they are the survivors.
        shape: of the tensor that the mask is for.

    Example:
        >>> MaskPositions(np.array([1], dtype=np.int32), dropped=True, shape=(1, 3)).keep
        tensor([[ True, False,  True]])
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
        ascending = bool((positions[1:] > positions[:-1]).all())
        if not ascending or (positions.size and not 0 <= positions[0] <= positions[-1] < self.weights):
            raise ConfigurationError(f"positions must ascend, from 0 or more to less than {self.weights}")
        held = np.ascontiguousarray(positions).view()
        held.flags.writeable = False
        object.__setattr__(self, "positions", held)

    @classmethod
    def of(cls, keep: Tensor) -> MaskPositions:
        """Where a boolean mask's dropped weights stand, or the survivors if they are fewer."""
        if keep.dtype is not torch.bool:
            raise ConfigurationError(
                f"a keep mask is boolean, True where the weight survives; received {keep.dtype}: pass `mask > 0`"
            )
        flat = keep.detach().cpu().contiguous().reshape(-1).numpy()
        dropped = 2 * int(np.count_nonzero(flat)) >= flat.size
        return cls(np.flatnonzero(flat != dropped).astype(position_dtype(flat.size)), dropped, tuple(keep.shape))

    @property
    def weights(self) -> int:
        """How many weights the mask is for."""
        return math.prod(self.shape)

    @property
    def zeros(self) -> int:
        """How many weights are dropped."""
        return self.positions.size if self.dropped else self.weights - self.positions.size

    @property
    def keep(self) -> Tensor:
        """One boolean a weight, True where it survives; a new tensor on the CPU."""
        flat = np.full(self.weights, self.dropped)
        flat[self.positions] = not self.dropped
        return torch.from_numpy(flat).reshape(self.shape)


@final
@dataclass(frozen=True, eq=False, init=False)
class KeepMask:
    """Zero some weights and leave the others at the base's values.

    θ = θ̃ ⊙ μ, exactly: kept weights keep every bit, dropped ones become +0.0. It takes at most one bit a weight.

    Args:
        keep: boolean, the tensor's shape, True where the weight survives; or where the rarer kind stands, as decoding
            gives it. Nothing that is written to it later reaches the mask.

    Raises:
        ConfigurationError: if `keep` is a tensor and not boolean.

    Example:
        >>> change = KeepMask(torch.tensor([True, False, True]))
        >>> change.apply(torch.tensor([1.0, 2.0, -0.0])), change.zeros
        (tensor([1., 0., -0.]), 1)

    Source: equation 3 of the paper.
    """

    shape: tuple[int, ...]
    zeros: int
    # Positions, or words of 64 bits: weight i is bit i mod 64 of word i // 64.
    dropped: npt.NDArray[Any] = field(repr=False)

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
            dropped.flags.writeable = False
        for name, value in (("shape", mask.shape), ("zeros", mask.zeros), ("dropped", dropped)):
            object.__setattr__(self, name, value)

    @property
    def keep(self) -> Tensor:
        """One boolean a weight, True where it survives; a new tensor on the CPU."""
        return self.dropped_on(torch.device("cpu")).logical_not_()

    @property
    def positions(self) -> MaskPositions:
        """Where the rarer kind of weight stands."""
        return MaskPositions.of(self.keep) if self.in_bits else MaskPositions(self.dropped, True, self.shape)

    @property
    def in_bits(self) -> bool:
        """Whether `dropped` are words of bits."""
        return self.dropped.dtype == np.uint64

    def apply(self, tensor: Tensor) -> Tensor:
        """A changed copy of the base's tensor, on its device; ConfigurationError if it has another shape."""
        if tuple(tensor.shape) != self.shape:
            raise ConfigurationError(
                f"this change is for a tensor of shape {self.shape}, received {tuple(tensor.shape)}"
            )
        return as_bits(tensor).masked_fill(self.dropped_on(tensor.device), 0).view(tensor.dtype)

    def dropped_on(self, device: torch.device) -> Tensor:
        """One boolean a weight, True where it is dropped; what moves to the device is the small form."""
        stored = self.dropped.view(np.uint8) if self.in_bits else self.dropped
        data, weights = torch.from_numpy(stored.copy()).to(device), math.prod(self.shape)
        if self.in_bits:
            place = torch.arange(8, dtype=torch.uint8, device=device)
            flat = (data.unsqueeze(1) >> place & 1).view(-1)[:weights].bool()
        else:
            flat = torch.zeros(weights, dtype=torch.bool, device=device)
            flat[data.long()] = True
        return flat.reshape(self.shape)


@final
class Overwritten:
    """What a change overwrites in one tensor, so that it can be put back: the weights that a mask drops, or all.

    Tensors are given as integers (`as_bits`), of any strides and without overlap, on any device. `mask` is what is put
    on it; None if it is replaced as a whole.
    """

    def __init__(self, tensor: Tensor, mask: KeepMask | None) -> None:
        self.mask = mask
        self._old = tensor.clone() if mask is None else tensor.new_empty(mask.zeros)
        self._out = np.zeros(1, dtype=np.bool_)  # until then a mask has moved nothing

    def put_on_(self, tensor: Tensor, whole: Tensor | None = None) -> None:
        """Drop what the mask drops, or write the whole, if it is given; the first time, what stood there is kept.

        Once or several times makes no difference, and whatever interrupts it, `take_off_` gives the tensor back.
        """
        if self.mask is None:
            if whole is not None:
                tensor.copy_(whole)
        elif self._out[0] or not self._move_in_loop_(tensor, self.mask):
            dropped = self.mask.dropped_on(tensor.device)
            if not self._out[0]:
                self._old.copy_(tensor[dropped])
                self._out[0] = True
            tensor.masked_fill_(dropped, 0)

    def take_off_(self, tensor: Tensor) -> None:
        """Put back what was there before; once or several times makes no difference."""
        if self.mask is None:
            tensor.copy_(self._old)
        elif self._out[0] and not self._move_in_loop_(tensor, self.mask):
            tensor.masked_scatter_(self.mask.dropped_on(tensor.device), self._old.to(tensor.device))

    def _move_in_loop_(self, tensor: Tensor, mask: KeepMask) -> bool:
        """Move the dropped weights out, or back if they are out, if a compiled loop can."""
        if tensor.device.type != "cpu" or not tensor.is_contiguous():
            return False
        from supermask.deltas import mask_kernels

        move = mask_kernels.move_bits if mask.in_bits else mask_kernels.move_positions
        move(tensor.view(-1).numpy(), mask.dropped, self._old.cpu().numpy(), self._out)
        # torch counts its own writes, so that a backward pass through a graph from before one fails; it missed this.
        if not tensor.is_inference():
            torch.autograd.graph.increment_version(tensor)
        return True
