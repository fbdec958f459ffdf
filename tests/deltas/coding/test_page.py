"""docs/FORMAT.md says of masks and values what the code does: its tables, limits and examples."""

import math
import re

import numpy as np
import torch
import zstandard

from deltas.coding.reference_masks import LEADING, OCTAVE
from deltas.format_page import section, table
from deltas.tiny_values import forced
from supermask.deltas.coding import MAX_WEIGHTS, VALUE_CODINGS, decode_mask, masks, needs_reference, values
from supermask.deltas.coding.model import MaskModel
from supermask.deltas.keep_mask import MaskPositions


def test_codings_are_listed() -> None:
    codings = table(section("Values"), "`coding`")
    assert codings.keys() == set(VALUE_CODINGS)
    needing = {name for name, needs in codings.items() if needs == "the base's tensor"}
    assert needing == {name for name in VALUE_CODINGS if needs_reference(name)}


def test_limits_are_those_of_the_code() -> None:
    assert f"is at most 2^{int(math.log2(MAX_WEIGHTS))}" in section("The document")
    assert f"a window of at most 2^{int(math.log2(values._MAX_WINDOW))} bytes" in " ".join(section("Values").split())
    assert f"in blocks of 2^{int(math.log2(values._BLOCK))}" in section("Values")


def test_leading_bits_and_odds_are_those_of_the_reference() -> None:
    rows = table(section("Keep masks"), "dtype")
    assert rows == {name: f"floor(b / 2^{shift}) mod 2^{kept}" for name, (shift, kept) in LEADING.items()}
    assert ", ".join(map(str, OCTAVE)) in section("Keep masks")


def test_the_example_of_masks_is_what_is_written() -> None:
    text = section("The model").split("**Example.**")[1].split("**Size.**")[0]
    example = " ".join(re.findall(r"`([0-9a-f ]+)`", text.split("The payload is")[1]))
    mask = MaskPositions.of(torch.tensor([[True, True], [False, True]]))
    model = MaskModel(offset=-3, columns=np.array([0, 2], dtype=np.int16))
    payload = masks._encode(mask, model, None)
    assert payload.hex(" ") == example
    assert decode_mask(payload, (2, 2), 1).positions.tolist() == [2]


def test_the_example_of_values_is_what_is_written() -> None:
    payload = forced("sorted_difference", torch.tensor([1.0, -2.0]), torch.tensor([1.0, -1.5])).data
    example = " ".join(re.findall(r"`((?:[0-9a-f]{2}\s?)+)`", section("Values").split("**Example.**")[1]))
    assert zstandard.ZstdDecompressor().decompress(payload[4:]).hex(" ") == " ".join(example.split())
