"""A keep mask as bytes, by a model of where its zeros fall: by row, by column, and by the base's magnitudes and signs.

    fit (find a model)  →  classes (which weights are alike)  →  symbols (entropy-code each class)

Every weight gets a class from whole-number arithmetic on what the decoder knows, and inside a class all weights are
alike, so its zeros cost what zeros strewn at random among so many weights must cost. docs/FORMAT.md, section "Keep
masks", specifies the bytes.
"""

from __future__ import annotations

from supermask.deltas.coding.codec import decode_mask, encode_mask, payload_needs_base

__all__ = ["decode_mask", "encode_mask", "payload_needs_base"]
