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
