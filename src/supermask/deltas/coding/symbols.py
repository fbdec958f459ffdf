"""Runs of whole numbers on an entropy coder: what a mask is written in.

The library `constriction` writes them. They are read by a loop of our own, since all runs that are known ahead then
take one call, which does not hold the interpreter's lock, and escapes take no more than that.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, final

import constriction
import numpy as np
import numpy.typing as npt

from supermask.deltas.coding.rates import RATES, escape_symbol, gap_frequencies
from supermask.deltas.entropy_model import PRECISION, exact_model
from supermask.errors import DeltaFormatError

__all__ = ["COINS", "Laws", "Run", "SymbolReader", "SymbolWriter"]

Numbers: TypeAlias = npt.NDArray[np.int64]

COINS = RATES.stop
"""In place of a rate: zeros and ones, a bit each."""

_SYMBOLS = 1025  # of the longest table
_BUCKETS = 1024
_BUCKET_STARTS = np.arange(_BUCKETS) << PRECISION - 10
_COIN_SIDES = 2


class Run(NamedTuple):
    """Numbers that follow one law.

    Args:
        rate: of the geometric law; or `COINS`.
        numbers: how many.
        room: what they sum to at most; it bounds the work, whatever the payload says.
    """

    rate: int
    numbers: int
    room: int


@final
class Laws:
    """Frequency tables in the form that decoding needs.

    Args:
        size: how many there can be.

    Attributes:
        cumulative: uint32, where each symbol's share of 2^24 starts; filled up with 2^24.
        first: uint16, the first symbol that reaches into each 1024th of 2^24.
        escapes: int64, the symbol that a number of as much or more takes.
    """

    def __init__(self, size: int) -> None:
        self.cumulative = np.empty((size, _SYMBOLS + 1), dtype=np.uint32)
        self.first = np.empty((size, _BUCKETS), dtype=np.uint16)
        self.escapes = np.zeros(size, dtype=np.int64)

    def put(self, index: int, frequencies: Sequence[int], escape: int) -> None:
        """Make a table; the same one again does no harm to those who read it.

        Args:
            index: of the table.
            frequencies: at most 1025 whole numbers of at least 1 that sum to 2^24.
            escape: the symbol that a number of as much or more takes.
        """
        cumulative = np.full(_SYMBOLS + 1, 1 << PRECISION, dtype=np.uint32)
        cumulative[0] = 0
        ends = cumulative[1 : 1 + len(frequencies)]
        np.cumsum(frequencies, out=ends)
        self.cumulative[index] = cumulative
        self.first[index] = np.searchsorted(ends, _BUCKET_STARTS, side="right")
        self.escapes[index] = escape


@final
class SymbolWriter:
    """Collects runs of numbers in the order of reading, and codes them at the end.

    The coder is a stack: what goes in last comes out first.

    Example:
        >>> writer = SymbolWriter()
        >>> writer.run([0, 3, 40], rate=0)
        >>> writer.run([1, 0], rate=COINS)
        >>> reader = SymbolReader(writer.finish())
        >>> reader.take([Run(0, 3, room=100), Run(COINS, 2, room=2)]).tolist()
        [0, 3, 40, 1, 0]
    """

    def __init__(self) -> None:
        self._runs: list[tuple[Any, npt.NDArray[np.int32]]] = []

    def run(self, values: npt.ArrayLike, *, rate: int) -> None:
        """Numbers that follow the geometric law of a rate, where one of L or more takes an escape for each L in it.

        Args:
            values: whole numbers of at least 0; if they are coins, at most 1.
            rate: of the law; or `COINS`.
        """
        numbers = np.asarray(values, dtype=np.int64)
        limit = _escape(rate)
        escapes = numbers // limit
        symbols = np.full(numbers.size + int(escapes.sum()), limit, dtype=np.int32)
        symbols[np.arange(numbers.size) + np.cumsum(escapes)] = numbers - escapes * limit
        self._runs.append((_model(rate), symbols))

    def finish(self) -> bytes:
        """All runs as 32-bit little-endian words."""
        coder = constriction.stream.stack.AnsCoder()
        for model, symbols in reversed(self._runs):
            coder.encode_reverse(symbols, model)
        words: npt.NDArray[np.uint32] = coder.get_compressed()
        return words.astype("<u4").tobytes()


@final
class SymbolReader:
    """Takes the runs of a `SymbolWriter` out again, refusing what no writer writes.

    Args:
        data: the words.

    Raises:
        DeltaFormatError: if the bytes are no whole words, or end in a zero word.
    """

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

    def take(self, runs: Sequence[Run], *, law: Laws | None = None) -> Numbers:
        """Take runs of numbers.

        Args:
            runs: what to take, in order.
            law: of all of them, in place of those of their rates.

        Returns:
            All numbers end to end.

        Raises:
            DeltaFormatError: if a run sums to more than there is room for.
        """
        from supermask.deltas.coding import kernels

        if not runs:
            return np.empty(0, dtype=np.int64)
        rates, counts, rooms = np.array(runs, dtype=np.int64).T.copy()
        laws = law or _laws(rates.tolist())
        tables = np.zeros_like(rates) if law else rates - RATES[0]
        numbers = np.empty(int(counts.sum()), dtype=np.int64)
        if not kernels.take_runs(
            self._words, self._state, laws.cumulative, laws.first, laws.escapes, tables, counts, rooms, numbers
        ):
            raise DeltaFormatError("the payload of a keep mask points behind its last weight")
        return numbers

    def finish(self) -> None:
        """Refuse bytes that no run has asked for.

        Raises:
            DeltaFormatError: if there are any.
        """
        if self._state.any():
            raise DeltaFormatError("the payload of a keep mask goes on after its last weight")


def _laws(rates: Sequence[int]) -> Laws:
    """The laws of all rates, ready for those that are asked for; each is at its rate's place in `RATES`."""
    laws = _all_laws()
    for rate in rates:
        if not laws.escapes[rate - RATES[0]]:  # set last
            laws.put(rate - RATES[0], _frequencies(rate), _escape(rate))
    return laws


@functools.lru_cache(maxsize=1)
def _all_laws() -> Laws:
    return Laws(len(RATES) + 1)


@functools.lru_cache(maxsize=len(RATES) + 1)
def _model(rate: int) -> Any:
    return exact_model(_frequencies(rate))


def _frequencies(rate: int) -> list[int]:
    return [1 << PRECISION - 1] * _COIN_SIDES if rate == COINS else gap_frequencies(rate)


def _escape(rate: int) -> int:
    return _COIN_SIDES if rate == COINS else escape_symbol(rate)
