from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from supermask.deltas.rounding import round_to_16_bits
from supermask.deltas.tensor_bytes import as_bytes, from_bytes
from supermask.errors import ConfigurationError


def same(left: Tensor, right: Tensor) -> bool:
    return left.dtype is right.dtype and left.shape == right.shape and as_bytes(left) == as_bytes(right)


def nearest(value: float, precision: int, smallest: int) -> Fraction:
    """Round to nearest, ties to even, by exact fractions."""
    exact = Fraction(value)
    exponent = smallest
    while abs(exact) >= Fraction(2) ** (exponent + precision):
        exponent += 1
    step = Fraction(2) ** exponent
    return round(exact / step) * step  # a Fraction's round takes ties to even


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=30))
def test_float32_rounds_to_bfloat16_as_torch_does(numbers_: list[float]) -> None:
    values = torch.tensor(numbers_)
    assert same(round_to_16_bits(values), values.to(torch.bfloat16).float())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(-65504, 65504, width=32), min_size=1, max_size=30))
def test_float32_rounds_to_float16_as_torch_does(numbers_: list[float]) -> None:
    values = torch.tensor(numbers_)
    assert same(round_to_16_bits(values, kind="float16"), values.to(torch.float16).float())


@settings(max_examples=300, deadline=None)
@given(st.floats(-65504, 65504), st.sampled_from([("bfloat16", 8, -133), ("float16", 11, -24)]))
def test_float64_rounds_once(value: float, form: tuple[Any, int, int]) -> None:
    kind, precision, smallest = form
    found = round_to_16_bits(torch.tensor([value], dtype=torch.float64), kind=kind)
    assert Fraction(found.item()) == nearest(value, precision, smallest)
    assert same(round_to_16_bits(found, kind=kind), found)
    assert found.to(torch.float32).to(getattr(torch, kind)).double().item() == found.item()


def test_float64_is_not_rounded_twice() -> None:
    # Just above a tie: by way of float32 it would become the tie, and then the even neighbour below.
    values = torch.tensor([1 + 2**-8 + 2**-40, 1 + 2**-8, 1 + 3 * 2**-8], dtype=torch.float64)
    assert round_to_16_bits(values).tolist() == [1 + 2**-7, 1.0, 1 + 2**-6]


def test_special_values_and_their_signs_stay() -> None:
    values = from_bytes(
        b"".join(
            p.to_bytes(4, "little") for p in (0x7F800001, 0xFFC12345, 0x7F800000, 0xFF800000, 0x80000000, 0x80000001)
        ),
        torch.float32,
        (6,),
    )
    for kind in ("bfloat16", "float16"):
        found = round_to_16_bits(values, kind=kind)  # type: ignore[arg-type]
        assert [bits % 2**32 for bits in found.view(torch.int32).tolist()] == [
            0x7FC00000,
            0x7FC00000,
            0x7F800000,
            0xFF800000,
            0x80000000,
            0x80000000,
        ]


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("float16", 65520.0, r"65520\.0 is beyond float16's largest value 65504\.0: round to bfloat16 or keep float32"),
        ("float16", -1e9, r"-1000000000\.0 is beyond float16"),
        ("bfloat16", 3.4e38, r"is beyond bfloat16's largest value 3\.38\S+: keep float32"),
    ],
)
def test_overflow_is_refused(kind: Any, value: float, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        round_to_16_bits(torch.tensor([1.0, value]), kind=kind)
    with pytest.raises(ConfigurationError, match="beyond"):
        round_to_16_bits(torch.tensor([1e308], dtype=torch.float64), kind=kind)


def test_the_largest_values_are_kept() -> None:
    assert round_to_16_bits(torch.tensor([65519.0]), kind="float16").item() == 65504
    largest = torch.finfo(torch.bfloat16).max
    assert round_to_16_bits(torch.tensor([largest])).item() == largest


def test_other_forms_and_dtypes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'int8' is no 16-bit form; choose one of bfloat16, float16"):
        round_to_16_bits(torch.ones(1), kind="int8")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"received torch\.float16"):
        round_to_16_bits(torch.ones(1).half())


def test_rounding_keeps_shape_and_argument_and_is_within_its_bound() -> None:
    values = torch.nn.Parameter(torch.randn(3, 200_000, generator=torch.Generator().manual_seed(0)))
    before = values.detach().clone()
    for kind, bound in (("bfloat16", 2**-8), ("float16", 2**-11)):
        rounded = round_to_16_bits(values, kind=kind)  # type: ignore[arg-type]
        normal, error = before.abs() >= 2**-14, (rounded - before).abs()
        assert rounded.shape == values.shape
        assert bound / 2 < (error / before.abs())[normal].max().item() <= bound
        assert kind == "bfloat16" or (error[~normal] <= 2**-25).all()
    assert same(values.detach(), before)
    assert round_to_16_bits(torch.empty(0, 3)).shape == (0, 3)
