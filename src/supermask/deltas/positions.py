"""A keep mask as it is decoded: the places of the rarer kind of weight, in a form that is small and quick to apply.

At a sparsity of 1% a mask names one weight in a hundred. As positions of 32 bits that takes a third of what one bit a
weight takes, an eighth of what one boolean a weight takes, and putting it on a model touches those weights alone. From
1 weight in 32 on, one bit a weight is smaller; `compact` picks the smaller of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supermask.errors import ConfigurationError

__all__ = [
    "MaskBits",
    "MaskPlaces",
    "MaskPositions",
    "compact_places",
    "keep_from_places",
    "places_in",
    "places_nbytes",
    "position_dtype",
    "positions_from_keep",
    "positions_from_places",
]

_BLOCK = 1 << 18  # weights at a time, since numpy counts positions in 64 bits


def position_dtype(weights: int) -> npt.DTypeLike:
    """What positions in a tensor are counted in: int32 below 2^31 weights, int64 from there on.

    Args:
        weights: how many the tensor has.

    Returns:
        The numpy dtype.

    Example:
        >>> np.dtype(position_dtype(1000)), np.dtype(position_dtype(2**31))
        (dtype('int32'), dtype('int64'))
    """
    return np.int32 if weights < 1 << 31 else np.int64


@final
@dataclass(frozen=True, eq=False)
class MaskPositions:
    """Where the rarer kind of a mask's weights stand: the dropped ones, or the survivors if most are dropped.

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
        >>> mask.zeros, keep_from_places(mask)
        (2, tensor([[ True, False,  True],
                [ True,  True, False]]))
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
    def nbytes(self) -> int:
        """The memory it takes."""
        return self.positions.nbytes


@final
@dataclass(frozen=True, eq=False)
class MaskBits:
    """The same at one bit a weight; made by `compact_places` alone, which counts the bits.

    Args:
        words: weight i is bit i mod 64 of word i // 64, and one if it is of the rarer kind; ends in zeros.
        count: how many weights are of the rarer kind.
        dropped: whether these are the dropped weights; False if they are the survivors.
        shape: of the tensor that the mask is for.
    """

    words: npt.NDArray[np.uint64]
    count: int
    dropped: bool
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", _read_only(self.words))

    @property
    def weights(self) -> int:
        """How many weights the mask is for."""
        return math.prod(self.shape)

    @property
    def zeros(self) -> int:
        """How many weights are dropped."""
        return self.count if self.dropped else self.weights - self.count

    @property
    def nbytes(self) -> int:
        """The memory it takes."""
        return self.words.nbytes


MaskPlaces: TypeAlias = MaskPositions | MaskBits
"""Which weights a mask drops, as positions or as bits."""


def positions_from_keep(keep: Tensor) -> MaskPositions:
    """Where the rarer kind of a keep mask's weights stand.

    Args:
        keep: boolean, any shape, strides and device; True where the weight survives.

    Returns:
        The positions of the dropped weights, or of the survivors if they are fewer.

    Raises:
        ConfigurationError: if the mask is not boolean.

    Example:
        >>> mask = positions_from_keep(torch.tensor([[True, False], [False, False]]))
        >>> mask.positions.tolist(), mask.dropped
        ([0], False)
    """
    if keep.dtype is not torch.bool:
        raise ConfigurationError(f"a keep mask is boolean, True where the weight survives; received {keep.dtype}")
    flat = keep.detach().cpu().contiguous().reshape(-1).numpy()
    survivors = int(np.count_nonzero(flat))
    dropped = 2 * survivors >= flat.size
    positions = np.empty(flat.size - survivors if dropped else survivors, dtype=position_dtype(flat.size))
    filled = 0
    for start in range(0, flat.size, _BLOCK):
        found = np.flatnonzero(flat[start : start + _BLOCK] != dropped)
        positions[filled : filled + found.size] = found + start
        filled += found.size
    return MaskPositions(positions, dropped, tuple(keep.shape))


def keep_from_places(places: MaskPlaces) -> Tensor:
    """The keep mask: one boolean a weight.

    Args:
        places: which weights are dropped.

    Returns:
        Boolean tensor on the CPU, of the mask's shape, True where the weight survives.

    Example:
        >>> keep = torch.tensor([[True, False], [True, True]])
        >>> torch.equal(keep_from_places(compact_places(positions_from_keep(keep))), keep)
        True
    """
    if isinstance(places, MaskBits):
        data = places.words.astype("<u8", copy=False).view(np.uint8)
        flat = np.unpackbits(data, count=places.weights, bitorder="little").view(np.bool_)
        if places.dropped:
            np.logical_not(flat, out=flat)
    else:
        flat = np.full(places.weights, places.dropped)
        flat[places.positions] = not places.dropped
    return torch.from_numpy(flat).reshape(places.shape)


def compact_places(places: MaskPlaces) -> MaskPlaces:
    """The smaller form: positions while they take fewer bytes than one bit a weight, bits otherwise.

    Args:
        places: in either form.

    Returns:
        The same mask; the very object if it is in its smaller form already, or in bits.

    Example:
        >>> keep = torch.arange(6400) % 100 != 0
        >>> compact_places(positions_from_keep(keep)).nbytes, compact_places(positions_from_keep(keep[:320])).nbytes
        (256, 16)
        >>> type(compact_places(positions_from_keep(torch.arange(640) % 10 != 0))).__name__
        'MaskBits'
    """
    if isinstance(places, MaskBits) or places.nbytes == places_nbytes(places.count, places.weights):
        return places
    from supermask.deltas import mask_kernels

    packed = np.zeros(-(-places.weights // 64), dtype=np.uint64)
    mask_kernels.pack(places.positions, packed)
    return MaskBits(packed, places.count, places.dropped, places.shape)


def places_nbytes(count: int, weights: int) -> int:
    """The memory of a mask in its smaller form.

    Args:
        count: how many weights are of the rarer kind.
        weights: how many there are.

    Returns:
        Bytes.

    Example:
        >>> places_nbytes(10, 6400), places_nbytes(640, 6400)
        (40, 800)
    """
    return min(count * np.dtype(position_dtype(weights)).itemsize, 8 * -(-weights // 64))


def places_in(places: MaskPlaces, allocate: Callable[[int, npt.DTypeLike], npt.NDArray[Any]]) -> MaskPlaces:
    """The mask in other memory.

    Args:
        places: in either form.
        allocate: gives an array of so many elements of a dtype.

    Returns:
        A copy in the same form.
    """
    source = places.words if isinstance(places, MaskBits) else places.positions
    copy = allocate(source.size, source.dtype)
    copy[:] = source
    return replace(places, words=copy) if isinstance(places, MaskBits) else replace(places, positions=copy)


def positions_from_places(places: MaskPlaces) -> MaskPositions:
    """The mask as positions, whatever form it is in.

    Args:
        places: in either form.

    Returns:
        The same mask.

    Example:
        >>> bits = compact_places(positions_from_keep(torch.tensor([True, False, False, False] * 32)))
        >>> positions_from_places(bits).positions[:3].tolist()
        [0, 4, 8]
    """
    if isinstance(places, MaskPositions):
        return places
    from supermask.deltas import mask_kernels

    positions = np.empty(places.count, dtype=position_dtype(places.weights))
    mask_kernels.unpack(places.words, positions)
    return MaskPositions(positions, places.dropped, places.shape)


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view: npt.NDArray[Any] = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
