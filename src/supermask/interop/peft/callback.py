"""The bridge between `transformers.Trainer` and a supermask adapter."""

from __future__ import annotations

import warnings
from typing import Any, final

from transformers import TrainerCallback

from supermask.errors import ConfigurationError
from supermask.interop.peft.model import SupermaskModel

__all__ = ["SupermaskCallback", "supermask_tuner"]


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

    def __init__(self) -> None:
        self._micro_batch = 0

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
