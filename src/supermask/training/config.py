"""How a task is trained, apart from the method: the paper's hyper-parameters by default."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field, model_validator

from supermask.prediction.settings import Reading

__all__ = ["TrainingConfig", "optimizer_steps"]

_Positive = Annotated[int, Field(ge=1)]
_NonNegative = Annotated[float, Field(ge=0.0)]


@final
class TrainingConfig(Reading):
    """Settings of one training; those of `Reading` belong to it.

    Args:
        epochs: passes over the training examples.
        max_steps: stop after so many optimizer steps, whatever `epochs` says; the schedule is laid over them.
        batch_size: examples an optimizer step, of all processes together.
        gradient_accumulation: micro-batches that a batch is split into; must divide `batch_size`.
        learning_rate: peak, of weights that train by value. The learning rate of mask logits belongs to `Supermask`.
        head_learning_rate: peak, of the task head.
        head_bias: where the head's last bias starts. `base_rate` starts it at the training labels' mean (regression) or
            log frequencies (classes), so that the first steps need not teach the constant answer to the whole model;
            `as_loaded` leaves it as the base came.
        warmup: fraction of all steps in which learning rates rise from 0; they fall to 0 over the rest.
        weight_decay: of matrices that train by value; never of mask logits, biases and norms.
        adam_epsilon: Adam's epsilon for weights and head.
        max_grad_norm: largest L2 norm of gradients; mask logits are clipped apart from all else. 0 clips nothing.
        gradient_checkpointing: recompute activations in the backward pass to save memory.
        mask_optimizer_state: Adam's moments of mask logits in `float32`, or in `8bit` to save 5.97 bytes a mask logit.
        mask_draws: which masks several processes draw: the same (`shared`), so that together they do what one process
            with the same batch does, or each its own (`per_rank`), so that the gradient is averaged over draws too.
        seed: of data order, dropout and mask draws.
        logging_steps: optimizer steps between log lines.
        checkpoint_steps: optimizer steps between checkpoints to resume from; 0 saves none.
        tensorboard: write logs for TensorBoard beside the checkpoints.

    Source: section 3.3 of the paper: "the exact hyperparameters as described in the original paper (Devlin et al.,
    2018)"; the head's learning rate and bias are ours.
    """

    epochs: _Positive = 3
    max_steps: _Positive | None = None
    batch_size: _Positive = 32
    gradient_accumulation: _Positive = 1
    learning_rate: _NonNegative = 2e-5
    head_learning_rate: _NonNegative = 1e-3
    head_bias: Literal["base_rate", "as_loaded"] = "base_rate"
    warmup: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    weight_decay: _NonNegative = 0.01
    adam_epsilon: Annotated[float, Field(gt=0.0)] = 1e-6
    max_grad_norm: _NonNegative = 1.0
    gradient_checkpointing: bool = False
    mask_optimizer_state: Literal["float32", "8bit"] = "float32"
    mask_draws: Literal["shared", "per_rank"] = "shared"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    logging_steps: _Positive = 10
    checkpoint_steps: Annotated[int, Field(ge=0)] = 0
    tensorboard: bool = False

    @model_validator(mode="after")
    def _divides(self) -> TrainingConfig:
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(
                f"gradient_accumulation {self.gradient_accumulation} does not divide batch_size {self.batch_size}"
            )
        return self


def optimizer_steps(examples: int, config: TrainingConfig) -> int:
    """How many optimizer steps a training takes; the last batch of an epoch may be smaller.

    Args:
        examples: training examples.
        config: the settings.

    Example:
        >>> optimizer_steps(3668, TrainingConfig())  # MRPC
        345

    Source: Table 1 of the paper, whose iteration counts are 3 · ceil(n / 32).
    """
    per_epoch = -(-examples // config.batch_size)
    return config.max_steps if config.max_steps is not None else config.epochs * per_epoch
