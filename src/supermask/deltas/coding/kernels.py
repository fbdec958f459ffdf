"""The compiled loops of mask coding: one over the coded symbols, two over all weights.

They trust their arguments, so what they are handed is checked before. Whole numbers only: the same comes out on every
machine. numba takes a while to load, so this module is imported where it is first used.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from supermask.core.kernels.compiled import compiled

__all__ = ["point_at", "sort_weights", "take_runs"]

_AT_ONCE = 4096  # weights: what is known of them stays in the fastest cache
_BELOW_TOTAL = np.uint64((1 << 24) - 1)
_PRECISION = np.uint64(24)
_BUCKET = np.uint64(14)
_WORD = np.uint64(32)
_FULL = np.uint64(1 << 32)
_NONE = np.uint64(0)
_ONE = np.uint64(1)


def _take_runs(
    words: Any,
    state: Any,
    cumulative: Any,
    first: Any,
    escapes: Any,
    tables: Any,
    counts: Any,
    rooms: Any,
    numbers: Any,
) -> bool:
    x, left = state[0], state[1]
    filled = 0
    for run in range(tables.size):
        starts, buckets, escape = cumulative[tables[run]], first[tables[run]], escapes[tables[run]]
        room, end, number = rooms[run], filled + counts[run], 0
        while filled < end:
            place = x & _BELOW_TOTAL
            symbol = np.int64(buckets[place >> _BUCKET])
            while starts[symbol + 1] <= place:
                symbol += 1
            x = (x >> _PRECISION) * (starts[symbol + 1] - starts[symbol]) + (place - starts[symbol])
            if x < _FULL and left > _NONE:
                left -= _ONE
                x = x << _WORD | np.uint64(words[left])
            number += symbol
            if number > room:
                return False
            if symbol != escape:
                room -= number
                numbers[filled] = number
                filled += 1
                number = 0
    state[0], state[1] = x, left
    return True


def _sort_weights(
    row: Any, column: Any, left: Any, right: Any, base: Any, shift: int, steps_of: Any, classes: Any, counts: Any
) -> None:
    block = min(column.size, _AT_ONCE)
    signed, pull = np.zeros(block, dtype=np.int16), np.empty(block, dtype=np.int16)
    turns, last = np.zeros((4, counts.size), dtype=np.int64), np.int16(counts.size - 1)
    by = base.dtype.type(shift)
    for i in range(row.size):
        here = row[i]
        for begin in range(0, column.size, _AT_ONCE):
            # Slices, since numba checks an index into one for being negative where it is a sum, and then does not
            # vectorise. Results are cut to 16 bits at once, so that the compiler may work in 16 bits throughout.
            width = min(_AT_ONCE, column.size - begin)
            start = i * column.size + begin
            these, those = classes[start : start + width], column[begin : begin + width]
            if base.size:
                bits = base[start : start + width]
                for j in range(width):
                    signed[j] = steps_of[bits[j] >> by]
            for j in range(width):
                pull[j] = 0
            for term in range(left.shape[0]):
                factor, over = left[term, i], right[term, begin : begin + width]
                if factor != 0:
                    for j in range(width):
                        pull[j] = np.int16(pull[j] + factor * over[j])
            for j in range(width):
                flip = np.int16(-(signed[j] & 1))
                number = np.int16((signed[j] >> 1) + here + those[j] + ((pull[j] ^ flip) - flip))
                these[j] = max(min(number, last), np.int16(0))
            # Four counters in turn: weights side by side are often of one class, and one counter waits for itself.
            part = width // 4
            for j in range(part):
                turns[0, these[j]] += 1
                turns[1, these[part + j]] += 1
                turns[2, these[2 * part + j]] += 1
                turns[3, these[3 * part + j]] += 1
            for j in range(4 * part, width):
                turns[0, these[j]] += 1
    for c in range(counts.size):
        counts[c] += turns[0, c] + turns[1, c] + turns[2, c] + turns[3, c]


def _point_at(classes: Any, gaps: Any, starts: Any, ends: Any, others: Any, positions: Any) -> None:
    following, left = starts.copy(), np.empty(starts.size, dtype=gaps.dtype)
    for c in range(starts.size):
        left[c] = gaps[starts[c]] if starts[c] < ends[c] else classes.size
    found = 0
    for place in range(classes.size):
        c = classes[place]
        coded = left[c] == 0
        if coded:
            following[c] += 1
            left[c] = gaps[following[c]] if following[c] < ends[c] else classes.size
        else:
            left[c] -= 1
        if coded != others[c]:
            positions[found] = place
            found += 1


take_runs = compiled(_take_runs)
"""(words, state, cumulative, first, escapes, tables, counts, rooms, numbers) -> whether the numbers had room.

Decodes runs of numbers, end to end. `state` is the coder's number and how many words it has left, both moved on. Table
t starts its symbols at `cumulative[t]`, the last of them is `escapes[t]`, and `first[t]` is the first symbol that
reaches into each 1024th of 2^24. Run r takes `counts[r]` numbers by table `tables[r]`, which may sum to `rooms[r]`.
"""

sort_weights = compiled(_sort_weights)
"""(row, column, left, right, base, shift, steps_of, classes, counts): each weight's class, and how many each has.

`steps_of` holds, for what `base >> shift` may be, twice the steps of the magnitude, and 1 more if it is negative. An
empty `base` stands for one without magnitudes and signs. Sums are of 15 bits and a sign; `counts` is added to.
"""

point_at = compiled(_point_at)
"""(classes, gaps, starts, ends, others, positions): the weights asked for, ascending.

Class c has its gaps at `starts[c]` to `ends[c]`: how many weights of the class stand before each coded one, since the
coded one before it. They and the coded weights are no more than the class has. Asked for are its coded weights, or, if
`others[c]`, those that are not; `positions` has room for just them.
"""
