from __future__ import annotations

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supermask.deltas.coding.laws import COINS, RATES, encoder_model, escape_symbol
from supermask.deltas.coding.symbols import Run, SymbolReader, SymbolWriter
from supermask.errors import DeltaFormatError

RUNS = st.lists(st.tuples(st.sampled_from([*RATES, COINS]), st.lists(st.integers(0, 5000), max_size=20)), max_size=8)


@given(RUNS)
@settings(max_examples=100)
def test_runs_come_back_at_once_or_one_by_one(runs: list[tuple[int, list[int]]]) -> None:
    runs = [(rate, [value % 2 if rate == COINS else value for value in values]) for rate, values in runs]
    writer = SymbolWriter()
    for rate, values in runs:
        writer.run(values, rate=rate)
    data = writer.finish()
    asked = [Run(rate, len(values), sum(values)) for rate, values in runs]
    at_once, one_by_one = SymbolReader(data), SymbolReader(data)
    assert at_once.take(asked).tolist() == [value for _, values in runs for value in values]
    assert [one_by_one.take([run]).tolist() for run in asked] == [values for _, values in runs]
    at_once.finish()
    one_by_one.finish()


@pytest.mark.parametrize("rate", [-32, -5, 0, 40, 64, 128])
def test_the_library_reads_the_same(rate: int) -> None:
    words = np.random.default_rng(0).integers(1, 1 << 32, 50, dtype=np.uint32)
    symbols = constriction.stream.stack.AnsCoder(words).decode(encoder_model(rate), 200)
    limit, expected, pending = escape_symbol(rate), [], 0
    for symbol in symbols.tolist():
        pending += symbol
        if symbol != limit:
            expected.append(pending)
            pending = 0
    reader = SymbolReader(words.astype("<u4").tobytes())
    assert reader.take([Run(rate, len(expected), 1 << 40)]).tolist() == expected


def test_room_is_for_all_numbers_of_a_run_together() -> None:
    writer = SymbolWriter()
    writer.run([3, 4, 1], rate=0)
    data = writer.finish()
    assert SymbolReader(data).take([Run(0, 3, 8)]).tolist() == [3, 4, 1]
    with pytest.raises(DeltaFormatError, match="behind its last weight"):
        SymbolReader(data).take([Run(0, 3, 7)])


def test_an_escape_that_has_no_room_is_refused_at_once() -> None:
    writer = SymbolWriter()
    writer.run([10**6], rate=-32)
    with pytest.raises(DeltaFormatError, match="behind its last weight"):
        SymbolReader(writer.finish()).take([Run(-32, 1, 10**6 - 1)])


def test_nothing_is_no_words() -> None:
    assert SymbolWriter().finish() == b""
    reader = SymbolReader(b"")
    assert reader.take([]).size == 0
    reader.finish()


@pytest.mark.parametrize(("data", "why"), [(b"\1\2\3", "whole words"), (b"\1\0\0\0\0\0\0\0", "zero word")])
def test_words_that_no_writer_writes(data: bytes, why: str) -> None:
    with pytest.raises(DeltaFormatError, match=why):
        SymbolReader(data)


@pytest.mark.parametrize("words", [1, 2, 3])
def test_words_left_over_are_refused(words: int) -> None:
    with pytest.raises(DeltaFormatError, match="goes on"):
        SymbolReader(b"\1\0\0\0" * words).finish()


def test_bytes_that_are_not_aligned() -> None:
    writer = SymbolWriter()
    writer.run([3, 4, 1], rate=0)
    assert SymbolReader(memoryview(b"x" + writer.finish())[1:]).take([Run(0, 3, 8)]).tolist() == [3, 4, 1]
