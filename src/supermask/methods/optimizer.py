"""The optimizer of a training loop: Adam over an attachment's groups, with the constraint kept at every step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from supermask.methods.attachment import Attachment

__all__ = ["make_optimizer"]


def make_optimizer(
    attachment: Attachment,
    *,
    learning_rate: float = 2e-5,
    head_learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    eps: float = 1e-6,
    max_grad_norm: float = 1.0,
    fused: bool | None = None,
) -> torch.optim.AdamW:
    """AdamW that clips before each step and restores the attachment's constraint after it.

    Both happen inside `optimizer.step()`, so they hold in any loop: plain, `transformers.Trainer`, accelerate, with a
    gradient scaler or without. Mask logits are clipped apart from weights and head: their gradients are of another
    size, and one joint norm would let either starve the other.

    Args:
        attachment: the method at work.
        learning_rate: of weights that train by value.
        head_learning_rate: of the task head.
        weight_decay: of matrices that train by value; mask logits, biases and norms are never decayed.
        eps: Adam's epsilon for weights and head; mask logits have their method's own.
        max_grad_norm: largest L2 norm of the gradients, of mask logits and of all else; 0 clips nothing.
        fused: torch's fused Adam kernels; not with a float16 gradient scaler, which would hand over unscaled gradients
            too late to clip. By default where every parameter is float32.

    Returns:
        The optimizer; put a learning-rate schedule on it as on any other.

    Source: hyper-parameters of section 3.3 and Appendix C of the paper, after Devlin et al. (2018).
    """
    groups = attachment.param_groups(
        learning_rate=learning_rate, head_learning_rate=head_learning_rate, weight_decay=weight_decay, eps=eps
    )
    if fused is None:
        fused = all(parameter.dtype == torch.float32 for group in groups for parameter in group["params"])
    optimizer = torch.optim.AdamW(groups, fused=fused)

    def clip(*_: Any) -> None:
        for norm_set in _norm_sets(groups):
            nn.utils.clip_grad_norm_(norm_set, max_grad_norm)

    if max_grad_norm > 0:
        optimizer.register_step_pre_hook(clip)
    optimizer.register_step_post_hook(lambda *_: attachment.after_step())
    return optimizer


def _norm_sets(groups: list[dict[str, Any]]) -> list[list[nn.Parameter]]:
    """The parameters whose gradients share one norm: the mask logits, and everything else."""
    masks = [parameter for group in groups if group["name"] == "mask_logits" for parameter in group["params"]]
    others = [parameter for group in groups if group["name"] != "mask_logits" for parameter in group["params"]]
    return [parameters for parameters in (masks, others) if parameters]
