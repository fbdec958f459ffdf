"""What a mask is written in: runs of whole numbers by geometric laws, on the entropy coder of `constriction`.

Rate r stands for the odds 2^(-r/8) of the rarer symbol against the other, r from -32 (16 to 1) to 128 (1 to 65536). The
laws come from whole numbers alone, so every machine agrees on them. Runs are read by a loop of our own: all that are
known ahead take one call, which does not hold the interpreter's lock.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import constriction
import numpy as np
import numpy.typing as npt

from supermask.errors import DeltaFormatError

__all__ = ["COINS", "ODDS_BITS", "RATES", "Run", "SymbolReader", "SymbolWriter", "odds", "rate_of"]

ODDS_BITS = 32
RATES = range(-32, 129)
COINS = RATES.stop  # in place of a rate: zeros and ones, a bit each

_PRECISION = 24  # fixed by the default coder of the library `constriction`
_SURVIVAL_BITS = 60
_OCTAVE = (4294967296, 3938502375, 3611622602, 3311872529, 3037000499, 2784941737, 2553802833, 2341847523)
_MOST = 1024
_MEAN_GAPS = 8  # a gap of 8 mean gaps or more, which needs an escape, has probability exp(-8)
_BUCKETS = 1024


def odds(rate: int) -> int:
    """The odds of the rarer symbol at a rate, times 2^32."""
    octaves, step = divmod(rate, 8)
    return _OCTAVE[step] >> octaves if octaves >= 0 else _OCTAVE[step] << -octaves


def rate_of(rarer: int, others: int) -> int:
    """The first rate whose odds are at most rarer, at least one, / others; or the last."""
    if others == 0:
        return RATES[0]
    found = bisect.bisect_left(RATES, -((rarer << ODDS_BITS) // others), key=lambda rate: -odds(rate))
    return RATES[min(found, len(RATES) - 1)]


def escape_symbol(rate: int) -> int:
    """The number from which on a number is escaped: 8 mean gaps, at most 1024."""
    if rate == COINS:
        return 2
    value = odds(rate)
    return min(_MOST, -(-_MEAN_GAPS * ((1 << ODDS_BITS) + value) // value))


def frequencies(rate: int) -> list[int]:
    """How many of the coder's 2^24 go to each number below the escape symbol, and to that, if there is one."""
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
    # The library gives every symbol a frequency of 1 and shares out the rest in proportion. Frequencies less 1 sum to
    # just that rest, so it rounds nothing: float32 holds every whole number up to 2^24.
    shares = np.array(frequencies(rate), dtype=np.int64) - 1
    return constriction.stream.model.Categorical(shares.astype(np.float32), perfect=False)


@functools.cache
def decoder_laws() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
    """All laws as decoding needs them, each at its rate's place in `RATES`, coins behind them.

    Where each symbol's share of 2^24 starts, filled up with 2^24; the first symbol that reaches into each 1024th of
    2^24; and the escape symbol.
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


@final
class Run(NamedTuple):
    """So many numbers by the law of a rate or of `COINS`; they sum to `room` at most, which bounds the work."""

    rate: int
    numbers: int
    room: int


@final
class SymbolWriter:
    """Collects runs in the order of reading, and codes them at the end: the coder is a stack."""

    def __init__(self) -> None:
        self._runs: list[tuple[int, npt.NDArray[np.int32]]] = []

    def run(self, values: npt.ArrayLike, *, rate: int) -> None:
        """Whole numbers by the law of a rate or of `COINS`; one of L or more takes an escape for each L in it."""
        numbers = np.asarray(values, dtype=np.int64)
        limit = escape_symbol(rate)
        if numbers.size and int(numbers.max()) >= limit:
            escapes = numbers // limit
            symbols = np.full(numbers.size + int(escapes.sum()), limit, dtype=np.int32)
            symbols[np.arange(numbers.size) + np.cumsum(escapes)] = numbers - escapes * limit
        else:
            symbols = numbers.astype(np.int32)
        self._runs.append((rate, symbols))

    def finish(self) -> bytes:
        """All runs as 32-bit little-endian words."""
        coder = constriction.stream.stack.AnsCoder()
        for rate, symbols in reversed(self._runs):
            coder.encode_reverse(symbols, encoder_model(rate))
        words: npt.NDArray[np.uint32] = coder.get_compressed()
        return words.astype("<u4").tobytes()


@final
class SymbolReader:
    """Takes the runs of a `SymbolWriter` out again, refusing with DeltaFormatError what no writer writes."""

    def __init__(self, data: bytes | memoryview) -> None:
        if len(data) % 4:
            raise DeltaFormatError(f"the payload of a keep mask has {len(data)} bytes of code, no whole words of 4")
        self._words = np.frombuffer(data, dtype="<u4").astype(np.uint32)
        if self._words.size and self._words[-1] == 0:
            raise DeltaFormatError("the payload of a keep mask ends in a zero word, which the coder never writes")
        last = self._words[-2:].tolist()
        # The coder's number starts with as many words as it holds: two of them.
        self._state = np.zeros(2, dtype=np.uint64)
        self._state[0] = sum(word << 32 * place for place, word in enumerate(last))
        self._state[1] = self._words.size - len(last)

    def take(self, runs: Sequence[Run]) -> npt.NDArray[np.int64]:
        """The numbers of some runs, end to end."""
        from supermask.deltas.coding import loops

        if not runs:
            return np.empty(0, dtype=np.int64)
        rates, counts, rooms = np.array(runs, dtype=np.int64).T.copy()
        numbers = np.empty(int(counts.sum()), dtype=np.int64)
        if not loops.take_runs(self._words, self._state, decoder_laws(), rates - RATES[0], counts, rooms, numbers):
            raise DeltaFormatError("the payload of a keep mask points behind its last weight")
        return numbers

    def finish(self) -> None:
        """Refuse bytes that no run has asked for."""
        if self._state.any():
            raise DeltaFormatError("the payload of a keep mask goes on after its last weight")
