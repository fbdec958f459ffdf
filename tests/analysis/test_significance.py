import math

import numpy as np
import pytest
from scipy import stats

from supermask.analysis import OverlapCount, overlap_significance
from supermask.errors import ConfigurationError


def counted(n: int, a: int, b: int, shared: int) -> OverlapCount:
    return OverlapCount.of_tensor(weights=n, first_zeros=a, second_zeros=b, shared=shared)


@pytest.mark.parametrize(
    ("n", "a", "b"),
    [(8, 4, 4), (50, 7, 13), (50, 44, 13), (1000, 500, 3), (147_456, 3_000, 5_000), (2_359_296, 70_000, 23_000)],
)
def test_tails_of_one_tensor_are_scipys(n: int, a: int, b: int) -> None:
    law = stats.hypergeom(n, a, b)
    low, high = max(0, a + b - n), min(a, b)
    mean, sd = law.mean(), law.std()
    wanted = {low, high, round(mean), round(mean) + 1, round(mean + 3 * sd), round(mean - 3 * sd), round(mean + 9 * sd)}
    for shared in sorted(k for k in wanted if low <= k <= high):
        found = overlap_significance(counted(n, a, b, shared))
        assert found.exact
        assert found.z == pytest.approx((shared - mean) / sd)
        more, fewer = law.sf(shared - 1), law.cdf(shared)
        # scipy itself gives 0 where the tail is below about 1e-16 of what it sums.
        if more > 1e-13:
            assert found.p_more == pytest.approx(more, rel=2e-4, abs=1e-12)
        if fewer > 1e-13:
            assert found.p_fewer == pytest.approx(fewer, rel=2e-4, abs=1e-12)


def test_a_far_tail_is_summed_term_by_term() -> None:
    n, a, b, shared = 147_456, 3_000, 5_000, 400  # about 30 standard deviations above 102
    logs = stats.hypergeom(n, a, b).logpmf(np.arange(shared, 1500))
    wanted = (np.logaddexp.reduce(logs)) / math.log(10)
    found = overlap_significance(counted(n, a, b, shared))
    assert found.log10_p_more == pytest.approx(wanted, abs=1e-4)
    assert found.log10_p_more < -100
    assert found.p_fewer == pytest.approx(1.0)


@pytest.mark.parametrize(("n", "a", "b"), [(10, 0, 5), (10, 10, 5), (10, 10, 10), (0, 0, 0)])
def test_where_chance_leaves_one_outcome_nothing_is_surprising(n: int, a: int, b: int) -> None:
    found = overlap_significance(counted(n, a, b, min(a, b)))
    assert (found.z, found.p_more, found.p_fewer, found.exact) == (None, 1.0, 1.0, True)


def test_tensors_are_pooled_by_convolution_where_they_are_small() -> None:
    tensors = [(60, 9, 20), (40, 30, 5), (100, 12, 12)]
    laws = [stats.hypergeom(*tensor) for tensor in tensors]
    pooled = np.ones(1)
    for law, (_, a, b) in zip(laws, tensors, strict=True):
        pooled = np.convolve(pooled, law.pmf(np.arange(min(a, b) + 1)))
    for shared in ([3, 4, 1], [0, 0, 0], [9, 5, 12], [5, 4, 3]):
        found = overlap_significance([counted(*tensor, k) for tensor, k in zip(tensors, shared, strict=True)])
        assert found.exact
        assert found.p_more == pytest.approx(pooled[sum(shared) :].sum())
        assert found.p_fewer == pytest.approx(pooled[: sum(shared) + 1].sum())


def split(total: int) -> list[OverlapCount]:
    """Five tensors that share so many zeros together."""
    shares = [total // 5] * 4 + [total - 4 * (total // 5)]
    return [counted(20_000, 2_000, 3_000, shared) for shared in shares]


def test_many_outcomes_are_pooled_as_normal() -> None:
    law = stats.hypergeom(20_000, 2_000, 3_000)
    mean, sd = 5 * law.mean(), math.sqrt(5 * law.var())
    for away in (-2.0, 0.0, 1.0, 4.0):
        total = round(mean + away * sd)
        found = overlap_significance(split(total))
        assert not found.exact
        assert found.p_more == pytest.approx(stats.norm.sf((total - 0.5 - mean) / sd), rel=1e-9)
        assert found.p_fewer == pytest.approx(stats.norm.cdf((total + 0.5 - mean) / sd), rel=1e-9)
    # The normal law stands for what drawing such masks gives.
    drawn = law.rvs((4000, 5), random_state=0).sum(1)
    total = round(mean + sd)
    found = overlap_significance(split(total))
    assert found.p_more == pytest.approx((drawn >= total).mean(), abs=4 * math.sqrt(0.16 * 0.84 / 4000))


def test_normal_tails_go_on_past_the_smallest_float() -> None:
    part = counted(20_000, 2_000, 3_000, 900)  # 45 standard deviations each
    found = overlap_significance([part] * 5)
    mean, sd = 1500.0, math.sqrt(5 * stats.hypergeom(20_000, 2_000, 3_000).var())
    assert found.log10_p_more == pytest.approx(stats.norm.logsf((4500 - 0.5 - mean) / sd) / math.log(10), rel=1e-9)
    assert found.log10_p_more < -310 and found.p_more == 0.0


def test_counts_without_a_law_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="pass the counts of the tensors"):
        overlap_significance(counted(10, 5, 5, 2) + counted(100, 5, 5, 2))
    with pytest.raises(ConfigurationError, match="no counts"):
        overlap_significance([])
