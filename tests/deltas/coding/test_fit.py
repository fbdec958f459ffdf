import numpy as np
import pytest
import torch
from torch import Tensor

from supermask.deltas.coding.fit import fit_mask_model
from supermask.deltas.coding.model import MAX_STEP, OFFSETS, MaskModel, base_bits
from supermask.deltas.keep_mask import MaskPositions

SHAPE = (256, 320)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def fitted(dropped: Tensor, base: Tensor | None = None) -> MaskModel:
    bits = None if base is None else base_bits(base)
    return fit_mask_model(MaskPositions.of(~dropped), (dropped.shape[0], dropped.shape[1]), bits)


def drawn(chance: Tensor | float) -> Tensor:
    return noise(*SHAPE) < chance


def says_nothing(model: MaskModel) -> bool:
    return model.rows is model.columns is model.magnitudes is None


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_zeros_strewn_at_random_need_no_model(share: float) -> None:
    for base in (None, noise(*SHAPE, seed=1) - 0.5):
        model = fitted(drawn(share), base)
        assert says_nothing(model)
        assert model.offset == round(2 * np.log2(share / (1 - share)))


@pytest.mark.parametrize("along", [0, 1])
@pytest.mark.parametrize("turned", [False, True])
def test_dense_lines_are_found(along: int, turned: bool) -> None:
    chance = torch.full(SHAPE, 0.02)
    chance.select(along, 17).fill_(0.5)
    chance.select(along, 99).fill_(0.1)
    model = fitted(drawn(chance) != turned)
    steps, others = (model.rows, model.columns) if along == 0 else (model.columns, model.rows)
    assert others is None
    assert steps is not None
    steps = -steps if turned else steps
    assert np.flatnonzero(steps).tolist() == [17, 99]
    assert steps[17] > steps[99] > 0


def test_small_weights_are_found() -> None:
    base = noise(*SHAPE, seed=1) - 0.5
    model = fitted(drawn(torch.where(base.abs() < 0.05, 0.3, 0.01)), base)
    assert model.magnitudes is not None
    assert model.rows is model.columns is None
    leading = base_bits(torch.tensor([0.03, 0.2]))
    assert leading is not None
    small, large = np.clip(leading.leading().astype(int) - model.first_magnitude, 0, 63)
    assert model.magnitudes[small] - model.magnitudes[large] == pytest.approx(2 * np.log2(0.43 / 0.0101), abs=2)


def test_lines_are_found_beside_magnitudes() -> None:
    base = noise(*SHAPE, seed=1) - 0.5
    chance = torch.where(base.abs() < 0.05, 0.3, 0.01)
    chance[40:50] *= 3
    model = fitted(drawn(chance), base)
    assert model.magnitudes is not None and model.rows is not None
    assert set(np.flatnonzero(model.rows)) == set(range(40, 50))


def test_steps_stay_in_range_where_the_mask_is_certain() -> None:
    base = noise(*SHAPE, seed=1) - 0.5
    for certain in (base.abs() < 0.1, base > 0.1, base.abs() > 0.4, base < 0.49, torch.arange(256)[:, None] < base + 9):
        model = fitted(certain, base)
        assert model.offset in OFFSETS
        vectors = [vector for vector in (model.rows, model.columns, model.magnitudes) if vector is not None]
        assert max((int(np.abs(vector).max()) for vector in vectors), default=0) <= MAX_STEP


@pytest.mark.parametrize("shape", [(1, 2000), (2000, 1), (2, 1000), (1000, 2), (1200, 1)])
def test_narrow_matrices(shape: tuple[int, int]) -> None:
    base = noise(*shape, seed=1) - 0.5
    model = fitted(base.abs() < 0.05, base)
    assert model.magnitudes is not None
    assert (model.rows if shape[0] > shape[1] else model.columns) is None  # a step for so few weights does not pay


@pytest.mark.parametrize("kept", [True, False])
def test_few_weights_of_one_kind_or_at_all_need_no_model(kept: bool) -> None:
    few = torch.full(SHAPE, not kept)
    few[0, [3, 300, 301]] = kept
    assert says_nothing(fitted(few, noise(*SHAPE)))
    assert says_nothing(fitted(noise(20, 20) < 0.5, noise(20, 20)))


def test_a_base_all_alike_tells_nothing() -> None:
    assert says_nothing(fitted(drawn(0.1), torch.zeros(SHAPE)))
