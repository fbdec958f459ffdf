"""The operations for CUDA, in Triton; they also run in Triton's interpreter, on the CPU, to be tested.

Inputs that are not contiguous are copied first; what is updated in place must be contiguous. Nothing here waits for the
device: launches go to the current stream of the tensors' device.
"""

from __future__ import annotations

from supermask.core.kernels.triton_adam import adam_step_, mask_logit_gradient
from supermask.core.kernels.triton_adam8 import adam_step_8bit_
from supermask.core.kernels.triton_draw import draw_keep_mask, draw_masked_weight, threshold_masked_weight

__all__ = [
    "adam_step_",
    "adam_step_8bit_",
    "draw_keep_mask",
    "draw_masked_weight",
    "mask_logit_gradient",
    "threshold_masked_weight",
]
