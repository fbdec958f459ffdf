"""The counter-based hash in plain Python integers: slow, and independent of torch. Tests hold the fast one to it."""

_WORD = 0xFFFFFFFF


def reference_bits16(index: int, key: tuple[int, int]) -> int:
    """The 16-bit number of one index, written as for unsigned 32-bit words."""
    word = ((index & _WORD) + key[0]) & _WORD
    word = ((word ^ (word >> 16)) * 0x21F0AAAD) & _WORD
    word = ((word ^ (word >> 16)) * 0xD35A2D97) & _WORD
    word = (word + key[1] + (index >> 32)) & _WORD
    word = ((word ^ (word >> 16)) * 0x85EBCA6B) & _WORD
    return word >> 16
