from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from supermask.deltas.coding.classes import base_bits
from supermask.deltas.coding.fit import fit_mask_models
from supermask.deltas.coding.model import MAX_STEP, OFFSETS

SHAPE = (256, 320)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def dropped(chance: Tensor | float) -> np.ndarray:
    found: np.ndarray = (noise(*SHAPE) < chance).numpy().reshape(-1)
    return found


def test_zeros_strewn_at_random_need_no_model() -> None:
    base = base_bits(noise(*SHAPE, seed=1) - 0.5)
    for share in (0.01, 0.1, 0.5, 0.9):
        assert all(
            model.rows is None and model.columns is None for model in fit_mask_models(dropped(share), SHAPE, None)
        )
        assert all(not model.terms for model in fit_mask_models(dropped(share), SHAPE, base))


@pytest.mark.parametrize("along", [0, 1])
def test_dense_lines_are_found(along: int) -> None:
    chance = torch.full(SHAPE, 0.02)
    chance.select(along, 17).fill_(0.5)
    chance.select(along, 99).fill_(0.1)
    (model,) = fit_mask_models(dropped(chance), SHAPE, None)
    steps, others = (model.rows, model.columns) if along == 0 else (model.columns, model.rows)
    assert others is None
    assert steps is not None
    assert np.flatnonzero(steps).tolist() == [17, 99]
    assert steps[17] > steps[99] > 0


def test_small_weights_are_found() -> None:
    base = noise(*SHAPE, seed=1) - 0.5
    bits = base_bits(base)
    assert bits is not None
    (model,) = fit_mask_models(dropped(torch.where(base.abs() < 0.05, 0.3, 0.01)), SHAPE, bits)
    assert model.needs_base
    assert model.magnitudes is not None
    leading = base_bits(torch.tensor([0.03, 0.2]))
    assert leading is not None
    small, large = np.clip(leading.leading().astype(int) - model.first_magnitude, 0, 63)
    assert model.magnitudes[small] - model.magnitudes[large] == pytest.approx(2 * np.log2(0.43 / 0.0101), abs=2)


def test_the_direction_that_a_term_pulls_into_is_found() -> None:
    base = noise(*SHAPE, seed=1) - 0.5
    left, right = (noise(SHAPE[0], seed=2) - 0.5).sign(), (noise(SHAPE[1], seed=3) - 0.5).sign()
    chance = torch.where(torch.outer(left, right) * base.sign() > 0, 0.12, 0.01)
    model = fit_mask_models(dropped(chance), SHAPE, base_bits(base))[-1]
    assert len(model.terms) >= 1
    over_rows, over_columns = (torch.from_numpy(part).float() for part in model.terms[0])
    agreement = torch.outer(over_rows, over_columns).sign() * torch.outer(left, right)
    assert float(agreement.mean()) > 0.8


def test_steps_stay_in_range_where_the_mask_is_certain() -> None:
    base = noise(*SHAPE, seed=1) - 0.5
    for certain in (base.abs() < 0.1, base > 0.1, base.abs() > 0.4, base < 0.49):
        for model in fit_mask_models(certain.numpy().reshape(-1), SHAPE, base_bits(base)):
            assert model.offset in OFFSETS
            vectors = [model.rows, model.columns, model.magnitudes, *(part for term in model.terms for part in term)]
            assert max(int(np.abs(vector).max()) for vector in vectors if vector is not None) <= MAX_STEP


@pytest.mark.parametrize("shape", [(1, 2000), (2000, 1), (2, 1000), (1000, 2), (600, 1)])
def test_narrow_matrices(shape: tuple[int, int]) -> None:
    base = noise(*shape, seed=1) - 0.5
    lost = (base.abs() < 0.05).numpy().reshape(-1)
    (based,) = (model for model in fit_mask_models(lost, shape, base_bits(base)) if model.needs_base)
    assert based.magnitudes is not None
    assert based.terms == ()
    assert (based.rows if shape[0] > shape[1] else based.columns) is None  # a step for so few weights does not pay


@pytest.mark.parametrize("kept", [True, False])
def test_few_weights_of_one_kind_or_at_all_need_no_model(kept: bool) -> None:
    base = base_bits(noise(*SHAPE))
    few = np.full(SHAPE[0] * SHAPE[1], not kept)
    few[[3, 700, 701]] = kept
    assert fit_mask_models(few, SHAPE, base) == []
    assert fit_mask_models(noise(20, 20).numpy().reshape(-1) < 0.5, (20, 20), base_bits(noise(20, 20))) == []


def test_a_base_all_alike_tells_nothing() -> None:
    assert fit_mask_models(dropped(0.1), SHAPE, base_bits(torch.zeros(SHAPE))) == []
