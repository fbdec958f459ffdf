from __future__ import annotations

import itertools
import math

import pytest

from deltas.coding import reference_masks
from supermask.deltas.coding.laws import COINS, RATES, decoder_laws, escape_symbol, frequencies, odds, rate_of


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
