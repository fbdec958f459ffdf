"""Training a supermask adapter: the callback for `transformers.Trainer`, and an optimizer."""

from __future__ import annotations

import warnings
from typing import Any, final

import torch
from torch import nn
from transformers import TrainerCallback

from supermask.errors import ConfigurationError
from supermask.interop.peft.model import SupermaskModel
from supermask.methods import Supermask
from supermask.settings import TrainingConfig

__all__ = ["SupermaskCallback", "make_optimizer", "supermask_tuner"]

_METHOD, _TRAINING = Supermask(), TrainingConfig()


def supermask_tuner(model: Any) -> SupermaskModel:
    """The tuner of a PEFT model.

    Raises:
        ConfigurationError: if it is no PEFT model with supermask adapters.
    """
    tuner = getattr(model, "base_model", None)
    if not isinstance(tuner, SupermaskModel):
        raise ConfigurationError(
            f"this {type(model).__name__} has no supermask adapter; make one with get_peft_model(model, "
            "SupermaskConfig(...))"
        )
    return tuner


@final
class SupermaskCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Tells the masks of a Trainer's model which step comes next, and has checkpoints hold the logits.

    Pass `callbacks=[SupermaskCallback()]` and `optimizers=(make_optimizer(model), None)`. A run that resumes goes on
    with the draws and the logits that it would have had. What is saved after training holds the packed masks alone.
    """

    _micro_batch = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check that the optimizer can move the logits, and does not decay them.

        Raises:
            ConfigurationError: if weight decay is on them, or they are not in the optimizer.
        """
        tuner = supermask_tuner(kwargs.get("model"))
        tuner.save_logits_(True)
        if kwargs.get("optimizer") is not None:
            _check_optimizer(tuner, kwargs["optimizer"], state.max_steps)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Key the draws of the step's first micro-batch."""
        self._micro_batch = 0
        supermask_tuner(kwargs.get("model")).begin_step(state.global_step)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Key the draws of the next micro-batch."""
        self._micro_batch += 1
        supermask_tuner(kwargs.get("model")).begin_step(state.global_step, self._micro_batch)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """From here on adapters are saved without logits again."""
        supermask_tuner(kwargs.get("model")).save_logits_(False)


def _check_optimizer(tuner: SupermaskModel, optimizer: Any, steps: int) -> None:
    masks = {id(mask.mask_logits): mask for name in tuner.active_adapters for mask in tuner.masks(name).values()}
    groups = [group for group in optimizer.param_groups if any(id(parameter) in masks for parameter in group["params"])]
    if not groups:
        raise ConfigurationError(
            "the optimizer has no mask logits to train; pass optimizers=(make_optimizer(model), None) to the Trainer, "
            "and load adapters that are to train with is_trainable=True"
        )
    for group in groups:
        if group.get("weight_decay"):
            raise ConfigurationError(
                f"a weight decay of {group['weight_decay']} on mask logits would prune by itself; pass "
                "optimizers=(make_optimizer(model), None) to the Trainer"
            )
        learning_rate = group.get("initial_lr", group["lr"])
        init_logit = min(tuner.peft_config[name].init_logit for name in tuner.active_adapters)
        if learning_rate * steps < init_logit:
            warnings.warn(
                f"with a learning rate of {learning_rate}, {steps} steps of Adam cannot bring a mask logit from "
                f"{init_logit} to 0, so no weight will be dropped; pass optimizers=(make_optimizer(model), None) to "
                "the Trainer",
                stacklevel=2,
            )


def make_optimizer(
    model: nn.Module,
    *,
    mask_learning_rate: float = _METHOD.learning_rate,
    mask_eps: float = _METHOD.eps,
    head_learning_rate: float = _TRAINING.head_learning_rate,
    weight_decay: float = _TRAINING.weight_decay,
    eps: float = _TRAINING.adam_epsilon,
    max_grad_norm: float = _TRAINING.max_grad_norm,
) -> torch.optim.AdamW:
    """AdamW over what trains, with the settings of `supermask.methods.Supermask`.

    Mask logits have a learning rate some hundred times that of values, an eps of their own, and no weight decay, and
    their gradients are clipped apart from the rest: one joint norm would let either starve the other. So leave clipping
    to this optimizer: `max_grad_norm=0` for a Trainer.

    Args:
        model: a PEFT model with a supermask adapter that trains.
        mask_learning_rate, mask_eps: of mask logits, as of `supermask.Supermask`.
        head_learning_rate, weight_decay, eps: of the head and whatever else is stored whole; only matrices decay.
        max_grad_norm: largest L2 norm of the gradients, of mask logits and of the rest; 0 clips nothing.

    Returns:
        The optimizer; put a learning-rate schedule on it as on any other.

    Raises:
        ConfigurationError: if no mask logits train.
    """
    tuner = supermask_tuner(model)
    masks = (mask for name in tuner.peft_config for mask in tuner.masks(name).values())
    logits = [mask.mask_logits for mask in masks if mask.mask_logits is not None and mask.trains]
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
