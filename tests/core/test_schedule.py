from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supermask.core import cubic_sparsity
from supermask.errors import ConfigurationError

STEPS = st.integers(min_value=-1000, max_value=1_000_000)


@given(STEPS, STEPS, st.integers(min_value=1, max_value=1_000_000), st.floats(min_value=0.0, max_value=1.0))
def test_the_formula_in_exact_fractions(step: int, begin: int, length: int, final: float) -> None:
    progress = min(max(Fraction(step - begin, length), Fraction(0)), Fraction(1))
    expected = Fraction(final) * (1 - (1 - progress) ** 3)
    sparsity = cubic_sparsity(step, begin_step=begin, end_step=begin + length, final_sparsity=final)
    assert sparsity == pytest.approx(float(expected), rel=1e-9, abs=1e-15)
    assert 0.0 <= sparsity <= final


def test_zhu_and_guptas_general_form_from_zero() -> None:
    # s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n Δt))³ with s_i = 0, every Δt = 10 steps, n = 15 times, from t_0 = 30.
    for pruned in range(16):
        expected = 0.8 + (0.0 - 0.8) * (1 - (10 * pruned) / (15 * 10)) ** 3
        sparsity = cubic_sparsity(30 + 10 * pruned, begin_step=30, end_step=180, final_sparsity=0.8)
        assert sparsity == pytest.approx(expected, abs=1e-15)


def test_it_only_rises_and_ever_more_slowly() -> None:
    steps = [cubic_sparsity(step, begin_step=10, end_step=90, final_sparsity=0.9) for step in range(100)]
    rises = [later - earlier for earlier, later in itertools.pairwise(steps)]
    assert all(rise >= 0 for rise in rises)
    pruning = rises[10:90]
    assert all(later < earlier for earlier, later in itertools.pairwise(pruning))
    # The definite mark of the cube: seven eighths are gone at half the way.
    assert steps[50] == pytest.approx(0.9 * 7 / 8)


@pytest.mark.parametrize("final", [0.0, 0.3, 1 / 3, 0.9, 1.0])
def test_the_ends_are_exact(final: float) -> None:
    settings = {"begin_step": 5, "end_step": 15, "final_sparsity": final}
    assert [cubic_sparsity(step, **settings) for step in (-3, 0, 5)] == [0.0, 0.0, 0.0]
    assert [cubic_sparsity(step, **settings) for step in (15, 16, 10**9)] == [final, final, final]


def test_a_schedule_of_no_length_jumps_at_its_step() -> None:
    jump = {"begin_step": 7, "end_step": 7, "final_sparsity": 0.5}
    assert [cubic_sparsity(step, **jump) for step in (6, 7, 8)] == [0.0, 0.5, 0.5]


def test_an_end_before_the_begin_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"end \(step 3\) before it begins \(step 4\)"):
        cubic_sparsity(0, begin_step=4, end_step=3, final_sparsity=0.5)
