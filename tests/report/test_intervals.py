"""Intervals of a mean, against scipy and by simulation."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from supermask.errors import ConfigurationError
from supermask.report.intervals import bootstrap_interval, normal_interval, t_interval, welch_interval

VALUES = [1.2, -0.3, 0.8, 2.5, 0.1, 1.9, 0.4]


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_students_interval_is_scipys(confidence: float) -> None:
    found = t_interval(VALUES, confidence=confidence)
    wanted = stats.ttest_1samp(VALUES, 0.0).confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert found.excludes_zero == (wanted.low > 0)


@pytest.mark.parametrize(("method", "scipys"), [("percentile", "percentile"), ("bca", "BCa")])
@pytest.mark.parametrize("values", [VALUES, [0.1, 0.2, 5.0], [3.0, 1.0, 1.0, 1.0, 2.0]])
def test_the_bootstrap_is_scipys(method: str, scipys: str, values: list[float]) -> None:
    found = bootstrap_interval(values, method=method, resamples=2000, seed=7)  # type: ignore[arg-type]
    wanted = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method=scipys, vectorized=True, random_state=np.random.default_rng(7)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert found == bootstrap_interval(values, method=method, resamples=2000, seed=7)  # type: ignore[arg-type]


def test_another_seed_resamples_otherwise() -> None:
    assert bootstrap_interval(VALUES, seed=7) != bootstrap_interval(VALUES, seed=8)


def test_the_bootstrap_of_equal_values_is_that_value() -> None:
    found = bootstrap_interval([2.0, 2.0, 2.0])
    assert (found.low, found.high) == (2.0, 2.0)


def test_coverage_of_a_handful_is_as_the_docstring_says() -> None:
    generator = np.random.default_rng(0)
    trials = 400
    for count, wanted in ((3, 0.73), (5, 0.84), (10, 0.89)):
        samples = generator.standard_normal((trials, count))
        covered = [bootstrap_interval(list(sample), resamples=400, method="percentile") for sample in samples]
        share = statistics.fmean(one.low < 0 < one.high for one in covered)
        assert share == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / trials))
        students = statistics.fmean(not t_interval(list(sample)).excludes_zero for sample in samples)
        assert students == pytest.approx(0.95, abs=4 * math.sqrt(0.05 * 0.95 / trials))


def test_welchs_interval_is_scipys() -> None:
    second = [0.3, -1.0, 0.2]
    found = welch_interval(VALUES, second, confidence=0.9)
    wanted = stats.ttest_ind(VALUES, second, equal_var=False).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    equal = welch_interval([2.0, 2.0], [1.0, 1.0])
    assert (equal.low, equal.high) == (1.0, 1.0)  # no spread at all


def test_a_known_standard_error_is_normal() -> None:
    found = normal_interval(3.0, 2.0, confidence=0.9)
    assert (found.low, found.high) == pytest.approx(stats.norm.interval(0.9, 3.0, 2.0))


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="one value has no interval"):
        t_interval([1.0])
    with pytest.raises(ConfigurationError, match="one value has no spread"):
        welch_interval([1.0], VALUES)
    with pytest.raises(ConfigurationError, match="at least 3 values"):
        bootstrap_interval([1.0, 2.0])
    with pytest.raises(ConfigurationError, match="resamples"):
        bootstrap_interval(VALUES, resamples=0)
    with pytest.raises(ConfigurationError, match="not finite"):
        t_interval([1.0, float("nan")])
    for wrong in (0.0, 1.0, 95.0):
        for function in (t_interval, bootstrap_interval):
            with pytest.raises(ConfigurationError, match="confidence"):
                function(VALUES, confidence=wrong)
        with pytest.raises(ConfigurationError, match="confidence"):
            welch_interval(VALUES, VALUES, confidence=wrong)
        with pytest.raises(ConfigurationError, match="confidence"):
            normal_interval(0.0, 1.0, confidence=wrong)
