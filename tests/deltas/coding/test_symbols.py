import itertools
import math

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltas.coding import reference_masks
from supermask.deltas.coding.symbols import (
    COINS,
    RATES,
    Run,
    SymbolReader,
    SymbolWriter,
    decoder_laws,
    encoder_model,
    escape_symbol,
    frequencies,
    odds,
    rate_of,
)
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


def test_odds_fall_by_an_eighth_of_an_octave() -> None:
    for rate in RATES:
        assert odds(rate) == reference_masks.odds(rate)
        assert odds(rate) / 2**32 == pytest.approx(2 ** (-rate / 8), rel=1e-4 if rate > 64 else 1e-6)


@pytest.mark.parametrize("ones", [1, 2, 7, 1000, 1 << 34])
@pytest.mark.parametrize("others", [0, 1, 3, 50, 12345, 1 << 20, (1 << 34) - 1])
def test_the_rate_is_the_first_whose_odds_are_low_enough(ones: int, others: int) -> None:
    rate = rate_of(ones, others)
    assert rate == reference_masks.rate(ones, others)
    if others and RATES[0] < rate < RATES[-1]:
        assert 2 ** (-rate / 8) <= ones / others * 1.0001 < 2 ** (-(rate - 1) / 8) * 1.0002


@pytest.mark.parametrize("rate", RATES)
def test_frequencies_are_the_geometric_law_rounded(rate: int) -> None:
    found, limit = frequencies(rate), escape_symbol(rate)
    starts = reference_masks.law(rate)
    assert found == [after - before for before, after in itertools.pairwise(starts)]
    assert len(found) == limit + 1
    assert sum(found) == 2**24
    assert min(found) >= 1
    drop = 1 / (1 + 2 ** (rate / 8))
    ideal = [drop * (1 - drop) ** gap for gap in range(limit)] + [(1 - drop) ** limit]
    for frequency, share in zip(found, ideal, strict=True):
        assert frequency >= (1 - (limit + 2) / 2**24) * share * 2**24 * (1 - 1e-3) - 1


def test_the_grid_costs_next_to_nothing() -> None:
    for others in (1, 3, 10, 97, 1001, 60000):
        share = 1 / (1 + others)
        chosen = 1 / (1 + 2 ** (rate_of(1, others) / 8))
        ideal = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
        actual = -share * math.log2(chosen) - (1 - share) * math.log2(1 - chosen)
        assert actual < 1.0014 * ideal


def test_tables_for_decoding_are_those_of_encoding() -> None:
    cumulative, first, escapes = decoder_laws()
    for place, rate in enumerate([*RATES, COINS]):
        table = frequencies(rate)
        assert cumulative[place, : len(table) + 1].tolist() == [0, *itertools.accumulate(table)]
        assert (cumulative[place, len(table) + 1 :] == 2**24).all()
        assert escapes[place] == escape_symbol(rate)
        for bucket in (0, 1, 511, 1023):
            symbol, start = first[place, bucket], bucket << 14
            assert cumulative[place, symbol] <= start < cumulative[place, symbol + 1]
