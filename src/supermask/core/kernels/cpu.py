"""The operations compiled for the CPU by numba, in the threads of torch; `reference` says what each of them means.

What is not contiguous is made so first; what is updated in place must be.
"""

from __future__ import annotations

import torch
from torch import Tensor

from supermask.core.counter_random import KeyWords
from supermask.core.kernels import cpu_draw, cpu_gradient
from supermask.core.kernels.adam8_cpu import adam_step_8bit_
from supermask.core.kernels.arguments import check_compute_dtype, check_together, result_like
from supermask.core.kernels.cpu_formats import FORMATS
from supermask.core.kernels.reference import logit_levels
from supermask.core.kernels.team import do_job
from supermask.errors import ConfigurationError

__all__ = [
    "adam_step_8bit_",
    "draw_keep_mask",
    "draw_masked_weight",
    "mask_logit_gradient",
    "threshold_masked_weight",
]

_CPU = torch.device("cpu")


def draw_keep_mask(mask_logits: Tensor, key: KeyWords) -> Tensor:
    """As `reference.draw_keep_mask`."""
    logits = _lying(mask_logits.detach().to(torch.float32))
    return _draw(logits, torch.empty(mask_logits.shape, dtype=torch.bool, device=_CPU), cpu_draw.DRAWN, key)


def draw_masked_weight(
    weight: Tensor, mask_logits: Tensor, key: KeyWords, *, dtype: torch.dtype, out: Tensor | None = None
) -> Tensor:
    """As `reference.draw_masked_weight`."""
    return _masked_weight(weight, mask_logits, cpu_draw.DRAWN, key, dtype, out)


def threshold_masked_weight(
    weight: Tensor, mask_logits: Tensor, *, dtype: torch.dtype, out: Tensor | None = None
) -> Tensor:
    """As `reference.threshold_masked_weight`."""
    return _masked_weight(weight, mask_logits, cpu_draw.THRESHOLDED, (0, 0), dtype, out)


def _masked_weight(
    weight: Tensor, mask_logits: Tensor, mode: int, key: KeyWords, dtype: torch.dtype, out: Tensor | None
) -> Tensor:
    check_together(mask_logits, weight=weight)
    check_compute_dtype(dtype)
    weight, mask_logits = _lying(weight), _lying(mask_logits)
    return _draw(mask_logits, result_like(weight, dtype=dtype, out=out), mode, key, weight)


def _draw(logits: Tensor, result: Tensor, mode: int, key: KeyWords, weight: Tensor | None = None) -> Tensor:
    source, target = (0, 0), 0
    if weight is not None:
        source, target = (weight.data_ptr(), FORMATS[weight.dtype]), FORMATS[result.dtype]
    levels = logit_levels(_CPU).data_ptr()
    addresses = (levels, logits.data_ptr(), *source, result.data_ptr(), target)
    do_job(cpu_draw.draw_task, logits.numel(), mode, *key, *addresses)
    return result


def mask_logit_gradient(
    weight_gradient: Tensor, weight: Tensor, mask_logits: Tensor, *, through: bool, out: Tensor | None = None
) -> Tensor:
    """As `reference.mask_logit_gradient`; `through` to within 1e-6 of it, relative to each entry, for |ν| ≤ 80."""
    check_together(mask_logits, weight=weight, weight_gradient=weight_gradient)
    weight_gradient, weight, mask_logits = _lying(weight_gradient), _lying(weight), _lying(mask_logits)
    gradient = result_like(weight, dtype=torch.float32, out=out)
    do_job(
        cpu_gradient.gradient_task,
        weight.numel(),
        through,
        weight_gradient.data_ptr(),
        FORMATS[weight_gradient.dtype],
        weight.data_ptr(),
        FORMATS[weight.dtype],
        mask_logits.data_ptr(),
        gradient.data_ptr(),
    )
    return gradient


def _lying(tensor: Tensor) -> Tensor:
    """The tensor in row-major order in the memory of the CPU."""
    if tensor.device.type != "cpu":
        raise ConfigurationError(f"the compiled operations work on CPU tensors, received one on {tensor.device}")
    return tensor.contiguous()
