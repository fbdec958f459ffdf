"""How often the rarer symbol falls: geometric laws on a grid of odds, in whole numbers, for writing and for reading.

Rate r stands for the odds 2^(-r/8) of the rarer symbol against the other, r from -32 (16 to 1) to 128 (1 to 65536).
The frequencies that the coder works with follow from integers alone, so every machine agrees on them.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from typing import Any

import constriction
import numpy as np
import numpy.typing as npt

__all__ = [
    "COINS",
    "ODDS_BITS",
    "RATES",
    "decoder_laws",
    "encoder_model",
    "escape_symbol",
    "frequencies",
    "odds",
    "rate_of",
]

ODDS_BITS = 32
RATES = range(-32, 129)
COINS = RATES.stop
"""In place of a rate: zeros and ones, a bit each."""

_PRECISION = 24  # fixed by the default coder of the library `constriction`
_SURVIVAL_BITS = 60
_OCTAVE = (4294967296, 3938502375, 3611622602, 3311872529, 3037000499, 2784941737, 2553802833, 2341847523)
_MOST = 1024
_MEAN_GAPS = 8  # a gap of 8 mean gaps or more, which needs an escape, has probability exp(-8)
_BUCKETS = 1024


def odds(rate: int) -> int:
    """The odds of the rarer symbol at a rate, times 2^32.

    Example:
        >>> odds(0) == 2**32, odds(8) == 2**31, odds(-8) == 2**33
        (True, True, True)
    """
    octaves, step = divmod(rate, 8)
    return _OCTAVE[step] >> octaves if octaves >= 0 else _OCTAVE[step] << -octaves


def rate_of(rarer: int, others: int) -> int:
    """The rate of weights, at least one, among others: the first whose odds are at most rarer / others, or the last.

    Example:
        >>> rate_of(1, 1), rate_of(1, 3), rate_of(5, 0), rate_of(1, 1 << 40)
        (0, 13, -32, 128)
    """
    if others == 0:
        return RATES[0]
    found = bisect.bisect_left(RATES, -((rarer << ODDS_BITS) // others), key=lambda rate: -odds(rate))
    return RATES[min(found, len(RATES) - 1)]


def escape_symbol(rate: int) -> int:
    """The number from which on a number is escaped: 8 mean gaps, at most 1024.

    Example:
        >>> escape_symbol(0), escape_symbol(64), escape_symbol(128), escape_symbol(COINS)
        (16, 1024, 1024, 2)
    """
    if rate == COINS:
        return 2
    value = odds(rate)
    return min(_MOST, -(-_MEAN_GAPS * ((1 << ODDS_BITS) + value) // value))


def frequencies(rate: int) -> list[int]:
    """How many of the coder's 2^24 go to each number below the escape symbol, and to it; the escape of coins has none.

    Example:
        >>> table = frequencies(0)
        >>> table[:3], len(table), sum(table) == 2**24
        ([8388600, 4194301, 2097151], 17, True)
    """
    if rate == COINS:
        return [1 << _PRECISION - 1] * 2
    limit, value, one = escape_symbol(rate), odds(rate), 1 << ODDS_BITS
    drop = (value << ODDS_BITS) // (one + value)
    room, survival, cumulative = (1 << _PRECISION) - limit - 1, 1 << _SURVIVAL_BITS, []
    for gap in range(limit + 1):
        cumulative.append(gap + (room * ((1 << _SURVIVAL_BITS) - survival) >> _SURVIVAL_BITS))
        survival = survival * (one - drop) >> ODDS_BITS
    cumulative.append(1 << _PRECISION)
    return [after - before for before, after in itertools.pairwise(cumulative)]


@functools.cache
def encoder_model(rate: int) -> Any:
    """The library's entropy model of a law, with our frequencies to the last one."""
    # The library gives every symbol a frequency of 1 and shares out the rest in proportion, rounding down. Handed
    # frequencies less 1, which sum to just that rest, it scales by exactly 1.0 and rounds nothing (float32 holds every
    # whole number up to 2^24).
    shares = np.array(frequencies(rate), dtype=np.int64) - 1
    return constriction.stream.model.Categorical(shares.astype(np.float32), perfect=False)


@functools.cache
def decoder_laws() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
    """All laws in the form that decoding needs; each stands at its rate's place in `RATES`, coins behind them.

    Returns:
        Where each symbol's share of 2^24 starts, filled up with 2^24; the first symbol that reaches into each 1024th of
        2^24; and the escape, which is what a number of as much or more takes.
    """
    rates = [*RATES, COINS]
    cumulative = np.full((len(rates), _MOST + 2), 1 << _PRECISION, dtype=np.uint32)
    first = np.empty((len(rates), _BUCKETS), dtype=np.uint16)
    starts = np.arange(_BUCKETS) << _PRECISION - 10
    for place, rate in enumerate(rates):
        ends = np.cumsum(frequencies(rate))
        cumulative[place, 0], cumulative[place, 1 : 1 + ends.size] = 0, ends
        first[place] = np.searchsorted(ends, starts, side="right")
    return cumulative, first, np.array([escape_symbol(rate) for rate in rates])
