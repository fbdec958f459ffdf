"""The keep mask as one tensor of bytes, as an adapter's file holds it.

8 bytes    rows of the weight, a little-endian whole number
8 bytes    columns
8 bytes    zeros: how many weights the mask drops
the rest   the mask, entropy-coded as docs/FORMAT.md, section "Version 1", specifies
"""

from __future__ import annotations

import struct

import torch
from torch import Tensor

from supermask.core import zero_count
from supermask.deltas import decode_keep_mask, encode_keep_mask
from supermask.errors import DeltaFormatError

__all__ = ["MASK_FORMAT", "pack_keep_mask", "unpack_keep_mask"]

MASK_FORMAT = 1
"""The version of this layout; an adapter's configuration states it."""

_HEADER = struct.Struct("<QQQ")


def pack_keep_mask(keep_mask: Tensor) -> Tensor:
    """Code a keep mask in about N·H(s) bits, base not needed.

    Example:
        >>> keep_mask = torch.ones(32, 32, dtype=torch.bool)
        >>> keep_mask[3, 5] = False
        >>> packed = pack_keep_mask(keep_mask)
        >>> packed.dtype, len(packed), torch.equal(unpack_keep_mask(packed, (32, 32)), keep_mask)
        (torch.uint8, 32, True)
    """
    rows, columns = keep_mask.shape
    content = _HEADER.pack(rows, columns, zero_count(keep_mask)) + encode_keep_mask(keep_mask)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def unpack_keep_mask(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The keep mask that `pack_keep_mask` coded.

    Example:
        >>> unpack_keep_mask(pack_keep_mask(torch.ones(2, 3, dtype=torch.bool)), (3, 2))
        Traceback (most recent call last):
        supermask.errors.DeltaFormatError: the mask is for a weight of shape (2, 3), and the model's is (3, 2)
    """
    if packed.dtype is not torch.uint8 or packed.dim() != 1 or packed.numel() < _HEADER.size:
        raise DeltaFormatError(
            f"a packed mask is a row of at least {_HEADER.size} uint8, received {packed.dtype} of shape "
            f"{tuple(packed.shape)}"
        )
    content = packed.detach().cpu().contiguous().numpy().tobytes()
    rows, columns, zeros = _HEADER.unpack_from(content)
    if (rows, columns) != tuple(shape):
        raise DeltaFormatError(
            f"the mask is for a weight of shape {(rows, columns)}, and the model's is {tuple(shape)}"
        )
    return decode_keep_mask(content[_HEADER.size :], shape, zeros)
