"""What the operations refuse, said the same way by every backend: they work on raw memory and must not trust it."""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from torch import Tensor

from supermask.errors import ConfigurationError

__all__ = [
    "FLOATS",
    "AdamStep",
    "check_compute_dtype",
    "check_together",
    "result_like",
]

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""The dtypes that weights, masked weights and their gradients may have."""

_KNOWN = "float32, bfloat16, float16 or float64"


@final
class AdamStep(NamedTuple):
    """The numbers of one step of Adam.

    Args:
        learning_rate: λ.
        beta1: β₁.
        beta2: β₂.
        eps: ε.
        step: t, 1 at the first step.
        gradient_scale: s, for clipping: a number, or a tensor of one element (which no device has to wait for).
    """

    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    step: int
    gradient_scale: float | Tensor = 1.0

    @property
    def rate(self) -> float:
        """λ / (1 - β₁ᵗ), what m is multiplied by."""
        return self.learning_rate / (1.0 - self.beta1**self.step)

    @property
    def root(self) -> float:
        """√(1 - β₂ᵗ), what √v is divided by."""
        return math.sqrt(1.0 - self.beta2**self.step)


def check_together(mask_logits: Tensor, **others: Tensor) -> None:
    """All tensors have the mask logits' shape and device, and are of a dtype that kernels know.

    Args:
        mask_logits: ν, float32.
        others: by name.
    """
    if mask_logits.dtype != torch.float32:
        raise ConfigurationError(
            f"mask logits are float32, received {mask_logits.dtype}; in fewer bits small steps near ν = 5 vanish: "
            "keep the logits' dtype when you convert a model"
        )
    for name, tensor in others.items():
        name = name.replace("_", " ")
        if tensor.shape != mask_logits.shape:
            raise ConfigurationError(
                f"{name} and mask logits need one shape, received {tuple(tensor.shape)} and {tuple(mask_logits.shape)}"
            )
        if tensor.device != mask_logits.device:
            raise ConfigurationError(
                f"{name} and mask logits need one device, received {tensor.device} and {mask_logits.device}"
            )
        if tensor.dtype not in FLOATS:
            raise ConfigurationError(
                f"{name} is {_KNOWN}, received {tensor.dtype}; convert it, as model.to(torch.bfloat16) does for a model"
            )


def check_compute_dtype(dtype: torch.dtype) -> None:
    """A masked weight is of a dtype that weights may have."""
    if dtype not in FLOATS:
        raise ConfigurationError(f"a masked weight is {_KNOWN}, received {dtype}")


def result_like(tensor: Tensor, *, dtype: torch.dtype, out: Tensor | None) -> Tensor:
    """Where to write a result: the tensor given for it, or a new one."""
    if out is None:
        return torch.empty(tensor.shape, dtype=dtype, device=tensor.device)
    if out.shape != tensor.shape or out.dtype != dtype or out.device != tensor.device or not out.is_contiguous():
        layout = "contiguous" if out.is_contiguous() else "non-contiguous"
        raise ConfigurationError(
            f"out is to be contiguous {dtype} of shape {tuple(tensor.shape)} on {tensor.device}, received {layout} "
            f"{out.dtype} of shape {tuple(out.shape)} on {out.device}"
        )
    return out
