"""Keep masks written and read by docs/FORMAT.md alone: slow, in Python's whole numbers, no code shared."""

from __future__ import annotations

from collections.abc import Sequence

Table = list[tuple[int, int]]
"""For each symbol: where its share of 2^24 starts, and how large it is."""


def table(weights: int, rarer: int) -> tuple[int, Table]:
    limit = min(1024, (8 * weights + rarer - 1) // rarer)
    starts, survival = [], 2**60
    for gap in range(limit + 1):
        starts.append(gap + ((2**24 - limit - 1) * (2**60 - survival)) // 2**60)
        survival = (survival * (weights - rarer)) // weights
    ends = [*starts[1:], 2**24]
    return limit, [(start, end - start) for start, end in zip(starts, ends, strict=True)]


def encode(keep: Sequence[bool]) -> bytes:
    zeros = keep.count(False)
    coded = zeros > len(keep) - zeros
    places = [place for place, kept in enumerate(keep) if kept == coded]
    if not places or len(places) == len(keep):
        return b""
    limit, shares = table(len(keep), len(places))
    symbols, previous = [], -1
    for place in places:
        gap = place - previous - 1
        symbols += [limit] * (gap // limit) + [gap % limit]
        previous = place
    state, words = 0, []
    for symbol in reversed(symbols):
        start, share = shares[symbol]
        if state >= share * 2**40:
            words.append(state % 2**32)
            state //= 2**32
        state = (state // share) * 2**24 + start + state % share
    while state:
        words.append(state % 2**32)
        state //= 2**32
    return b"".join(word.to_bytes(4, "little") for word in [symbols.count(limit), *words])


def decode(payload: bytes, weights: int, zeros: int) -> list[bool]:
    rarer = min(zeros, weights - zeros)
    coded = zeros > weights - zeros
    keep = [not coded] * weights
    if not rarer:
        return keep
    limit, shares = table(weights, rarer)
    words = [int.from_bytes(payload[at : at + 4], "little") for at in range(0, len(payload), 4)]
    escapes = words.pop(0)
    state, place = 0, -1
    while words and state < 2**32:
        state = state * 2**32 + words.pop()
    for _ in range(rarer + escapes):
        symbol = next(s for s, (start, share) in enumerate(shares) if start <= state % 2**24 < start + share)
        start, share = shares[symbol]
        state = (state // 2**24) * share + state % 2**24 - start
        if words and state < 2**32:
            state = state * 2**32 + words.pop()
        if symbol == limit:
            place += limit
        else:
            place += symbol + 1
            keep[place] = coded
    assert not words and not state
    return keep
