"""Tensors and changes of every kind, dtype and shape, drawn at random, and whether two changes are the same."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from deltas.reference_format import raw as bits
from supermask.deltas import Change, DenseValues, KeepMask, SparseValues

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2)
DTYPES = (*FLOATS[:-1], torch.int8, torch.int64, torch.uint8)


def same(one: Change, two: Change) -> bool:
    """Every bit of two changes agrees."""
    if type(one) is not type(two) or one.shape != two.shape:
        return False
    if isinstance(one, KeepMask | SparseValues) and not torch.equal(one.keep, two.keep):  # type: ignore[union-attr]
        return False
    if isinstance(one, KeepMask) or isinstance(two, KeepMask):
        return True
    return one.values.dtype is two.values.dtype and bits(one.values) == bits(two.values)


def random_bits(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator | int) -> Tensor:
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    size, most = torch.empty(shape).numel() * dtype.itemsize, 2 if dtype is torch.bool else 256
    return torch.randint(0, most, (size,), generator=generator, dtype=torch.uint8).view(dtype).reshape(shape)


@st.composite
def tensors_and_changes(draw: st.DrawFn, *, sides: int = 7) -> tuple[dict[str, Tensor], dict[str, Change]]:
    """Tensors of random bits, and for some of them a change of a random kind.

    New values are others altogether, or differ from the base's in their lowest bits; masks fall evenly, by row, or by
    what the base's bits are.
    """
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    tensors: dict[str, Tensor] = {}
    changes: dict[str, Change] = {}
    for index in range(draw(st.integers(1, 4))):
        name = f"t{index}"
        shape = tuple(draw(st.lists(st.integers(0, sides), max_size=3)))
        dtype = draw(st.sampled_from(DTYPES))
        integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
        base = tensors[name] = random_bits(shape, dtype, generator)
        chance = torch.full(shape, draw(st.sampled_from([0.0, 0.02, 0.3, 0.5, 0.9, 1.0])))
        how = draw(st.sampled_from(["evenly", "rows", "base"]))
        if how == "rows" and shape:
            chance[::2] = 0.0
        if how == "base" and base.numel():
            chance[base.view(integers) > 0] = 0.0
        keep = torch.rand(shape, generator=generator) >= chance
        values = random_bits(shape, dtype, generator)
        if draw(st.booleans()) and base.numel():
            values = (base.view(integers) ^ torch.randint(0, 2, shape, generator=generator).to(integers)).view(dtype)
        made = (KeepMask(keep), DenseValues(values), SparseValues(keep, values.view(integers)[keep].view(dtype)))
        if chosen := draw(st.sampled_from([*made, None] if changes else made)):
            changes[name] = chosen
    return tensors, changes
