"""Zeroing dropped weights in place, and giving them back to the last bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supermask.deltas.tensor_bytes import as_bits
from supermask.errors import DeltaStateError

__all__ = ["DroppedWeights", "drop_"]


@final
@dataclass(frozen=True)
class DroppedWeights:
    """What merging a mask overwrote: the dropped weights' bits in row-major order, and the mask at one bit a weight."""

    packed_keep: npt.NDArray[np.uint8]
    bits: Tensor

    @torch.no_grad()
    def restore_(self, weight: Tensor) -> None:
        """Put the dropped weights back.

        Args:
            weight: as `drop_` left it, on whatever device it is by now.

        Raises:
            DeltaStateError: if it was converted to another dtype or shape in between; nothing has changed then.
        """
        bits = as_bits(weight)
        if bits.dtype is not self.bits.dtype or len(self.packed_keep) != -(-bits.numel() // 8):
            raise DeltaStateError(
                f"the model was converted while a mask was merged into it: a weight is {weight.dtype} of shape "
                f"{tuple(weight.shape)} now; convert it back before unmerging, or load the base again"
            )
        keep = np.unpackbits(self.packed_keep, count=bits.numel()).view(np.bool_)
        dropped = torch.from_numpy(~keep).reshape(bits.shape).to(bits.device)
        bits[dropped] = self.bits.to(bits.device)


@torch.no_grad()
def drop_(weight: Tensor, keep_mask: Tensor) -> DroppedWeights:
    """Zero the weights that a mask drops, in place.

    Args:
        weight: any shape and floating dtype.
        keep_mask: boolean, same shape, True = survives.

    Returns:
        What `DroppedWeights.restore_` needs to give every bit back.

    Example:
        >>> weight = torch.tensor([1.0, -0.0, float("nan")])
        >>> dropped = drop_(weight, torch.tensor([False, False, True]))
        >>> weight
        tensor([0., 0., nan])
        >>> dropped.restore_(weight)
        >>> weight
        tensor([1., -0., nan])
    """
    bits = as_bits(weight)
    drop = keep_mask.logical_not().to(bits.device)
    packed = np.packbits(keep_mask.cpu().contiguous().numpy())
    dropped = DroppedWeights(packed, bits[drop])
    bits.masked_fill_(drop, 0)
    return dropped
