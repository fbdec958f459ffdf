"""Runs of whole numbers on an entropy coder: what a mask is written in.

The library `constriction` writes them. They are read by a loop of our own, since all runs that are known ahead then
take one call, which does not hold the interpreter's lock, and escapes take no more than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import constriction
import numpy as np
import numpy.typing as npt

from supermask.deltas.coding.laws import RATES, decoder_laws, encoder_model, escape_symbol
from supermask.errors import DeltaFormatError

__all__ = ["Run", "SymbolReader", "SymbolWriter"]


@final
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
class SymbolWriter:
    """Collects runs of numbers in the order of reading, and codes them at the end.

    The coder is a stack: what goes in last comes out first.

    Example:
        >>> writer = SymbolWriter()
        >>> writer.run([0, 3, 40], rate=0)
        >>> reader = SymbolReader(writer.finish())
        >>> reader.take([Run(0, 3, room=100)]).tolist()
        [0, 3, 40]
    """

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
        """The numbers of some runs, end to end.

        Raises:
            DeltaFormatError: if a run sums to more than there is room for.
        """
        from supermask.deltas.coding import loops

        if not runs:
            return np.empty(0, dtype=np.int64)
        rates, counts, rooms = np.array(runs, dtype=np.int64).T.copy()
        numbers = np.empty(int(counts.sum()), dtype=np.int64)
        if not loops.take_runs(self._words, self._state, decoder_laws(), rates - RATES[0], counts, rooms, numbers):
            raise DeltaFormatError("the payload of a keep mask points behind its last weight")
        return numbers

    def finish(self) -> None:
        """Raise DeltaFormatError if there are bytes that no run has asked for."""
        if self._state.any():
            raise DeltaFormatError("the payload of a keep mask goes on after its last weight")
