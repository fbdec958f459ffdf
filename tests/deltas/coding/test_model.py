import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deltas.coding import reference_masks
from deltas.coding.mask_cases import any_case
from supermask.deltas.coding.model import (
    CLASSES,
    MaskModel,
    as_matrix,
    base_bits,
    read_model,
    sort_weights,
    write_model,
)
from supermask.deltas.coding.symbols import SymbolWriter
from supermask.errors import DeltaFormatError


def written(model: MaskModel) -> bytes:
    writer = SymbolWriter()
    head = write_model(model, writer)
    return head + writer.finish()


def same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other is None or (one is not None and other is not None and np.array_equal(one, other))


@given(st.integers(0, 2**32))
@settings(max_examples=100)
def test_models_come_back(seed: int) -> None:
    case = any_case(seed)
    model = case.mask_model
    read, reader = read_model(written(model), *as_matrix(case.shape))
    reader.finish()
    assert (read.offset, read.first_magnitude) == (model.offset, model.first_magnitude)
    for part in ("rows", "columns", "magnitudes"):
        assert same(getattr(read, part), getattr(model, part))


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"", "no form"),
        (b"\x08\x40", "no form"),
        (b"\0", "ends within its head"),
        (b"\x00\x80", "no writer writes"),
        (b"\x04\x40\0", "ends within its head"),
        (b"\x01\x40", "ends within its head"),
        (b"\x01\x40\x80", "ends within its head"),
        (b"\x01\x40\x05\x20", "no count"),
        (b"\x01\x40\x81\x00\x20", "no count"),  # 1 in two bytes
        (b"\x01\x40\xff\xff\xff\xff\xff\x00\x20", "no count"),
        (b"\x01\x40\x02", "ends within its head"),
        (b"\x01\x40\x02\xa1", "rate"),
        (b"\x01\x40\x00\x01", "whole words"),
    ],
)
def test_heads_that_are_none(head: bytes, why: str) -> None:
    with pytest.raises(DeltaFormatError, match=why):
        read_model(head, 4, 4)


def test_steps_beyond_the_bound_are_refused() -> None:
    for size, parts in ((32, "rows"), (33, "columns")):
        with pytest.raises(DeltaFormatError, match="above 31"):
            read_model(written(MaskModel(**{parts: np.array([0, 1, size, 0], dtype=np.int16)})), 4, 4)  # type: ignore[arg-type]
    steep = np.zeros(64, dtype=np.int16)
    steep[3:5] = 63, 64
    with pytest.raises(DeltaFormatError, match="above 62"):
        read_model(written(MaskModel(magnitudes=steep)), 4, 4)
    # All small weights are dropped and no large one is: as far as two ranges side by side can be.
    steep[3:5] = 31, -31
    read, _ = read_model(written(MaskModel(magnitudes=steep)), 4, 4)
    assert same(read.magnitudes, steep)
    for steps in ((32, 31), (-31, -32)):
        steep[3:5] = steps
        with pytest.raises(DeltaFormatError, match="above 31 for a range"):
            read_model(written(MaskModel(magnitudes=steep)), 4, 4)


def test_sums_of_differences_are_refused_before_they_wrap() -> None:
    # 64 differences of 62 are 3968; only from 2^15 on would 16 bits come round.
    with pytest.raises(DeltaFormatError, match="above 31 for a range"):
        read_model(written(MaskModel(magnitudes=62 * np.arange(1, 65, dtype=np.int16))), 4, 4)


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
