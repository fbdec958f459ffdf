"""An optimizer for a PEFT model with supermask adapters: Adam, with settings of their own for mask logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from supermask.errors import ConfigurationError
from supermask.interop.peft.callback import supermask_tuner

__all__ = ["make_optimizer"]


def make_optimizer(
    model: nn.Module,
    *,
    mask_learning_rate: float = 0.2,
    mask_eps: float = 1e-8,
    head_learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    eps: float = 1e-6,
    max_grad_norm: float = 1.0,
) -> torch.optim.AdamW:
    """AdamW over what trains, with the settings of `supermask.methods.Supermask`.

    Mask logits have a learning rate some hundred times that of values, an eps of their own, and no weight decay, and
    their gradients are clipped apart from the rest: one joint norm would let either starve the other. So leave clipping
    to this optimizer: `max_grad_norm=0` for a Trainer.

    Args:
        model: a PEFT model with a supermask adapter that trains.
        mask_learning_rate: of mask logits.
        mask_eps: Adam's epsilon for mask logits; it decides which weights may flip.
        head_learning_rate: of the head and whatever else is stored whole.
        weight_decay: of the head's matrices.
        eps: Adam's epsilon for the head.
        max_grad_norm: largest L2 norm of the gradients, of mask logits and of the rest; 0 clips nothing.

    Returns:
        The optimizer; put a learning-rate schedule on it as on any other.

    Raises:
        ConfigurationError: if no mask logits train.
    """
    tuner = supermask_tuner(model)
    masks = [mask for name in tuner.peft_config for mask in tuner.masks(name).values()]
    logits = [mask.mask_logits for mask in masks if mask.mask_logits is not None and mask.mask_logits.requires_grad]
    if not logits:
        raise ConfigurationError("no mask logits train; load adapters that are to train with is_trainable=True")
    identities = {id(parameter) for parameter in logits}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in identities]
    head = {"lr": head_learning_rate, "eps": eps}
    groups: list[dict[str, Any]] = [
        {"name": "mask_logits", "params": logits, "lr": mask_learning_rate, "eps": mask_eps, "weight_decay": 0.0},
        {"name": "head", "params": [p for p in others if p.dim() > 1], **head, "weight_decay": weight_decay},
        {"name": "head_no_decay", "params": [p for p in others if p.dim() <= 1], **head, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]])

    def clip(*_: Any) -> None:
        for parameters in (logits, others):
            nn.utils.clip_grad_norm_(parameters, max_grad_norm)

    if max_grad_norm > 0:
        optimizer.register_step_pre_hook(clip)
    return optimizer
