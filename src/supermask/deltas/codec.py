"""The keep mask as bytes: gaps between the rarer symbols, entropy-coded in N·H(s) bits wherever the zeros fall.

The zeros of a mask (or the survivors, if they are fewer) are coded by the number of other weights before each: its gap.
If every weight is one of the k rarer out of N with probability p = k/N, whatever its neighbours are, a gap g has
probability (1 - p)^g p, and the k gaps cost at most -k log₂ p - (N - k) log₂ (1 - p) = N·H(p) bits, whatever the
arrangement. Gaps of `limit` and more spend an escape symbol of probability (1 - p)^limit for each `limit`; a geometric
law has no memory, so that costs nothing extra.

The coder is the asymmetric numeral system of the library `constriction`; its frequencies are computed here in whole
numbers, so that every platform agrees on them. docs/FORMAT.md, section "Keep masks", specifies all of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import constriction
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supermask.deltas.entropy_model import exact_model
from supermask.errors import ConfigurationError, DeltaFormatError

__all__ = [
    "MAX_WEIGHTS",
    "decode_keep_mask",
    "encode_keep_mask",
    "escape_limit",
    "gap_frequencies",
    "is_storable_shape",
]

MAX_WEIGHTS = 1 << 34
"""The largest tensor of the format: 17 billion weights."""

_PRECISION = 24  # fixed by constriction's default coder
_TOTAL = 1 << _PRECISION
_SURVIVAL_BITS = 60
_LARGEST_LIMIT = 1024
_MEAN_GAPS = 8  # a gap of 8 mean gaps or more, which needs an escape, has probability exp(-8)
_BLOCK = 1 << 20  # weights or symbols at a time: the working set stays in cache and small beside the mask

_Symbols: TypeAlias = npt.NDArray[np.int32]
_Positions: TypeAlias = npt.NDArray[np.int64]


def is_storable_shape(shape: Sequence[int]) -> bool:
    """Whether the format can hold a tensor of this shape: no negative size, and at most `MAX_WEIGHTS` strides.

    Example:
        >>> is_storable_shape((768, 768)), is_storable_shape((0, 1 << 60))
        (True, False)
    """
    return all(size >= 0 for size in shape) and math.prod(max(size, 1) for size in shape) <= MAX_WEIGHTS


def escape_limit(weights: int, rarer: int) -> int:
    """The gap from which on a gap is escaped: 8 mean gaps, at most 1024.

    Args:
        weights: N, the size of the mask.
        rarer: k, how many weights have the rarer symbol, 1 ≤ k ≤ N/2.

    Returns:
        min(1024, ceil(8 N / k)).

    Example:
        >>> escape_limit(1000, 500), escape_limit(1000, 30), escape_limit(1000, 1)
        (16, 267, 1024)
    """
    return min(_LARGEST_LIMIT, -(-_MEAN_GAPS * weights // rarer))


def gap_frequencies(weights: int, rarer: int) -> list[int]:
    """The coder's frequency table: how many of 2^24 go to each gap below the limit, and to the escape.

    With S₀ = 2^60, S_{g+1} = floor(S_g (N - k) / N) and L the limit, the cumulative frequency of gap g is
    g + floor((2^24 - L - 1) (2^60 - S_g) / 2^60). Every symbol so gets at least (1 - (L + 2) / 2^24) of its ideal
    frequency, and costs at most 0.00009 bits more than ideal.

    Args:
        weights: N, the size of the mask.
        rarer: k, how many weights have the rarer symbol, 1 ≤ k ≤ N/2.

    Returns:
        L + 1 whole numbers of at least 1 that sum to 2^24; the last is the escape's.

    Example:
        >>> table = gap_frequencies(4, 2)
        >>> table[:4], sum(table) == 2**24
        ([8388600, 4194301, 2097151, 1048576], True)
    """
    limit = escape_limit(weights, rarer)
    room, one = _TOTAL - limit - 1, 1 << _SURVIVAL_BITS
    survival, cumulative = one, []
    for gap in range(limit + 1):
        cumulative.append(gap + (room * (one - survival) >> _SURVIVAL_BITS))
        survival = survival * (weights - rarer) // weights
    cumulative.append(_TOTAL)
    return [after - before for before, after in itertools.pairwise(cumulative)]


def encode_keep_mask(keep: Tensor) -> bytes:
    """Code a keep mask in at most 1.0001·N·H(s) bits and a dozen bytes, whatever the arrangement of its zeros.

    Args:
        keep: boolean, any shape, True where the weight survives; taken in row-major order.

    Returns:
        The payload: empty if all weights agree. How many zeros there are is not in it and must be stored beside it.

    Raises:
        ConfigurationError: if the mask is not boolean, or has more than `MAX_WEIGHTS` weights.

    Example:
        >>> keep = torch.ones(768, 768, dtype=torch.bool)
        >>> keep[::3, ::33] = False
        >>> payload = encode_keep_mask(keep)
        >>> round(8 * len(payload) / keep.numel(), 3), torch.equal(decode_keep_mask(payload, (768, 768), 6144), keep)
        (0.084, True)
    """
    if keep.dtype is not torch.bool:
        raise ConfigurationError(f"a keep mask is boolean, received {keep.dtype}")
    weights = keep.numel()
    if weights > MAX_WEIGHTS:
        raise ConfigurationError(f"a keep mask has at most {MAX_WEIGHTS} weights, received {weights}")
    flat = keep.detach().cpu().contiguous().reshape(-1).numpy()
    zeros = weights - int(np.count_nonzero(flat))
    rarer = min(zeros, weights - zeros)
    if rarer == 0:
        return b""
    coded = zeros > weights - zeros
    limit, model = escape_limit(weights, rarer), _model(weights, rarer)
    coder = constriction.stream.stack.AnsCoder()
    escapes, following = 0, None
    # The coder is a stack, so blocks go in from the last to the first and come out in order.
    for start in reversed(range(0, weights, _BLOCK)):
        positions: _Positions = np.flatnonzero(flat[start : start + _BLOCK] == coded) + start
        if following is not None:
            positions = np.append(positions, following)
        if positions.size:
            escapes += _push(coder, model, np.diff(positions) - 1, limit)
            following = positions[0]
    escapes += _push(coder, model, np.array([following], dtype=np.int64), limit)
    words = np.concatenate([np.array([escapes], dtype=np.uint32), coder.get_compressed()])
    payload: bytes = words.astype("<u4").tobytes()
    return payload


def decode_keep_mask(payload: bytes | memoryview, shape: Sequence[int], zeros: int) -> Tensor:
    """The keep mask that `encode_keep_mask` coded.

    Memory stays below the mask's own N bytes plus some 40 MB, and time below a fixed amount a weight, whatever the
    payload says.

    Args:
        payload: the bytes.
        shape: of the mask.
        zeros: how many weights it drops.

    Returns:
        Boolean tensor on the CPU, True where the weight survives.

    Raises:
        DeltaFormatError: if the payload is not exactly what `encode_keep_mask` gives for some mask of this shape and
            number of zeros.

    Example:
        >>> decode_keep_mask(b"", (2, 2), zeros=4)
        tensor([[False, False],
                [False, False]])
    """
    weights = math.prod(shape)
    if not is_storable_shape(shape) or not 0 <= zeros <= weights:
        raise DeltaFormatError(f"there is no keep mask of shape {tuple(shape)} with {zeros} zeros")
    rarer = min(zeros, weights - zeros)
    if len(payload) % 4 or (rarer == 0) != (len(payload) == 0):
        raise DeltaFormatError(f"{len(payload)} bytes cannot code a keep mask of {weights} weights with {zeros} zeros")
    if rarer == 0:
        return torch.full(tuple(shape), zeros == 0, dtype=torch.bool)
    words = np.frombuffer(payload, dtype="<u4").astype(np.uint32)
    if words.size > 1 and words[-1] == 0:
        raise DeltaFormatError("the payload of a keep mask ends in a zero word, which the coder never writes")
    coded = zeros > weights - zeros
    flat = np.full(weights, not coded, dtype=np.bool_)
    _pull(words[1:], int(words[0]), rarer, flat, coded)
    return torch.from_numpy(flat).reshape(tuple(shape))


def _push(coder: Any, model: Any, gaps: _Positions, limit: int) -> int:
    """Code a run of gaps; returns how many escapes they took."""
    if not gaps.size:
        return 0
    if gaps.max() < limit:
        coder.encode_reverse(gaps.astype(np.int32), model)
        return 0
    escapes = gaps // limit
    total = int(escapes.sum())
    symbols = np.full(gaps.size + total, limit, dtype=np.int32)
    symbols[np.arange(gaps.size) + np.cumsum(escapes)] = gaps - escapes * limit
    coder.encode_reverse(symbols, model)
    return total


def _pull(words: npt.NDArray[np.uint32], escapes: int, rarer: int, flat: npt.NDArray[np.bool_], coded: bool) -> None:
    """Decode all gaps and set the weights that they point at to `coded`."""
    limit, model = escape_limit(flat.size, rarer), _model(flat.size, rarer)
    if escapes * limit > flat.size - rarer:
        raise DeltaFormatError(f"the payload of a keep mask claims {escapes} escapes, more than have room")
    coder = constriction.stream.stack.AnsCoder(words)
    left, position, ends_in_gap = rarer + escapes, 0, False
    while left:
        symbols: _Symbols = coder.decode(model, min(left, _BLOCK))
        is_gap = symbols != limit
        # A gap steps over its weights and the coded one after them, an escape over `limit` weights.
        ends = np.cumsum(symbols + is_gap, dtype=np.int64)
        ends += position
        if ends[-1] > flat.size:
            raise DeltaFormatError(f"the payload of a keep mask points behind its {flat.size} weights")
        positions = ends if is_gap.all() else ends[is_gap]
        flat[positions - 1] = coded
        rarer -= positions.size
        left -= symbols.size
        position, ends_in_gap = int(ends[-1]), bool(is_gap[-1])
    if rarer or not ends_in_gap or not coder.is_empty():
        raise DeltaFormatError("the payload of a keep mask does not code the number of zeros that the document states")


def _model(weights: int, rarer: int) -> Any:
    return exact_model(gap_frequencies(weights, rarer))
