"""Changing one tensor in place so that it can be changed back, to the last bit.

On a contiguous tensor of the CPU a mask goes on and comes off in one pass of a compiled loop over the weights that it
drops. Elsewhere, on a device or with other strides, the same is done in torch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supermask.deltas.changes import Change, DenseValues, KeepMask
from supermask.deltas.positions import MaskPlaces, MaskPositions, places_in, places_nbytes, positions_from_places
from supermask.deltas.tensor_bytes import as_bits, dtype_name
from supermask.errors import ConfigurationError

__all__ = ["LiftedWeights", "OldTensor", "Overwritten", "Reserve", "overwrite_"]

_ALIGNMENT = 64


@final
@dataclass(frozen=True, eq=False)
class LiftedWeights:
    """The weights that a keep mask dropped: their bits, and where they belong.

    Args:
        places: which weights; the dropped ones are the rarer kind.
        values: their bits in row-major order, on the device that the tensor was on.
        done: one boolean, True from the moment on when all values are in: until then the tensor is as it was.
    """

    places: MaskPlaces
    values: Tensor
    done: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(1, dtype=np.bool_))

    @property
    def nbytes(self) -> int:
        """The memory it takes, the places included."""
        return self.places.nbytes + self.values.nbytes

    def undo_(self, tensor: Tensor) -> None:
        """Put the weights back; once or several times makes no difference."""
        if self.done[0]:
            _put_(as_bits(tensor), self.places, self.values)

    def redo_(self, tensor: Tensor) -> None:
        """Drop them again after `undo_`; once or several times makes no difference."""
        if self.done[0]:
            bits = as_bits(tensor)
            _lift_(bits, self.places, _empty(self.places, bits), np.zeros(1, dtype=np.bool_))


@final
@dataclass(frozen=True, eq=False)
class OldTensor:
    """The whole of a tensor before it got other values.

    Args:
        bits: of all its elements, on the device that it was on.
    """

    bits: Tensor

    @property
    def nbytes(self) -> int:
        """The memory it takes."""
        return self.bits.nbytes

    def undo_(self, tensor: Tensor) -> None:
        """Put the old elements back; once or several times makes no difference."""
        as_bits(tensor).copy_(self.bits)


Overwritten: TypeAlias = LiftedWeights | OldTensor
"""What a change overwrote in one tensor."""


@final
class Reserve:
    """One stretch of memory for what masks of many tensors overwrite.

    Records live on while memory for decoding comes and goes. Were they allocated between, the holes would add up. And
    memory that is used again has not to be asked from the system page by page, which takes as long as a mask does.

    Args:
        masks: the dropped and all weights of each mask, and the bytes of an element.
        holds_places: whether records keep the places of their weights here too, and not share them with the change.
        spare: one that is in use no more, for its memory.
    """

    def __init__(
        self, masks: Iterable[tuple[int, int, int]], *, holds_places: bool, spare: Reserve | None = None
    ) -> None:
        nbytes = 0
        for zeros, weights, itemsize in masks:
            if 2 * zeros <= weights:
                places = places_nbytes(zeros, weights) if holds_places else 0
                nbytes += _aligned(zeros * itemsize) + _aligned(places)
        fits = spare is not None and nbytes <= spare._memory.size
        # What is new takes no memory before it is written to.
        self._memory: npt.NDArray[np.uint8] = (
            spare._memory if spare is not None and fits else np.empty(nbytes, dtype=np.uint8)
        )
        self._used = 0
        self._lock = threading.Lock()
        self.holds_places = holds_places

    def take(self, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of `count` elements that nobody else has; from elsewhere if the reserve is too small after all."""
        nbytes = count * np.dtype(dtype).itemsize
        with self._lock:
            start, end = self._used, self._used + nbytes
            if end > self._memory.size:
                return np.empty(count, dtype=dtype)
            self._used += _aligned(nbytes)
        return self._memory[start:end].view(dtype)


def overwrite_(
    tensor: Tensor, change: Change, keep_record: Callable[[Overwritten], None], *, reserve: Reserve | None = None
) -> None:
    """Change a tensor in place.

    Args:
        tensor: of any strides, on any device; without overlap within itself.
        change: what is to become of it.
        keep_record: takes what is overwritten, before the first bit of the tensor moves: whatever interrupts this
            function, undoing the record gives the tensor back.
        reserve: where the record of a mask gets its memory.

    Raises:
        ConfigurationError: if the change is for another shape or dtype; nothing is on record then.
    """
    if tuple(tensor.shape) != change.shape:
        raise ConfigurationError(f"a change of shape {change.shape} is not for a tensor of {tuple(tensor.shape)}")
    if not isinstance(change, KeepMask) and change.values.dtype is not tensor.dtype:
        raise ConfigurationError(f"values of {change.values.dtype} are not for a tensor of {dtype_name(tensor.dtype)}")
    bits = as_bits(tensor)
    if isinstance(change, DenseValues):
        keep_record(OldTensor(bits.clone()))
        bits.copy_(as_bits(change.values))
        return
    places = change.places
    if isinstance(change, KeepMask) and places.dropped:
        values = None
        if reserve is not None:
            places = places_in(places, reserve.take) if reserve.holds_places else places
            if bits.device.type == "cpu":
                values = torch.from_numpy(reserve.take(places.count, f"i{bits.element_size()}"))
        lifted = LiftedWeights(places, _empty(places, bits) if values is None else values)
        keep_record(lifted)
        _lift_(bits, places, lifted.values, lifted.done)
        return
    keep_record(OldTensor(bits.clone()))
    if isinstance(change, KeepMask):
        survivors = _empty(places, bits)
        _lift_(bits, places, survivors, np.zeros(1, dtype=np.bool_))
    else:
        survivors = as_bits(change.values)
    bits.zero_()
    if places.dropped:
        bits.masked_scatter_(change.keep.to(bits.device), survivors.to(bits.device))
    else:
        _put_(bits, places, survivors)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def _empty(places: MaskPlaces, bits: Tensor) -> Tensor:
    return torch.empty(places.count, dtype=bits.dtype, device=bits.device)


def _lift_(bits: Tensor, places: MaskPlaces, values: Tensor, done: npt.NDArray[np.bool_]) -> None:
    """Move the weights at `places` to `values` and leave zeros; `done` says when there is something to undo."""
    if _is_plain(bits):
        from supermask.deltas import mask_kernels

        if isinstance(places, MaskPositions):
            mask_kernels.lift_positions(_flat(bits), places.positions, values.numpy(), done)
        else:
            mask_kernels.lift_bits(_flat(bits), places.words, values.numpy(), done)
        _tell_autograd(bits)
    else:
        target, index = _indexed(bits, places)
        values.copy_(target[index])
        done[0] = True
        target[index] = 0


def _put_(bits: Tensor, places: MaskPlaces, values: Tensor) -> None:
    """Write `values` to the weights at `places`."""
    if _is_plain(bits):
        from supermask.deltas import mask_kernels

        source = values.cpu().contiguous().numpy()
        if isinstance(places, MaskPositions):
            mask_kernels.put_positions(_flat(bits), places.positions, source)
        else:
            mask_kernels.put_bits(_flat(bits), places.words, source)
        _tell_autograd(bits)
    else:
        target, index = _indexed(bits, places)
        target[index] = values.to(bits.device)


def _is_plain(bits: Tensor) -> bool:
    return bits.device.type == "cpu" and bits.is_contiguous()


def _flat(bits: Tensor) -> npt.NDArray[Any]:
    flat: npt.NDArray[Any] = bits.view(-1).numpy()
    return flat


def _indexed(bits: Tensor, places: MaskPlaces) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A view of the tensor, and the indices of the places in it."""
    index = torch.tensor(positions_from_places(places).positions, device=bits.device).long()
    if bits.is_contiguous():
        return bits.view(-1), (index,)
    return bits, torch.unravel_index(index, bits.shape)


def _tell_autograd(bits: Tensor) -> None:
    # torch counts its own writes, so that a backward pass through a graph from before one fails; it missed this one.
    if not bits.is_inference():
        torch.autograd.graph.increment_version(bits)
