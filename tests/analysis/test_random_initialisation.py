"""Distances between random initialisations: formulas against quadrature, scipy and draws, and against the paper."""

import math

import pytest
import torch
from scipy import integrate, stats

from supermask.analysis import (
    PAPER_NORMAL,
    PAPER_UNIFORM,
    RandomLaw,
    expected_distances,
    normal_law,
    sampled_distances,
    truncated_normal_law,
    uniform_law,
)
from supermask.errors import ConfigurationError

LAWS = [uniform_law(0.3), normal_law(0.7), truncated_normal_law(0.02), truncated_normal_law(1.5, cut=0.8)]


def scipys(law: RandomLaw) -> stats.rv_continuous:
    if law.kind == "uniform":
        return stats.uniform(-law.scale, 2 * law.scale)
    if law.cut is None:
        return stats.norm(0, law.scale)
    return stats.truncnorm(-law.cut, law.cut, 0, law.scale)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_moments_are_scipys(law: RandomLaw) -> None:
    other = scipys(law)
    assert law.variance == pytest.approx(other.var(), rel=1e-9)
    edge = 12 * law.scale
    # E|X - Y| = 2 ∫ F (1 - F)
    found, _ = integrate.quad(lambda x: 2 * other.cdf(x) * other.sf(x), -edge, edge, limit=500, points=[0.0])
    assert law.mean_difference == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_draws_follow_the_law(law: RandomLaw) -> None:
    drawn, again = (law.draw((200, 200), torch.Generator().manual_seed(0)) for _ in range(2))
    assert stats.kstest(drawn.double().numpy().ravel(), scipys(law).cdf).pvalue > 1e-3
    assert torch.equal(drawn, again)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_formulas_are_what_draws_give(law: RandomLaw) -> None:
    shape, pairs = (160, 90), 60
    expected, found = expected_distances(shape, law), sampled_distances(shape, law, pairs=pairs)
    off = math.sqrt(pairs)
    assert found.l1[0] == pytest.approx(expected.l1, abs=4 * expected.l1_sd / off)
    assert found.l1[1] == pytest.approx(expected.l1_sd, rel=4 / math.sqrt(2 * pairs))
    assert found.angular[0] == pytest.approx(0.5, abs=4 * expected.angular_sd / off)
    assert found.angular[1] == pytest.approx(expected.angular_sd, rel=4 / math.sqrt(2 * pairs))
    for name in ("largest_column_sum", "largest_row_sum"):
        mean, sd = getattr(found, name)
        # Sums of 90 and 160 terms are not quite normal: up to half a percent.
        assert mean == pytest.approx(getattr(expected, name), abs=4 * sd / off + 0.006 * mean), name


def test_the_largest_of_some_normals() -> None:
    """The mean is known in closed form for 2 and 3: 1/√π and 3/(2√π)."""
    law = normal_law(1.0)
    for columns, wanted in ((1, 0.0), (2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi))):
        found = expected_distances((400, columns), law).largest_column_sum
        sd = math.sqrt(400 * (2 - law.mean_difference**2))
        assert found is not None
        assert (found - 400 * law.mean_difference) / sd == pytest.approx(wanted, abs=1e-6)


def test_table_2_of_the_paper_prints_the_largest_column_sum() -> None:
    """20.0 ± 0.1 and 16.7 ± 0.1 for 768 x 768; the norm over H would be 18.5 and 15.5."""
    for law, printed, over_h in ((PAPER_UNIFORM, 20.0, 18.475), (PAPER_NORMAL, 16.7, 15.459)):
        expected = expected_distances((768, 768), law)
        assert expected.largest_column_sum == pytest.approx(printed, abs=0.1)
        assert expected.l1 == pytest.approx(over_h, abs=0.001)
        found = sampled_distances((768, 768), law, pairs=4)
        assert found.largest_column_sum is not None
        assert found.largest_column_sum[0] == pytest.approx(printed, abs=0.3)
        assert round(found.angular[0], 2) == 0.5
    assert normal_law(1 / math.sqrt(768)).mean_difference * 768 > 30  # no reading of "normal" by this one


def test_a_vector_has_no_columns_and_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    found = expected_distances((100,), LAWS[0])
    assert found.largest_column_sum is None and found.largest_row_sum is None
    assert sampled_distances((100,), LAWS[0]).largest_column_sum is None
    assert torch.equal(torch.get_rng_state(), before)


def test_arguments_out_of_range_are_refused() -> None:
    for make in (uniform_law, normal_law, truncated_normal_law):
        for wrong in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(ConfigurationError, match="positive"):
                make(wrong)
    with pytest.raises(ConfigurationError, match="the cut"):
        truncated_normal_law(1.0, cut=0.0)
    for shape in ((), (0, 3)):
        with pytest.raises(ConfigurationError, match="no components"):
            expected_distances(shape, LAWS[0])
    with pytest.raises(ConfigurationError, match="at least 2 pairs"):
        sampled_distances((3, 3), LAWS[0], pairs=1)
