"""Masks and values as bytes, and back: arrays in, arrays out, and never a document, a file or a model."""

from __future__ import annotations

from supermask.deltas.coding.masks import MAX_WEIGHTS, decode_mask, encode_mask, is_storable_shape
from supermask.deltas.coding.model import mask_needs_base
from supermask.deltas.coding.values import VALUE_CODINGS, EncodedValues, decode_values, encode_values, needs_reference

__all__ = [
    "MAX_WEIGHTS",
    "VALUE_CODINGS",
    "EncodedValues",
    "decode_mask",
    "decode_values",
    "encode_mask",
    "encode_values",
    "is_storable_shape",
    "mask_needs_base",
    "needs_reference",
]
