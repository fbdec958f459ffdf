"""A quick check that the backends compute the same on this machine."""

from __future__ import annotations

import torch

from supermask.core.counter_random import key_words
from supermask.core.kernels.backend import Backend, Kernels, kernels_of

__all__ = ["disagreement"]

_WEIGHTS = 10_007  # no multiple of any block
_GRADIENT_TOLERANCE = 1e-5  # σ'(ν) of two exponentials; see the kernels' own tests for the tight bound


def disagreement(backend: Backend, device: torch.device | str) -> str:
    """Where a backend differs from eager torch on a small tensor.

    Keep masks and masked weights must be the same bit for bit, gradients to within rounding.

    Returns:
        The operation that differs, empty if none does.

    Example:
        >>> disagreement("cpu", "cpu")
        ''
    """
    ours, eager = kernels_of(backend), kernels_of("eager")
    generator = torch.Generator().manual_seed(0)
    weight, gradient = (torch.randn(_WEIGHTS, generator=generator).to(device) for _ in range(2))
    mask_logits = torch.empty(_WEIGHTS).normal_(0.0, 5.0, generator=generator).to(device)
    key = key_words("self-check")

    def results(kernels: Kernels) -> dict[str, torch.Tensor]:
        found = {
            "the keep mask": kernels.draw_keep_mask(mask_logits, key),
            "the thresholded weight": kernels.threshold_masked_weight(weight, mask_logits, dtype=torch.float32),
        }
        for dtype in (torch.float32, torch.bfloat16):
            drawn = kernels.draw_masked_weight(weight, mask_logits, key, dtype=dtype)
            found[f"the masked weight in {str(dtype).removeprefix('torch.')}"] = drawn
        return found

    expected = results(eager)
    for name, tensor in results(ours).items():
        if not torch.equal(tensor.view(torch.uint8), expected[name].view(torch.uint8)):
            return name
    for through in (False, True):
        mine, reference = (
            kernels.mask_logit_gradient(gradient, weight, mask_logits, through=through) for kernels in (ours, eager)
        )
        if not torch.allclose(mine, reference, rtol=_GRADIENT_TOLERANCE, atol=0.0):
            return "the mask logits' gradient"
    return ""
