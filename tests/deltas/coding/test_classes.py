from __future__ import annotations

import numpy as np
import pytest
import torch

from deltas.coding import reference_masks
from supermask.deltas.coding.classes import as_matrix, base_bits, sort_weights
from supermask.deltas.coding.model import CLASSES, MaskModel


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_leading_bits_are_eight_steps_to_an_octave(dtype: torch.dtype) -> None:
    values = torch.tensor([1, 1.125, 1.25, -1.875, 2, 0.5], dtype=dtype)
    bits = base_bits(values)
    assert bits is not None
    leading = bits.leading().astype(int)
    assert (leading - leading[0]).tolist() == [0, 1, 2, 7, 8, -8]


@pytest.mark.parametrize(
    ("shape", "matrix"), [((), (1, 1)), ((7,), (1, 7)), ((2, 3), (2, 3)), ((4, 3, 2, 2), (4, 12)), ((0, 5), (0, 5))]
)
def test_a_tensor_as_a_matrix(shape: tuple[int, ...], matrix: tuple[int, int]) -> None:
    assert as_matrix(shape) == matrix == reference_masks.matrix(shape)


@pytest.mark.parametrize("shape", [(3, 4096), (2, 4097), (2, 10_001), (1, 9000), (9000, 1), (5000, 3), (7, 2), (0, 3)])
def test_classes_of_any_width_add_up(shape: tuple[int, int]) -> None:
    rows, columns = shape
    source = np.random.default_rng(0)

    def steps(size: int, largest: int) -> np.ndarray:
        return source.integers(-largest, largest + 1, size).astype(np.int16)

    base = torch.from_numpy(source.standard_normal(shape).astype(np.float32))
    magnitudes, first = steps(64, 9), 985
    model = MaskModel(
        offset=-7, rows=steps(rows, 5), columns=steps(columns, 31), magnitudes=magnitudes, first_magnitude=first
    )
    classes, counts = sort_weights(model, shape, base_bits(base))
    leading = np.floor(np.log2(np.abs(base.numpy().astype(np.float64)))) * 8 + 127 * 8
    fraction = np.abs(base.numpy().astype(np.float64)) / 2 ** np.floor(leading / 8 - 127)
    leading = (leading + np.floor((fraction - 1) * 8)).astype(int)
    expected = -7 + 40 + model.rows[:, None].astype(int) + model.columns[None, :]  # type: ignore[index]
    expected = expected + magnitudes[np.clip(leading - first, 0, 63)]
    assert np.array_equal(classes.reshape(shape), np.clip(expected, 0, CLASSES - 1))
    assert np.array_equal(counts, np.bincount(classes, minlength=CLASSES))


@pytest.mark.parametrize(("offset", "only"), [(3, 43), (63, 63), (-64, 0)])
def test_without_a_part_all_weights_are_of_one_class(offset: int, only: int) -> None:
    for model in (MaskModel(offset=offset), MaskModel(offset=offset, rows=np.zeros(3, dtype=np.int16))):
        classes, counts = sort_weights(model, (3, 5), None)
        assert classes.tolist() == [only] * 15
        assert (np.flatnonzero(counts).tolist(), counts[only]) == ([only], 15)
