from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from supermask.deltas import mask_kernels


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("chosen", [[], [0], [63], [64], [0, 1, 62, 63, 64, 127, 128, 149], list(range(150))])
def test_weights_are_lifted_and_put_back(dtype: Any, index: Any, chosen: list[int]) -> None:
    weights = (np.arange(150) % 100 + 1).astype(dtype)
    positions = np.array(chosen, dtype=index)
    words = np.zeros(3, dtype=np.uint64)
    mask_kernels.pack(positions, words)
    assert [bit for bit in range(192) if int(words[bit // 64]) >> (bit % 64) & 1] == chosen
    unpacked = np.full(len(chosen), -1, dtype=index)
    mask_kernels.unpack(words, unpacked)
    assert unpacked.tolist() == chosen
    expected = [0 if place in chosen else value for place, value in enumerate(weights.tolist())]
    forms: list[tuple[Callable[..., Any], Callable[..., Any], npt.NDArray[Any]]] = [
        (mask_kernels.lift_positions, mask_kernels.put_positions, positions),
        (mask_kernels.lift_bits, mask_kernels.put_bits, words),
    ]
    for lift, put, places in forms:
        flat, values, done = weights.copy(), np.zeros(len(chosen), dtype=dtype), np.zeros(1, dtype=np.bool_)
        lift(flat, places, values, done)
        assert flat.tolist() == expected
        assert values.tolist() == weights[chosen].tolist()
        assert done.tolist() == [True]
        put(flat, places, values)
        assert flat.tolist() == weights.tolist()
