"""Random masks, bases and models, for the implementation and for the reference alike."""

import math
import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deltas.coding import reference_masks
from supermask.deltas.coding.model import MaskModel
from supermask.deltas.keep_mask import MaskPositions

DTYPES = ("float64", "float32", "float16", "bfloat16")
SHAPES = ((), (1,), (7,), (40,), (1, 9), (9, 1), (2, 2), (6, 5), (13, 17), (3, 2, 5), (4, 3, 2, 2), (1, 1))
_INTEGERS = {64: torch.int64, 32: torch.int32, 16: torch.int16}


@dataclass
class Case:
    """A mask with some of both kinds, the bits of a base, and a model."""

    shape: tuple[int, ...]
    keep: list[bool]
    base: reference_masks.Base
    model: reference_masks.Model

    @property
    def zeros(self) -> int:
        return self.keep.count(False)

    @property
    def keep_mask(self) -> Tensor:
        return torch.tensor(self.keep).reshape(self.shape)

    @property
    def base_tensor(self) -> Tensor:
        width = reference_masks.WIDTHS[self.base.dtype]
        signed = [bits - (bits >> width - 1 << width) for bits in self.base.bits]
        flat = torch.tensor(signed, dtype=_INTEGERS[width]).view(getattr(torch, self.base.dtype))
        return flat.reshape(self.shape)

    @property
    def mask(self) -> MaskPositions:
        return MaskPositions.of(self.keep_mask)

    @property
    def mask_model(self) -> MaskModel:
        model = self.model

        def steps(vector: list[int] | None) -> np.ndarray | None:
            return None if vector is None else np.array(vector, dtype=np.int16)

        return MaskModel(
            offset=model.offset,
            rows=steps(model.rows),
            columns=steps(model.columns),
            magnitudes=steps(model.magnitudes),
            first_magnitude=model.first_magnitude,
        )


def any_case(seed: int) -> Case:
    """All kinds of models, the useless ones included."""
    source = random.Random(seed)
    shape = source.choice(SHAPES[1:])  # at least one of either kind needs two weights
    if math.prod(shape) == 1:
        shape = (3, 4)
    weights = math.prod(shape)
    keep = [source.random() > source.choice((0.03, 0.2, 0.5, 0.9)) for _ in range(weights)]
    keep[source.randrange(weights)] = True
    if all(keep):
        keep[source.randrange(weights)] = False
    if not any(keep):
        keep[0] = True
    dtype = source.choice(DTYPES)
    return Case(shape, keep, any_base(source, weights, dtype), any_model(source, shape, dtype))


def any_base(source: random.Random, weights: int, dtype: str) -> reference_masks.Base:
    """Any bits at all, infinities and NaN with payloads, subnormals and -0 among them."""
    width = reference_masks.WIDTHS[dtype]
    exponent = {"float64": 11, "float32": 8, "float16": 5, "bfloat16": 8}[dtype]
    fraction = width - 1 - exponent
    infinite = (2**exponent - 1) << fraction
    odd = [0, 1 << width - 1, infinite, infinite + 1, infinite | 1 << width - 1, 1, (1 << width) - 1]
    bits = [source.choice(odd) if source.random() < 0.2 else source.getrandbits(width) for _ in range(weights)]
    return reference_masks.Base(bits, dtype)


def any_model(source: random.Random, shape: tuple[int, ...], dtype: str) -> reference_masks.Model:
    rows, columns = reference_masks.matrix(shape)
    largest = source.choice((1, 3, 31))

    def vector(length: int) -> list[int]:
        filled = source.choice((0, 0.1, 0.5, 1))
        return [source.randint(-largest, largest) if source.random() < filled else 0 for _ in range(length)]

    kept = reference_masks.LEADING[dtype][1]
    magnitudes = vector(64) if source.random() < 0.5 else None
    return reference_masks.Model(
        offset=source.choice((-64, 63, source.randint(-12, 0), source.randint(-12, 12))),
        rows=vector(rows) if source.random() < 0.5 else None,
        columns=vector(columns) if source.random() < 0.5 else None,
        magnitudes=magnitudes,
        first_magnitude=0 if magnitudes is None else source.choice((0, source.randrange(1 << kept), 65535)),
    )
