"""The compiled loops of mask coding: over the coded symbols, and over all weights of a tensor.

They trust their arguments, so what they are handed is checked before. What a reader runs works in whole numbers only:
the same comes out on every machine. numba takes a while to load, so this module is imported where it is first used.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from supermask.core.kernels.compiled import compiled

__all__ = ["gaps_within", "point_at", "sort_weights", "sum_lines", "take_runs"]

_AT_ONCE = 4096  # weights: what is known of them stays in the fastest cache
_BELOW_TOTAL = np.uint64((1 << 24) - 1)
_PRECISION = np.uint64(24)
_BUCKET = np.uint64(14)
_WORD = np.uint64(32)
_FULL = np.uint64(1 << 32)
_NONE = np.uint64(0)
_ONE = np.uint64(1)


def _take_runs(words: Any, state: Any, laws: Any, tables: Any, counts: Any, rooms: Any, numbers: Any) -> bool:
    cumulative, first, escapes = laws
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


def _sort_weights(row: Any, column: Any, base: Any, shift: int, steps_of: Any, classes: Any, counts: Any) -> None:
    steps = np.zeros(min(column.size, _AT_ONCE), dtype=np.int16)
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
                    steps[j] = steps_of[bits[j] >> by]
            for j in range(width):
                these[j] = max(min(np.int16(steps[j] + here + those[j]), last), np.int16(0))
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


def _gaps_within(classes: Any, positions: Any, starts: Any, others: Any, gaps: Any) -> None:
    following, since = starts.copy(), np.zeros(starts.size, dtype=gaps.dtype)
    found, place = 0, positions[0]
    for here in range(classes.size):
        c = classes[here]
        named = here == place
        if named:
            found += 1
            place = positions[found] if found < positions.size else -1
        if named != others[c]:
            gaps[following[c]] = since[c]
            following[c] += 1
            since[c] = 0
        else:
            since[c] += 1


def _sum_lines(classes: Any, chances: Any, rows: Any, columns: Any) -> None:
    for i in range(rows.size):
        these = classes[i * columns.size : (i + 1) * columns.size]
        for j in range(columns.size):
            chance = chances[these[j]]
            rows[i] += chance
            columns[j] += chance


take_runs = compiled(_take_runs)
"""Decode runs end to end, and say whether they had room: run r is `counts[r]` numbers by the law at `tables[r]`, which
may sum to `rooms[r]`. `state`, the coder's number and how many words it has left, moves on."""

sort_weights = compiled(_sort_weights)
"""Each weight's class, and how many each has, added to `counts`. `steps_of` holds the step for what `base >> shift` may
be; an empty `base` stands for none."""

point_at = compiled(_point_at)
"""The weights asked for, ascending: of class c the coded ones, or, if `others[c]`, all others. Gaps `starts[c]` to
`ends[c]` say how many of the class stand before each coded one, since the one before; `positions` has just room."""

gaps_within = compiled(_gaps_within)
"""The inverse of `point_at`, for at least one position."""

sum_lines = compiled(_sum_lines)
"""Add up `chances[class]` over each row and each column, in 64 bits."""
