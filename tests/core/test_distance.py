from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.spatial.distance
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from supermask.core import angular_distance, l0_distance, l1_distance
from supermask.errors import ConfigurationError

HIDDEN = 768
DISTANCES: tuple[Callable[[Tensor, Tensor], float], ...] = (l0_distance, l1_distance, angular_distance)


def two_arrays(seed: int, shape: tuple[int, ...] = (31, 17)) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    first = random.normal(size=shape)
    return first, first + 0.3 * random.normal(size=shape) * (random.random(shape) < 0.4)


def two_uniform_matrices() -> tuple[Tensor, Tensor]:
    """As a linear layer of width 768 is initialised: U(±1/√768)."""
    random = np.random.default_rng(768)
    return tuple(torch.from_numpy(random.uniform(-1, 1, (HIDDEN, HIDDEN)) / math.sqrt(HIDDEN)) for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize("seed", range(4))
def test_the_same_numbers_as_numpy_and_scipy(seed: int) -> None:
    first, second = two_arrays(seed)
    a, b = torch.from_numpy(first), torch.from_numpy(second)
    assert l0_distance(a, b) == np.linalg.norm((first - second).reshape(-1), ord=0)
    assert l1_distance(a, b) == pytest.approx(
        scipy.spatial.distance.cityblock(first.reshape(-1), second.reshape(-1)) / math.sqrt(31 * 17), rel=1e-12
    )
    cosine = 1 - scipy.spatial.distance.cosine(first.reshape(-1), second.reshape(-1))
    assert angular_distance(a, b) == pytest.approx(math.acos(cosine) / math.pi, rel=1e-9)


def test_l1_between_uniform_draws_is_the_analytic_expectation() -> None:
    # |a - b| of two U(±c) has mean 2c/3 and variance 2c²/9, so the distance has mean 768 · 2c/3 = 2√768/3 and sd c√2/3.
    expected = 2 * math.sqrt(HIDDEN) / 3
    assert expected == pytest.approx(18.475, abs=5e-4)
    deviation = math.sqrt(2) / 3 / math.sqrt(HIDDEN)
    distance = l1_distance(*two_uniform_matrices())
    assert abs(distance - expected) < 5 * deviation
    assert abs(distance - 20.0) > 1, "the paper prints 20.0 ± 0.1, which this normalisation does not give"


def test_unrelated_matrices_are_orthogonal() -> None:
    # The cosine of two random directions in n dimensions has sd 1/√n.
    assert abs(angular_distance(*two_uniform_matrices()) - 0.5) < 5 / (math.pi * HIDDEN)


def test_l1_of_a_square_matrix_is_the_sum_over_its_width() -> None:
    assert l1_distance(torch.zeros(5, 5), torch.full((5, 5), -2.0)) == pytest.approx(50 / 5)


@given(st.floats(min_value=1e-12, max_value=math.pi))
def test_angles_keep_their_digits_however_small(angle: float) -> None:
    first = torch.tensor([1.0, 0.0], dtype=torch.float64)
    second = 3 * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    assert angular_distance(first, second) == pytest.approx(angle / math.pi, rel=1e-7, abs=1e-16)


def test_angles_at_the_ends() -> None:
    vector = torch.tensor([1.0, -2.0, 0.5])
    assert angular_distance(vector, 2 * vector) == 0.0
    assert angular_distance(vector, -vector) == 1.0
    assert angular_distance(torch.tensor([1.0, 0.0]), torch.tensor([0.0, -4.0])) == pytest.approx(0.5, abs=1e-15)


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_are_symmetric_and_zero_to_oneself(distance: Callable[[Tensor, Tensor], float]) -> None:
    a, b = (torch.from_numpy(array) for array in two_arrays(9))
    assert distance(a, b) == distance(b, a) > 0
    assert distance(a, a.clone()) == 0
    assert distance(a.t().contiguous().t(), b) == distance(a, b)


def test_small_differences_in_low_precision_are_summed_in_float64() -> None:
    first = torch.full((100_000,), 1.0, dtype=torch.bfloat16)
    second = first + torch.tensor(2**-7, dtype=torch.bfloat16)
    assert l1_distance(first, second) == pytest.approx(100_000 * 2**-7 / math.sqrt(100_000), rel=1e-12)
    assert l0_distance(first, second) == 100_000


def test_l0_counts_components_by_value() -> None:
    first, second = torch.tensor([0.0, 1.0, float("nan")]), torch.tensor([-0.0, 1.0, float("nan")])
    assert l0_distance(first, second) == 1, "both zeros are one value, and what is not a number is equal to nothing"


@pytest.mark.parametrize("distance", DISTANCES)
def test_other_shapes_are_refused_rather_than_broadcast(distance: Callable[[Tensor, Tensor], float]) -> None:
    with pytest.raises(ConfigurationError, match=r"received \(2, 3\) and \(3,\)"):
        distance(torch.ones(2, 3), torch.ones(3))


def test_a_zero_vector_has_no_direction() -> None:
    for pair in ((torch.zeros(3), torch.ones(3)), (torch.ones(3), torch.zeros(3)), (torch.ones(0), torch.ones(0))):
        with pytest.raises(ConfigurationError, match="no direction"):
            angular_distance(*pair)


def test_empty_tensors_are_no_distance_apart() -> None:
    assert (l0_distance(torch.ones(0), torch.ones(0)), l1_distance(torch.ones(0), torch.ones(0))) == (0, 0.0)
