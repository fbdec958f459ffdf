"""Whether drawn masks look like independent coins with the wanted probabilities.

Every statistic is standardised, so that by chance alone it goes beyond 5 once in 1.7 million, and none of the about
8000 here would, with 99.5 %. The keys are fixed: what holds once holds always. Bits are the same on every backend, so
one is enough.
"""

import itertools
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from supermask.core import DrawKey, sample_keep_mask

KEY = DrawKey(seed=4, step=17)
NAME = "encoder.layer.3.output.dense.weight"
ROWS, COLUMNS = 384, 1536
LIMIT = 5.0

Floats = npt.NDArray[np.float64]


def sigmoid(logits: torch.Tensor) -> Floats:
    probabilities: Floats = torch.sigmoid(logits.double()).numpy()
    return probabilities


def draw(logit: float, key: DrawKey = KEY, name: str = NAME, count: int = ROWS * COLUMNS) -> Floats:
    """A draw of equal logits, standardised: mean 0 and variance 1 each."""
    keep = sample_keep_mask(torch.full((count,), logit), key, name).numpy().astype(np.float64)
    probability = 1 / (1 + math.exp(-logit))
    standardised: Floats = (keep - probability) / math.sqrt(probability * (1 - probability))
    return standardised


def chi_square(squares: Floats) -> float:
    """A sum of squares of standardised numbers, standardised in turn."""
    return float((squares.sum() - squares.size) / math.sqrt(2 * squares.size))


# Frequencies.


@pytest.mark.parametrize("name", ["a.weight", "b.weight", "encoder.layer.0.weight", "encoder.layer.1.weight"])
@pytest.mark.parametrize("key", [KEY, DrawKey(), DrawKey(seed=2**40, step=10**6, rank=7)])
def test_each_probability_is_met_within_one_tensor(key: DrawKey, name: str) -> None:
    logits = torch.from_numpy(np.random.default_rng(1).uniform(-9, 9, ROWS * COLUMNS)).float()
    probabilities = sigmoid(logits)
    excess = sample_keep_mask(logits, key, name).numpy() - probabilities
    bins = ((logits.numpy() + 9) / 18 * 60).astype(int).clip(0, 59)
    sums = np.bincount(bins, weights=excess)
    variances = np.bincount(bins, weights=probabilities * (1 - probabilities))
    deviations = sums / np.sqrt(variances)
    assert np.abs(deviations).max() < LIMIT
    assert abs(chi_square(deviations**2)) < LIMIT


@pytest.mark.parametrize("logit", [-5.0, 0.0, 2.0, 5.0])
def test_zeros_spread_evenly_over_rows_and_columns(logit: float) -> None:
    matrix = draw(logit).reshape(ROWS, COLUMNS)
    assert abs(chi_square(matrix.sum(0) ** 2 / ROWS)) < LIMIT
    assert abs(chi_square(matrix.sum(1) ** 2 / COLUMNS)) < LIMIT


def test_each_weight_is_dropped_at_its_rate_over_the_steps() -> None:
    # Too even would be as wrong as too uneven: coins repeat themselves.
    steps, count, logit = 500, 4096, 1.0
    total = sum(draw(logit, KEY.at(step=step), count=count) for step in range(steps))
    assert abs(chi_square(np.square(total) / steps)) < LIMIT
    assert np.abs(total / math.sqrt(steps)).max() < LIMIT


# Neighbours: in memory, in the block, in the row.


@pytest.mark.parametrize("logit", [0.0, 5.0])
@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8, 15, 16, 17, 64, 127, 128, 129, 256, 384, 1024, 1536, 4096, 65536])
def test_neighbours_are_independent(lag: int, logit: float) -> None:
    drawn = draw(logit)
    assert abs(float((drawn[lag:] * drawn[:-lag]).sum()) / math.sqrt(drawn.size - lag)) < LIMIT


@pytest.mark.parametrize("logit", [0.0, 1.5])
def test_groups_of_eight_neighbours_take_every_pattern(logit: float) -> None:
    keep = draw(logit, count=1 << 19).reshape(-1, 8) > 0
    patterns = np.bincount(keep @ (1 << np.arange(8)), minlength=256)
    probability = 1 / (1 + math.exp(-logit))
    ones = np.array([bin(pattern).count("1") for pattern in range(256)])
    expected = len(keep) * probability**ones * (1 - probability) ** (8 - ones)
    squares = (patterns - expected) ** 2 / expected
    assert abs((squares.sum() - 255) / math.sqrt(2 * 255)) < LIMIT


# Keys.

KEYS = {
    "step": [KEY.at(step=step) for step in range(24)],
    "far step": [KEY.at(step=1 << step) for step in range(24)],
    "micro-batch": [KEY.at(step=17, micro_batch=micro_batch) for micro_batch in range(16)],
    "seed": [replace(KEY, seed=seed) for seed in range(24)],
    "rank": [replace(KEY, rank=rank) for rank in range(16)],
    "stream": [replace(KEY, stream=stream) for stream in ("training", "evaluation", "8-bit")],
}
SERIES = {what: [(key, NAME) for key in keys] for what, keys in KEYS.items()}
SERIES["tensor"] = [
    (KEY, f"encoder.layer.{layer}.attention.self.{role}.weight")
    for layer, role in itertools.product(range(8), ("query", "key", "value"))
]


@pytest.mark.parametrize("logit", [0.0, 5.0])
@pytest.mark.parametrize("what", SERIES)
def test_masks_of_different_keys_and_tensors_are_independent(what: str, logit: float) -> None:
    masks = np.stack([draw(logit, key, name, count=1 << 17) for key, name in SERIES[what]])
    pairs = (masks @ masks.T / math.sqrt(masks.shape[1]))[np.triu_indices(len(masks), 1)]
    assert np.abs(pairs).max() < LIMIT
    assert abs(chi_square(pairs**2)) < LIMIT


@pytest.mark.parametrize("shift", [1, 2, 64, 128, 384])
def test_one_step_is_not_the_next_one_moved_along(shift: int) -> None:
    # Keys enter a counter-based hash by addition: a poor one would draw the same sequence from another place.
    first, second = (draw(0.0, KEY.at(step=step)) for step in (1, 2))
    for one, other in ((first[shift:], second[:-shift]), (second[shift:], first[:-shift])):
        assert abs(float((one * other).sum()) / math.sqrt(one.size)) < LIMIT


def test_the_share_of_zeros_does_not_drift_or_swing_over_the_steps() -> None:
    shares = np.array([draw(5.0, KEY.at(step=step), count=1 << 14).mean() * 128 for step in range(1000)])
    assert abs(shares.sum() / math.sqrt(1000)) < LIMIT
    assert abs(chi_square(shares**2)) < LIMIT
    for lag in (1, 2, 3, 10):
        assert abs((shares[lag:] * shares[:-lag]).sum() / math.sqrt(1000 - lag)) < LIMIT
