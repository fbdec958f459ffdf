"""What may be set: of methods, of a training, of running studies. One name, type, default and description for each.

They stand apart from what they steer because the command line makes its options from them before it loads torch. The
first sentence of a description is the option's help.
"""

from __future__ import annotations

from abc import ABC
from pathlib import Path
from typing import Annotated, Literal, final

from pydantic import Field, model_validator

from supermask.configuration import Configuration
from supermask.errors import ConfigurationError

__all__ = ["MATRICES", "MethodSettings", "PruningSettings", "RunSettings", "SupermaskSettings", "TrainingConfig"]

MATRICES: tuple[str, ...] = ("matrices", "pooler")
"""What a mask covers by default: the six matrices of every block (with their fused and gated forms) and the pooler."""

_Selected = Annotated[tuple[str, ...], Field(description="Weights to mask or prune.")]


class MethodSettings(Configuration, ABC):
    """Settings of every method."""

    exclude: tuple[str, ...] = Field(
        (),
        description="Weights to leave as they are, such as key or top-2-blocks. Rows (1) to (3) of the paper's Table 3 "
        "are `key`, `top-2-blocks` and `word_embedding`.",
    )


class SupermaskSettings(MethodSettings, ABC):
    """Settings of `supermask.Supermask`."""

    select: _Selected = MATRICES
    train: tuple[str, ...] = Field(
        (), description="Weights that train by value beside the mask. For example `norm` and `bias`."
    )
    initial_sparsity: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Fraction of weights that start dropped. They are the smallest of each matrix and start at a mask "
        "logit ν of -init_logit, the rest at +init_logit. It steers the final sparsity, softly.",
    )
    init_logit: float = Field(
        5.0,
        gt=0.0,
        description="Size of mask logits at the start. At 5 a draw drops 0.67 % of the weights before anything is "
        "learnt.",
    )
    learning_rate: float = Field(0.2, ge=0.0, description="Of mask logits, under Adam.")
    eps: float = Field(
        1e-8,
        gt=0.0,
        description="Adam's epsilon for mask logits. It decides which weights may flip: far above the typical gradient "
        "only weights with consistently large gradients move, far below every ν walks a learning rate a step and zeros "
        "spread at random.",
    )
    gradient: Literal["stop", "through"] = Field(
        "through", description="Straight-through gradient. See `supermask.core.masked_weight`."
    )


class PruningSettings(MethodSettings, ABC):
    """Settings of `supermask.Pruning`."""

    sparsity: float = Field(0.5, ge=0.0, le=1.0, description="Final fraction of zeros. Of the selected weights.")
    scope: Literal["tensor", "global"] = Field(
        "tensor", description="Rank magnitudes within each tensor or among all. The paper ranks within each."
    )
    select: _Selected = MATRICES
    begin: float = Field(0.0, ge=0.0, le=1.0, description="When zeros begin, as a fraction of all steps.")
    end: float = Field(
        0.75,
        ge=0.0,
        le=1.0,
        description="When the final sparsity is reached, as a fraction of all steps. What follows recovers.",
    )
    period: int = Field(10, ge=1, description="Steps between rankings.")


@final
class TrainingConfig(Configuration):
    """Settings of one training, apart from the method: the paper's by default.

    Source: section 3.3 of the paper: "the exact hyperparameters as described in the original paper (Devlin et al.,
    2018)"; the head's learning rate and bias are ours.
    """

    epochs: int = Field(3, ge=1, description="Passes over the training examples.")
    max_steps: int | None = Field(
        None,
        ge=1,
        description="Stop after so many optimizer steps. The schedule is laid over them, whatever `epochs` says.",
    )
    batch_size: int = Field(32, ge=1, description="Examples an optimizer step, of all processes.")
    gradient_accumulation: int = Field(
        1, ge=1, description="Micro-batches that a batch is split into. Must divide `batch_size`."
    )
    learning_rate: float = Field(
        2e-5,
        ge=0.0,
        description="Of weights that train by value. Mask logits have their own, a setting of `Supermask`.",
    )
    head_learning_rate: float = Field(1e-3, ge=0.0, description="Of the task head.")
    head_bias: Literal["base_rate", "as_loaded"] = Field(
        "base_rate",
        description="Where the head's bias starts. `base_rate` starts it at the training labels' mean (regression) or "
        "log frequencies (classes), so that the first steps need not teach the constant answer to the whole model; "
        "`as_loaded` leaves it as the base came.",
    )
    warmup: float = Field(
        0.1,
        ge=0.0,
        lt=1.0,
        description="Fraction of steps in which learning rates rise. They rise from 0, and fall to 0 over the rest.",
    )
    weight_decay: float = Field(
        0.01, ge=0.0, description="Of matrices that train by value. Never of mask logits, biases and norms."
    )
    adam_epsilon: float = Field(1e-6, gt=0.0, description="Adam's epsilon, mask logits apart.")
    max_grad_norm: float = Field(
        1.0,
        ge=0.0,
        description="Largest L2 norm of gradients; 0 clips nothing. Mask logits are clipped apart from all else.",
    )
    max_length: int = Field(128, ge=4, description="Longest input in tokens. Longer ones are cut.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="Arithmetic of both passes. Weights, mask logits and optimizer states stay float32. `auto` takes "
        "bf16 where the hardware multiplies it natively, else fp32; the record says which.",
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations to save memory.")
    mask_optimizer_state: Literal["float32", "8bit"] = Field(
        "float32", description="Adam's moments of mask logits. In `8bit` they save 5.97 bytes a mask logit."
    )
    mask_draws: Literal["shared", "per_rank"] = Field(
        "shared",
        description="Masks of several processes, the same or each its own. `shared`: together they do what one process "
        "with the same batch does; `per_rank`: the gradient is averaged over draws too.",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Of data order, dropout, mask draws and a new head.")
    eval_batch_size: int = Field(64, ge=1, description="Examples a batch in evaluation.")
    logging_steps: int = Field(10, ge=1, description="Optimizer steps between log lines.")
    checkpoint_steps: int = Field(0, ge=0, description="Steps between checkpoints to resume from; 0 saves none.")
    tensorboard: bool = Field(False, description="Write logs for TensorBoard. They lie beside the checkpoints.")

    @model_validator(mode="after")
    def _divides(self) -> TrainingConfig:
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(
                f"gradient_accumulation {self.gradient_accumulation} does not divide batch_size {self.batch_size}"
            )
        return self


@final
class RunSettings(Configuration):
    """Where and how studies are run."""

    results: Path = Field(description="Folder of the records.")
    work: Path | None = Field(
        None, description="Where runs keep what they resume from. By default in a hidden folder of the results."
    )
    data_dir: str | None = Field(None, description="Folder with the GLUE files. Without it they come from the hub.")
    limit: int | None = Field(None, ge=1, description="Train on the first so many examples of each task.")
    dev_limit: int | None = Field(None, ge=1, description="Score on the first so many examples of each split.")
    keep_deltas: Literal["masks", "all", "none"] = Field(
        "masks", description="Which deltas stay beside their records. `masks` are those that store masks and the head."
    )
    jobs: int | None = Field(None, ge=1, description="Runs at a time. One a device by default, and one on a CPU.")
    devices: str = Field("", description="CUDA devices to use, such as 0,1. All there are by default.")
    ray: str | None = Field(None, description="Run on the Ray cluster of this address; local starts one here.")
    launch: str = Field("", description='Starts each run, such as "accelerate launch --num_processes 4".')
    checkpoint_steps: int = Field(100, ge=1, description="Steps between checkpoints.")
    any_version: bool = Field(False, description="Take records of other versions of supermask, too.")
    use_cpu: bool = Field(False, description="Stay on the CPU even where there is an accelerator.")

    @model_validator(mode="after")
    def _agree(self) -> RunSettings:
        if self.ray is not None and (self.launch or self.devices):
            raise ConfigurationError("on a Ray cluster, Ray gives out the devices; leave --launch and --devices out")
        if self.launch and (self.jobs or 1) > 1:
            raise ConfigurationError("--launch takes all devices for one run; leave --jobs out")
        return self

    @property
    def work_folder(self) -> Path:
        """Where runs keep what they resume from."""
        return self.work or self.results / ".work"
