from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltas.coding.mask_cases import any_case
from supermask.deltas.coding.classes import as_matrix
from supermask.deltas.coding.model import MaskModel, read_model, write_model
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
