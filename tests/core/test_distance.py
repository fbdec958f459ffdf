import math
import tracemalloc
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


@given(st.floats(min_value=1e-12, max_value=math.pi))
def test_angles_keep_their_digits_however_small(angle: float) -> None:
    first = torch.tensor([1.0, 0.0], dtype=torch.float64)
    second = 3 * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    assert angular_distance(first, second) == pytest.approx(angle / math.pi, rel=1e-7, abs=1e-16)


@pytest.mark.parametrize("size", [3, 3 * 65536 + 77])
def test_distances_at_the_ends(size: int) -> None:
    vector = torch.linspace(-2.0, 1.0, size)
    assert (l0_distance(vector, vector), l1_distance(vector, vector), angular_distance(vector, vector)) == (0, 0, 0)
    assert angular_distance(vector, 2 * vector) == 0.0
    assert angular_distance(vector, -vector) == 1.0


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


def test_a_zero_or_empty_vector_has_no_direction() -> None:
    empty = torch.ones(0)
    assert (l0_distance(empty, empty), l1_distance(empty, empty)) == (0, 0.0)
    for pair in ((torch.zeros(3), torch.ones(3)), (torch.ones(3), torch.zeros(3)), (empty, empty)):
        with pytest.raises(ConfigurationError, match="no direction"):
            angular_distance(*pair)


# Large tensors are read by compiled loops.

LARGE = 3 * 65536 + 77
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def two_large(seed: int, first: torch.dtype, second: torch.dtype, *, size: int = LARGE) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(seed)
    a = 0.05 * random.normal(size=size)
    b = a + 0.001 * random.normal(size=size) * (random.random(size) < 0.4)
    return torch.from_numpy(a).to(first), torch.from_numpy(b).to(second)


def long_doubles(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.double().numpy().astype(np.longdouble) for tensor in tensors]


@pytest.mark.parametrize("second_dtype", DTYPES)
@pytest.mark.parametrize("first_dtype", DTYPES)
def test_large_tensors_in_every_dtype(first_dtype: torch.dtype, second_dtype: torch.dtype) -> None:
    first, second = two_large(1, first_dtype, second_dtype)
    a, b = long_doubles(first, second)
    assert l0_distance(first, second) == int((a != b).sum())
    assert l1_distance(first, second) == pytest.approx(float(abs(a - b).sum() / np.sqrt(LARGE)), rel=5e-13)
    assert angular_distance(first, second) == pytest.approx(angle_in_long_doubles(a, b), rel=1e-10)
    for distance in DISTANCES:
        assert distance(first, second) == distance(second, first)


def angle_in_long_doubles(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a / np.sqrt((a * a).sum()), b / np.sqrt((b * b).sum())
    return float(2 * np.arctan2(np.sqrt(((a - b) ** 2).sum()), np.sqrt(((a + b) ** 2).sum())) / np.pi)


@pytest.mark.parametrize("scale", [1.0, 1.0001, -0.3, 40.0])
@pytest.mark.parametrize("noise", [1e-9, 1e-4, 1e-2, 0.5])
@pytest.mark.parametrize("size", [50, LARGE])
def test_angles_to_about_a_multiple_keep_their_digits(size: int, noise: float, scale: float) -> None:
    random = np.random.default_rng(5)
    a = random.normal(size=size)
    b = scale * a * (1 + noise * random.normal(size=size))
    expected = angle_in_long_doubles(a.astype(np.longdouble), b.astype(np.longdouble))
    assert angular_distance(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, rel=1e-10, abs=1e-15)


def test_large_integers_are_compared_as_they_are() -> None:
    first = torch.full((LARGE,), 2**53, dtype=torch.int64)
    assert l0_distance(first, first + 1) == LARGE
    small = torch.arange(LARGE)
    assert l1_distance(small, small + 3) == pytest.approx(3 * math.sqrt(LARGE), rel=1e-12)


@pytest.mark.parametrize("size", [100, LARGE])
@pytest.mark.parametrize("odd", [math.inf, math.nan])
def test_what_is_not_finite_stays_so(odd: float, size: int) -> None:
    first = torch.ones(size)
    second = first.clone()
    second[7] = odd
    assert not math.isfinite(l1_distance(first, second))
    assert math.isnan(angular_distance(first, second))
    assert l0_distance(first, second) == 1


@pytest.mark.parametrize("distance", DISTANCES)
def test_nothing_of_the_tensors_size_is_allocated(distance: Callable[[Tensor, Tensor], float]) -> None:
    first, second = two_large(4, torch.float32, torch.float32, size=1 << 20)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        distance(first, second)
    tracemalloc.start()
    distance(first, second)
    numpys = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    events = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    torchs = sum(max(event.nbytes(), 0) for event in events if event.name() == "[memory]")
    assert numpys + torchs < first.nbytes / 16
