"""Spread, pairs and verdicts, against scipy and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from supermask.errors import ConfigurationError
from supermask.report.statistics import (
    ArmScores,
    accuracy_standard_error,
    bootstrap_interval,
    distinguishable,
    paired_difference,
    pooled_seed_sd,
    t_interval,
    variation,
)


def arm(*scores: float) -> ArmScores:
    return ArmScores(scores=dict(enumerate(scores)))


# Spread.


def test_seeds_and_draws_are_apart() -> None:
    found = variation(ArmScores(scores={0: 80.0, 1: 84.0, 2: 82.0}, draws={0: [79, 81, 80], 1: [84, 84], 2: [1.0]}))
    assert (found.seeds, found.mean, found.seed_sd) == (3, 82.0, 2.0)
    assert found.draw_sd == pytest.approx(math.sqrt((2 * 1.0 + 1 * 0.0) / 3))  # pooled by degrees of freedom
    assert found.draws == 2


def test_one_seed_says_so() -> None:
    found = variation(ArmScores(scores={4: 80.0}, draws={4: [79.0, 81.0]}))
    assert found.seed_sd is None and found.draw_sd == pytest.approx(math.sqrt(2))
    assert found.words == "one seed; draws are 2 masks of one run and say nothing about another seed"
    assert variation(arm(1.0)).words == "one seed" and variation(arm(1.0)).draw_sd is None


@pytest.mark.parametrize("seeds", [2, 3])
def test_how_far_a_spread_from_few_seeds_may_be_off(seeds: int) -> None:
    """σ/s stays below √((n-1) / χ² at 2.5 %) in 97.5 % of cases."""
    factor = math.sqrt((seeds - 1) / stats.chi2.ppf(0.025, seeds - 1))
    assert f"{factor:.0f} times" in variation(arm(*range(seeds))).words
    assert "times" not in variation(arm(1, 2, 3, 4)).words


def test_a_spread_pooled_over_arms() -> None:
    arms = [arm(1.0, 3.0), arm(7.0, 7.5, 8.0), arm(9.0)]
    wanted = math.sqrt((1 * 2.0 + 2 * 0.25) / 3)
    assert pooled_seed_sd(arms) == pytest.approx(wanted)
    assert pooled_seed_sd([arm(9.0), ArmScores(scores={})]) is None


# Pairs.


def test_pairs_are_over_what_both_have() -> None:
    first = {("rte", 0): 60.0, ("rte", 1): 61.0, ("mrpc", 0): 88.0, ("cola", 0): 20.0}
    second = {("rte", 1): 59.0, ("rte", 0): 59.5, ("mrpc", 0): 87.0, ("stsb", 0): 80.0}
    found = paired_difference(first, second)
    assert dict(found.differences) == {("rte", 0): 0.5, ("rte", 1): 2.0, ("mrpc", 0): 1.0}
    assert found.mean == pytest.approx(3.5 / 3)
    assert found.interval == t_interval([0.5, 2.0, 1.0])
    assert found.bootstrap == bootstrap_interval([0.5, 2.0, 1.0])
    assert found.words == "3 pairs: the bootstrap interval of so few is too narrow; go by Student's"


def test_few_pairs_have_no_interval() -> None:
    one = paired_difference({0: 2.0}, {0: 1.0})
    assert (one.mean, one.interval, one.bootstrap, one.words) == (1.0, None, None, "one pair: no interval")
    two = paired_difference({0: 2.0, 1: 3.0}, {0: 1.0, 1: 1.0})
    assert two.interval is not None and two.bootstrap is None and "very wide" in two.words
    many = paired_difference(dict(enumerate(range(12))), dict.fromkeys(range(12), 0.0))
    assert many.words == "12 pairs"
    with pytest.raises(ConfigurationError, match="nothing is shared to pair: the first has 0, the second 1"):
        paired_difference({0: 1.0}, {1: 1.0})


# Verdicts.


def test_three_shared_seeds_are_paired() -> None:
    """Each seed moves both alike: apart the arms overlap, in pairs they do not."""
    first, second = arm(80.0, 85.0, 90.0), arm(79.0, 84.1, 88.9)
    found = distinguishable(first, second)
    assert found.distinguishable and found.difference == pytest.approx(1.0)
    wanted = t_interval([1.0, 0.9, 1.1])
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((wanted.low, wanted.high))
    assert f"{found.interval.low:+.1f}" in found.reason
    assert "paired over 3 seeds" in found.reason and "excludes 0" in found.reason
    assert not distinguishable(first, arm(75.0, 89.0, 88.0)).distinguishable


def test_seeds_that_differ_are_welchs() -> None:
    first = ArmScores(scores={0: 80.0, 1: 81.0, 2: 80.5})
    second = ArmScores(scores={5: 76.0, 6: 77.5})
    found = distinguishable(first, second)
    wanted = stats.ttest_ind([80.0, 81.0, 80.5], [76.0, 77.5], equal_var=False).confidence_interval(0.95)
    assert found.interval is not None and found.interval.method == "welch"
    assert (found.interval.low, found.interval.high) == pytest.approx((wanted.low, wanted.high))
    assert found.distinguishable == (wanted.low > 0)
    two = distinguishable(arm(80.0, 81.0), arm(76.0, 77.5))
    assert two.interval is not None and two.interval.method == "welch"


def test_one_seed_needs_a_borrowed_spread() -> None:
    alone = distinguishable(arm(99.0), arm(50.0))
    assert (alone.distinguishable, alone.interval, alone.difference) == (False, None, 49.0)
    assert alone.reason == "one seed against 1: a single run does not show its own spread"
    lent = distinguishable(arm(82.0), arm(80.0, 80.0), borrowed_seed_sd=1.0)
    half = stats.norm.ppf(0.975) * math.sqrt(1 + 1 / 2)
    assert lent.interval is not None
    assert (lent.interval.low, lent.interval.high) == pytest.approx((2.0 - half, 2.0 + half))
    assert not lent.distinguishable and "borrowed" in lent.reason
    assert distinguishable(arm(83.0), arm(80.0), borrowed_seed_sd=1.0).distinguishable
    own = distinguishable(arm(82.0, 82.0), arm(80.0, 80.0), borrowed_seed_sd=9.0)
    assert own.distinguishable and "borrowed" not in own.reason  # their own spread goes first


def test_the_rule_is_right_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    trials, wrong = 1500, 0
    for _ in range(trials):
        seeds = generator.normal(0, 2, 3)
        first, second = (arm(*(80 + seeds + generator.normal(0, 1, 3))) for _ in range(2))
        wrong += distinguishable(first, second).distinguishable
    assert wrong / trials == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / trials))


def test_the_size_of_a_dev_file() -> None:
    drawn = np.random.default_rng(0).binomial(277, 0.6, 20_000) / 277
    assert accuracy_standard_error(0.6, 277) == pytest.approx(drawn.std(), rel=0.03)
    for wrong in ((1.2, 10), (0.5, 0)):
        with pytest.raises(ConfigurationError, match="accuracy in"):
            accuracy_standard_error(*wrong)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(wrong: float) -> None:
    with pytest.raises(ConfigurationError, match="not finite"):
        variation(arm(1.0, wrong))
    with pytest.raises(ConfigurationError, match="not finite"):
        distinguishable(arm(1.0), arm(wrong))
    with pytest.raises(ConfigurationError, match="not finite"):
        paired_difference({0: wrong}, {0: 1.0})


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="nothing to say"):
        variation(ArmScores(scores={}))
    with pytest.raises(ConfigurationError, match="borrowed_seed_sd"):
        distinguishable(arm(1.0), arm(2.0), borrowed_seed_sd=-1.0)
    for wrong in (0.0, 1.0, 95.0):
        with pytest.raises(ConfigurationError, match="confidence"):
            distinguishable(arm(1.0), arm(2.0), confidence=wrong, borrowed_seed_sd=1.0)
        with pytest.raises(ConfigurationError, match="confidence"):
            distinguishable(arm(1.0, 2.0, 3.0), arm(1.0, 2.0, 4.0), confidence=wrong)
