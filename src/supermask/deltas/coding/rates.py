"""How often the rarer symbol falls: a grid of odds in steps of an eighth of an octave, in whole numbers.

Rate r stands for the odds 2^(-r/8) of the rarer symbol against the other, r from -32 (16 to 1) to 128 (1 to 65536).
The frequencies that the coder works with follow from integers alone, so every machine agrees on them.
"""

from __future__ import annotations

import bisect
import functools
import itertools

from supermask.deltas.entropy_model import PRECISION

__all__ = ["ODDS_BITS", "RATES", "escape_symbol", "gap_frequencies", "odds", "rate_of"]

ODDS_BITS = 32
RATES = range(-32, 129)

_OCTAVE = (4294967296, 3938502375, 3611622602, 3311872529, 3037000499, 2784941737, 2553802833, 2341847523)
_SURVIVAL_BITS = 60

_LARGEST_LIMIT = 1024
_MEAN_GAPS = 8  # a gap of 8 mean gaps or more, which needs an escape, has probability exp(-8)


def odds(rate: int) -> int:
    """The odds of the rarer symbol, times 2^32.

    Args:
        rate: from `RATES`.

    Returns:
        floor(2^32 · 2^(-(rate mod 8)/8)), shifted by the other octaves; what falls off at the right is lost.

    Example:
        >>> odds(0) == 2**32, odds(8) == 2**31, odds(-8) == 2**33
        (True, True, True)
    """
    octaves, step = divmod(rate, 8)
    return _OCTAVE[step] >> octaves if octaves >= 0 else _OCTAVE[step] << -octaves


def rate_of(rarer: int, others: int) -> int:
    """The rate of some weights among others: the first of the grid whose odds are at most rarer / others.

    Args:
        rarer: how many have the symbol that is coded, at least 1.
        others: how many do not.

    Returns:
        A rate; the last one for odds below 2^-16.

    Example:
        >>> rate_of(1, 1), rate_of(1, 3), rate_of(5, 0), rate_of(1, 1 << 40)
        (0, 13, -32, 128)
    """
    if others == 0:
        return RATES[0]
    found = bisect.bisect_left(_descending(), -((rarer << ODDS_BITS) // others))
    return RATES[min(found, len(RATES) - 1)]


@functools.lru_cache(maxsize=1)
def _descending() -> list[int]:
    return [-odds(rate) for rate in RATES]


def escape_symbol(rate: int) -> int:
    """The gap from which on a gap is escaped: 8 mean gaps, at most 1024.

    Example:
        >>> escape_symbol(0), escape_symbol(64), escape_symbol(128)
        (16, 1024, 1024)
    """
    value = odds(rate)
    return min(_LARGEST_LIMIT, -(-_MEAN_GAPS * ((1 << ODDS_BITS) + value) // value))


def gap_frequencies(rate: int) -> list[int]:
    """The coder's frequency table: how many of 2^24 go to each gap below the escape symbol L, and to it.

    With P = floor(2^32 · odds / (1 + odds)), S₀ = 2^60, S_{g+1} = floor(S_g (2^32 - P) / 2^32), the cumulative
    frequency of gap g is g + floor((2^24 - L - 1) (2^60 - S_g) / 2^60).

    Args:
        rate: from `RATES`.

    Returns:
        L + 1 whole numbers of at least 1 that sum to 2^24.

    Example:
        >>> table = gap_frequencies(0)
        >>> table[:3], len(table), sum(table) == 2**24
        ([8388600, 4194301, 2097151], 17, True)
    """
    limit, value, one = escape_symbol(rate), odds(rate), 1 << ODDS_BITS
    drop = (value << ODDS_BITS) // (one + value)
    room, survival, cumulative = (1 << PRECISION) - limit - 1, 1 << _SURVIVAL_BITS, []
    for gap in range(limit + 1):
        cumulative.append(gap + (room * ((1 << _SURVIVAL_BITS) - survival) >> _SURVIVAL_BITS))
        survival = survival * (one - drop) >> ODDS_BITS
    cumulative.append(1 << PRECISION)
    return [after - before for before, after in itertools.pairwise(cumulative)]
