"""When two arms differ, against scipy and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from supermask.errors import ConfigurationError
from supermask.report.statistics import distinguishable, pooled_sd


def arm(*scores: float) -> dict[int, float]:
    return dict(enumerate(scores))


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_three_shared_seeds_are_paired(confidence: float) -> None:
    """Each seed moves both alike: apart the arms overlap, in pairs they do not."""
    first, second = arm(80.0, 85.0, 90.0), arm(79.0, 84.1, 88.9)
    found = distinguishable(first, second, confidence=confidence)
    differences = [first[seed] - second[seed] for seed in first]
    half = stats.t.ppf(0.5 + confidence / 2, 2) * np.std(differences, ddof=1) / math.sqrt(3)
    assert found.interval == pytest.approx((1.0 - half, 1.0 + half))
    assert found.distinguishable and found.difference == pytest.approx(1.0)
    assert not distinguishable(first, arm(75.0, 89.0, 88.0)).distinguishable


@pytest.mark.parametrize("seeds", [(5, 6), (0, 1)], ids=["no seed in common", "two in common"])
def test_fewer_shared_seeds_are_welchs(seeds: tuple[int, int]) -> None:
    ours, theirs = [80.0, 81.0, 80.5], [76.0, 77.5]
    found = distinguishable(arm(*ours), dict(zip(seeds, theirs, strict=True)))
    parts = [np.var(values, ddof=1) / len(values) for values in (ours, theirs)]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 1)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    assert found.interval == pytest.approx((3.75 - half, 3.75 + half))
    assert found.distinguishable == (half < 3.75)


@pytest.mark.parametrize(("first", "second"), [((81.2,) * 3, (80.0,) * 3), ((81.2,) * 2, (80.0,) * 2)])
def test_scores_that_do_not_vary_have_a_point_for_an_interval(first: tuple[float], second: tuple[float]) -> None:
    found = distinguishable(arm(*first), arm(*second))
    assert found.interval == pytest.approx((1.2, 1.2)) and found.distinguishable
    assert distinguishable(arm(*first), arm(*first)).interval == (0.0, 0.0)


def test_one_seed_borrows_a_spread_or_says_nothing() -> None:
    alone = distinguishable(arm(99.0), arm(50.0))
    assert (alone.distinguishable, alone.interval, alone.difference) == (False, None, 49.0)
    lent = distinguishable(arm(82.0), arm(80.0, 80.0), borrowed_sd=1.0)
    half = stats.norm.ppf(0.975) * math.sqrt(1 + 1 / 2)
    assert lent.interval == pytest.approx((2.0 - half, 2.0 + half)) and not lent.distinguishable
    assert distinguishable(arm(83.0), arm(80.0), borrowed_sd=1.0).distinguishable
    assert distinguishable(arm(82.0, 82.0), arm(80.0, 80.0), borrowed_sd=9.0).distinguishable  # their own goes first


def test_a_spread_pooled_over_arms() -> None:
    arms = [arm(1.0, 3.0), arm(7.0, 7.5, 8.0), arm(9.0)]
    assert pooled_sd(arms) == pytest.approx(math.sqrt((1 * 2.0 + 2 * 0.25) / 3))
    assert math.isnan(pooled_sd([arm(9.0), {}]))


def test_the_rule_is_right_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    trials, wrong = 500, 0
    for _ in range(trials):
        seeds = generator.normal(0, 2, 3)
        first, second = (arm(*(80 + seeds + generator.normal(0, 1, 3))) for _ in range(2))
        wrong += distinguishable(first, second).distinguishable
    assert wrong / trials == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / trials))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(wrong: float) -> None:
    with pytest.raises(ConfigurationError, match="not finite"):
        distinguishable(arm(1.0), arm(wrong))


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="nothing to say"):
        distinguishable({}, arm(1.0))
    with pytest.raises(ConfigurationError, match="borrowed_sd"):
        distinguishable(arm(1.0), arm(2.0), borrowed_sd=-1.0)
    for wrong in (0.0, 1.0, 95.0):
        with pytest.raises(ConfigurationError, match="confidence"):
            distinguishable(arm(1.0, 2.0, 3.0), arm(1.0, 2.0, 4.0), confidence=wrong)
