import pytest

from supermask.analysis import SparsityPoint, noise_floor, sparsity_drift
from supermask.errors import ConfigurationError, DataError

LOG = [
    {"loss": 0.7, "step": 10.0, "sparsity": 0.01, "sampled_sparsity": 0.017},
    {"loss": 0.6, "step": 20.0, "sparsity": 0.02, "sampled_sparsity": 0.026},
    {"eval_loss": 0.6, "step": 20.0},
]


def test_the_start_is_the_methods_and_the_noise_floor() -> None:
    drift, floor = sparsity_drift(LOG), noise_floor()
    assert [point.step for point in drift.points] == [0, 10, 20]
    assert drift.initial == SparsityPoint(step=0, thresholded=0.0, expected=floor)
    assert drift.thresholded_change == 0.02
    assert drift.expected_change == pytest.approx(0.026 - floor)
    soft = sparsity_drift(LOG, initial_sparsity=0.9)
    assert soft.initial.expected == pytest.approx(0.9 * (1 - floor) + 0.1 * floor)
    assert soft.thresholded_change < 0


def test_the_end_is_the_records() -> None:
    end = SparsityPoint(step=23, thresholded=0.03, expected=0.04)
    assert sparsity_drift(LOG, final=end).final == end
    at_last_row = SparsityPoint(step=20, thresholded=0.03, expected=0.04)
    assert [point.step for point in sparsity_drift(LOG, final=at_last_row).points] == [0, 10, 20]
    assert sparsity_drift([], final=end).thresholded_change == 0.03
    pruned = sparsity_drift([{"step": 5.0, "sparsity": 0.5}])  # which does not sample
    assert (pruned.initial.expected, pruned.final.expected, pruned.expected_change) == (None, None, None)


def test_logs_and_starts_that_make_no_sense_are_refused() -> None:
    with pytest.raises(DataError, match="no sparsity"):
        sparsity_drift([{"loss": 0.7, "step": 10.0}])
    with pytest.raises(ConfigurationError, match="initial_sparsity"):
        sparsity_drift(LOG, initial_sparsity=40)
