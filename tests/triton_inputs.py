"""What the tests of the Triton kernels run on: a GPU, or the CPU in Triton's interpreter."""

import os

import numpy as np
import torch
from torch import Tensor

from supermask.core.counter_random import key_words, random_bits16
from supermask.core.kernels import reference

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
KEY = key_words(7, 11, "encoder.weight")
ADAM = {"learning_rate": 0.2, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


def uniform(count: int, limit: float, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-limit, limit, count)).float().to(DEVICE)


def some_weights(count: int, dtype: torch.dtype) -> Tensor:
    """Weights that all three dtypes have exactly: the interpreter does not round to bfloat16 as devices do."""
    weights = uniform(count, 2.0, seed=1).bfloat16()
    weights[::7] = -0.0
    return weights.to(dtype)


def same_bits(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def as_int32(key: tuple[int, int]) -> Tensor:
    return torch.tensor(key, dtype=torch.int64).to(torch.int32).to(DEVICE)


def levels_near(count: int, key: tuple[int, int]) -> Tensor:
    """Each index's own level, which is as near to a wrong decision as ν can be."""
    bits = torch.cat([piece.clone() for _, piece in random_bits16(count, key)])
    return reference.logit_levels(torch.device("cpu"))[bits.long()]
