"""Random bits that are a pure function of a key and an index, the same on every device.

A global generator would make a mask depend on what else drew from it: gradient checkpointing would draw another mask in
its second forward pass, a resumed run would go another way, and CPU and GPU would differ. Here every index of a tensor
gets its own 16 bits from an integer hash of (key, index), so any backend that can multiply 32-bit integers reproduces
them bit for bit.

The hash is three rounds of xor-shift and multiply, with one half of the key added before the first round and the other
before the last; the upper 16 bits come out. The multipliers are those of hash-prospector's `lowbias32` and of
MurmurHash3's finalizer. That the bits are uniform, and independent over neighbours, steps, seeds and tensors, is not
theirs to promise: tests measure it.
"""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["KeyWords", "key_words", "random_bits16"]

KeyWords = tuple[int, int]

# 128 KiB of int32, so that the buffers stay in a core's cache; and no more than what torch does on one thread, because
# splitting work as small as this over threads costs several times what it saves once the cores are busy.
_CHUNK_CPU = 1 << 15
_CHUNK_DEVICE = 1 << 24
_MULTIPLIERS = (0x21F0AAAD, 0xD35A2D97, 0x85EBCA6B)


def key_words(*parts: int | str) -> KeyWords:
    """Hash any integers and strings to the two 32-bit words that key a stream of random bits.

    Args:
        parts: what the stream belongs to, for example seed, step and tensor name. Order counts, and 1 is not "1"; but
            any integer of the same value, numpy's too, is the same part.

    Returns:
        Two integers in [0, 2**32).

    Example:
        >>> key_words(0, "encoder.weight") == key_words(0, "encoder.weight")
        True
        >>> key_words(0, "encoder.weight") == key_words(1, "encoder.weight")
        False
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        kind, text = ("str", part) if isinstance(part, str) else ("int", str(operator.index(part)))
        content = text.encode()
        digest.update(f"{kind}:{len(content)}:".encode() + content)
    raw = digest.digest()
    return int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:], "little")


def random_bits16(count: int, key: KeyWords, device: torch.device | str = "cpu") -> Iterator[tuple[int, Tensor]]:
    """Yield `count` random 16-bit numbers in pieces: the start of each piece and its numbers.

    Pieces keep the working set in cache, whatever the size of the tensor. The yielded tensor is reused for the next
    piece: use it before going on.

    Args:
        count: how many numbers; index i gets the same number whatever `count` is.
        key: the two words of `key_words`.
        device: where the numbers are made.

    Yields:
        `(start, bits)`, where `bits` is int32 of shape (piece,) with values in [0, 65536).
    """
    device = torch.device(device)
    chunk = _CHUNK_CPU if device.type == "cpu" else _CHUNK_DEVICE
    indices = _indices(min(chunk, max(count, 1)), device)
    bits, scratch = torch.empty_like(indices), torch.empty_like(indices)
    for start in range(0, count, chunk):
        size = min(chunk, count - start)
        piece, spare = bits[:size], scratch[:size]
        # Tensors of 2**32 weights and more take the high half of the index into the key.
        torch.add(indices[:size], _signed(key[0] + start), out=piece)
        _mix_(piece, spare, _MULTIPLIERS[0])
        _mix_(piece, spare, _MULTIPLIERS[1])
        piece.add_(_signed(key[1] + (start >> 32)))
        _mix_(piece, spare, _MULTIPLIERS[2])
        piece.bitwise_right_shift_(16).bitwise_and_(0xFFFF)
        yield start, piece


def _mix_(value: Tensor, spare: Tensor, multiplier: int) -> None:
    """One round of the hash, in place: `value ^= value >> 16; value *= multiplier` on unsigned 32-bit numbers."""
    torch.bitwise_right_shift(value, 16, out=spare)  # int32 shifts drag the sign along, so mask it off
    value.bitwise_xor_(spare.bitwise_and_(0xFFFF)).mul_(_signed(multiplier))


def _signed(word: int) -> int:
    """The int32 with the same low 32 bits as `word`."""
    word &= 0xFFFFFFFF
    return word - (1 << 32) if word >= 1 << 31 else word


@functools.lru_cache(maxsize=8)
def _indices(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, dtype=torch.int32, device=device)
