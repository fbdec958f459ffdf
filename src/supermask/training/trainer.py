"""`transformers.Trainer`, set up for a method: it drives; we add parameter groups, a callback and the data's order."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from supermask.core.counter_random import key_words
from supermask.errors import ConfigurationError
from supermask.methods import Attachment, make_optimizer
from supermask.methods.optimizer import MethodOptimizer
from supermask.models.loading import quiet_transformers
from supermask.prediction.encoding import EncodedExamples
from supermask.prediction.given import Precision
from supermask.settings import TrainingConfig
from supermask.training.batches import SHARE, DealtExamples, LengthGroupedSampler, MicroBatchSampler, collate_dealt
from supermask.training.processes import Processes

__all__ = ["MethodCallback", "MethodTrainer", "make_trainer"]


@final
class MethodCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Tells an attachment which step comes next.

    For a Trainer of your own: pass this callback and `optimizers=(make_optimizer(attachment), None)`. Nothing else is
    needed; the constraint itself is kept by the optimizer. `attachment.statistics()` has what is worth logging.

    Args:
        attachment: the method at work on the Trainer's model.
        sampler: the sampler of the training loader, if it is to follow the epochs.
    """

    def __init__(self, attachment: Attachment, sampler: LengthGroupedSampler | None = None) -> None:
        self.attachment = attachment
        self.sampler = sampler
        self._micro_batch = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say how long the training is."""
        self.attachment.begin_training(total_steps=state.max_steps)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Give the sampler its epoch; a run that resumes within an epoch is in it already."""
        if self.sampler is not None:
            self.sampler.epoch = math.floor(state.epoch or 0.0)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Key the draws of the step's first micro-batch."""
        self._micro_batch = 0
        self.attachment.begin_step(state.global_step)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Key the draws of the next micro-batch."""
        self._micro_batch += 1
        self.attachment.begin_step(state.global_step, self._micro_batch)


@final
class MethodTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed
    """A Trainer whose data order is a pure function of seed and epoch, and whose log shows the method's statistics.

    A step's loss is the mean over its whole batch, over however many micro-batches and processes it is spread.
    """

    def __init__(
        self, *, attachment: Attachment, optimizer: MethodOptimizer, batches: MicroBatchSampler, **settings: Any
    ) -> None:
        self.attachment = attachment
        self.method_optimizer = optimizer
        self.batches = batches
        super().__init__(optimizers=(optimizer, None), **settings)
        # Whether a classifier heeds the Trainer's count of items varies from model to model; here the mean is taken
        # over each micro-batch, and `compute_loss` weighs it.
        self.model_accepts_loss_kwargs = False

    def create_accelerator_and_postprocess(self) -> None:
        """Have the accelerator ask the optimizer for the gradients' norm, which measures it anyway.

        The Trainer wants it in every step, for its log; measured by itself it costs three more passes over memory.
        """
        super().create_accelerator_and_postprocess()
        self.accelerator.clip_grad_norm_ = self._measure_gradient_norm

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The training loader: this process's micro-batches, grouped by length.

        They are dealt out already, so the loader is not handed to accelerate, which would deal once more.
        """
        return DataLoader(
            self.train_dataset,
            batch_sampler=self.batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.device.type == "cuda",
        )

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **options: Any
    ) -> Any:
        """The mean loss of a micro-batch, times its weight in the step's batch."""
        inputs = dict(inputs)
        weight = inputs.pop(SHARE, 1.0)
        result = super().compute_loss(model, inputs, return_outputs, **options)
        if weight == 1.0:
            return result
        return (weight * result[0], result[1]) if return_outputs else weight * result

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save a checkpoint's weights, without a progress bar of its own for each."""
        with quiet_transformers():
            super().save_model(output_dir, _internal_call)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the loss, and beside it what the method says of itself."""
        if "loss" in logs and self.is_world_process_zero():
            logs.update(self.attachment.statistics())
        super().log(logs, start_time)

    def _measure_gradient_norm(self, *_: Any, **__: Any) -> Tensor:
        self.accelerator.unscale_gradients()
        return self.method_optimizer.measure_gradient_norm()


def make_trainer(
    attachment: Attachment,
    examples: EncodedExamples,
    tokenizer: Any,
    config: TrainingConfig,
    *,
    precision: Precision,
    folder: Path,
    use_cpu: bool = False,
    quiet: bool = False,
    processes: Processes = Processes(),  # noqa: B008  # frozen
) -> MethodTrainer:
    """A Trainer that learns a task by an attached method.

    Args:
        attachment: the method at work on a model.
        examples: encoded training examples.
        tokenizer: pads the batches.
        config: hyper-parameters.
        precision: arithmetic, `auto` resolved.
        folder: where checkpoints and TensorBoard logs go.
        use_cpu: stay on the CPU even where there is an accelerator.
        quiet: show neither progress bar nor log lines.
        processes: that share the work.

    Raises:
        ConfigurationError: if the batch cannot be divided among them, or if one process sees several GPUs.
    """
    parts = config.gradient_accumulation * processes.count
    if config.batch_size % parts:
        raise ConfigurationError(
            f"batch_size {config.batch_size} is the batch of all processes together and cannot be divided into "
            f"{processes.count} processes times {config.gradient_accumulation} micro-batches; take a multiple of "
            f"{parts}"
        )
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=config.batch_size // parts,
        gradient_accumulation_steps=config.gradient_accumulation,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps if config.max_steps is not None else -1,
        lr_scheduler_type="linear",
        warmup_steps=config.warmup,  # below 1 it is a fraction of all steps
        max_grad_norm=0.0,  # the optimizer clips, mask logits apart from the rest
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        logging_steps=config.logging_steps,
        save_strategy="steps" if config.checkpoint_steps else "no",
        save_steps=config.checkpoint_steps or 500,
        save_total_limit=1,
        report_to=["tensorboard"] if config.tensorboard else [],
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,  # whatever trains takes part in every forward pass
        seed=config.seed,
        use_cpu=use_cpu,
        disable_tqdm=quiet,
    )
    if arguments.n_gpu > 1:
        raise ConfigurationError(
            f"one process sees {arguments.n_gpu} GPUs and would copy the model to each in every step; start a process "
            "for each with `accelerate launch --multi_gpu -m supermask train ...`, or set CUDA_VISIBLE_DEVICES to one"
        )
    optimizer = make_optimizer(
        attachment,
        learning_rate=config.learning_rate,
        head_learning_rate=config.head_learning_rate,
        weight_decay=config.weight_decay,
        eps=config.adam_epsilon,
        max_grad_norm=config.max_grad_norm,
        mask_state=config.mask_optimizer_state,
    )
    order = LengthGroupedSampler(examples.lengths, config.batch_size, seed=config.seed)
    trainer = MethodTrainer(
        attachment=attachment,
        optimizer=optimizer,
        batches=MicroBatchSampler(
            order, accumulation=config.gradient_accumulation, processes=processes.count, rank=processes.rank
        ),
        model=attachment.model,
        args=arguments,
        data_collator=functools.partial(collate_dealt, tokenizer),
        train_dataset=DealtExamples(examples),
        callbacks=[MethodCallback(attachment, order)],
    )
    if not processes.first:
        # Dropout and the like: each process draws its own, far from other runs. The Trainer has just seeded all alike.
        set_seed(key_words("process", config.seed, processes.rank)[0])
    if quiet:
        trainer.remove_callback(PrinterCallback)
    return trainer
