"""Values as fine-tuning leaves them, and what tests of their codings share."""

import numpy as np
import torch
from torch import Tensor

from supermask.deltas.coding import EncodedValues, decode_values
from supermask.deltas.coding import values as value_coding
from supermask.deltas.tensor_bytes import as_bits, as_bytes, from_bytes


def same(left: Tensor, right: Tensor) -> bool:
    return left.dtype is right.dtype and left.shape == right.shape and as_bytes(left) == as_bytes(right)


def decoded(encoded: EncodedValues, like: Tensor, reference: Tensor | None = None) -> Tensor:
    found = decode_values(
        encoded.data, coding=encoded.coding, dtype=like.dtype, count=like.numel(), reference=reference
    )
    return found.reshape(like.shape)


def numbers(tensor: Tensor) -> list[int]:
    """A tensor's bits as whole numbers, by its bytes alone."""
    data, size = bytes(as_bytes(tensor)), tensor.element_size()
    return [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]


def random_bits(count: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return from_bytes(np.random.default_rng(seed).bytes(count * dtype.itemsize), dtype, (count,))


def tuned(
    count: int, dtype: torch.dtype = torch.float32, *, share: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """A base of normal weights, and the same after steps of one absolute size in some rows of 64."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(count, generator=generator) * 0.05
    rows = torch.rand(-(-count // 64), generator=generator) < share
    moved = base + 1e-4 * torch.randn(count, generator=generator) * rows.repeat_interleave(64)[:count]
    return base.to(dtype), moved.to(dtype)


def forced(coding: str, values: Tensor, base: Tensor) -> EncodedValues:
    """Values in a coding that encode_values might not choose for them."""
    words, old = (value_coding._words(as_bits(tensor)) for tensor in (values, base))
    starts = range(0, words.size, 1 << 18)
    frames = [value_coding._frame(words, old if coding == "sorted_difference" else None, start) for start in starts]
    return EncodedValues(b"".join(frames), coding)
