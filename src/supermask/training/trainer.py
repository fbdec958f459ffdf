"""`transformers.Trainer`, set up for a method: it drives; we add parameter groups, a callback and the data's order."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, final

from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from supermask.errors import ConfigurationError
from supermask.methods import Attachment, make_optimizer
from supermask.models.loading import quiet_transformers
from supermask.training.callback import MethodCallback
from supermask.training.config import Precision, TrainingConfig
from supermask.training.encoding import EncodedExamples, LengthGroupedSampler, pad

__all__ = ["MethodTrainer", "make_trainer"]


@final
class MethodTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed
    """A Trainer whose data order is a pure function of seed and epoch, and whose log shows the method's statistics."""

    def __init__(self, *, attachment: Attachment, sampler: LengthGroupedSampler, **settings: Any) -> None:
        super().__init__(**settings)
        self.attachment = attachment
        self.sampler = sampler

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The training loader, batches grouped by length."""
        loader = DataLoader(
            self.train_dataset,
            batch_size=self.args.per_device_train_batch_size,
            sampler=self.sampler,
            collate_fn=self.data_collator,
            pin_memory=self.args.device.type == "cuda",
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save a checkpoint's weights, without a progress bar of its own for each."""
        with quiet_transformers():
            super().save_model(output_dir, _internal_call)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the loss, and beside it what the method says of itself."""
        if "loss" in logs:
            logs.update(self.attachment.statistics())
        super().log(logs, start_time)


def make_trainer(
    model: nn.Module,
    attachment: Attachment,
    examples: EncodedExamples,
    tokenizer: Any,
    config: TrainingConfig,
    *,
    precision: Precision,
    folder: Path,
    use_cpu: bool = False,
    quiet: bool = False,
) -> MethodTrainer:
    """A Trainer that learns a task by an attached method.

    Args:
        model: the model that the method is attached to.
        attachment: the method at work.
        examples: encoded training examples.
        tokenizer: pads the batches.
        config: hyper-parameters.
        precision: arithmetic, `auto` resolved.
        folder: where checkpoints and TensorBoard logs go.
        use_cpu: stay on the CPU even where there is an accelerator.
        quiet: show neither progress bar nor log lines.
    """
    micro_batch = config.batch_size // config.gradient_accumulation
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=micro_batch,
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
        seed=config.seed,
        use_cpu=use_cpu,
        disable_tqdm=quiet,
    )
    if arguments.n_gpu > 1 or arguments.world_size > 1:
        raise ConfigurationError(
            "training runs on one device in one process, and here are "
            f"{max(arguments.n_gpu, arguments.world_size)}: each would add a batch of its own; set "
            "CUDA_VISIBLE_DEVICES to one of them"
        )
    optimizer = make_optimizer(
        attachment,
        learning_rate=config.learning_rate,
        head_learning_rate=config.head_learning_rate,
        weight_decay=config.weight_decay,
        eps=config.adam_epsilon,
        max_grad_norm=config.max_grad_norm,
        fused=False if precision == "fp16" else None,
    )
    sampler = LengthGroupedSampler(examples.lengths, config.batch_size, seed=config.seed)
    trainer = MethodTrainer(
        attachment=attachment,
        sampler=sampler,
        model=model,
        args=arguments,
        data_collator=functools.partial(pad, tokenizer),
        train_dataset=examples,
        callbacks=[MethodCallback(attachment, sampler)],
        optimizers=(optimizer, None),
    )
    if quiet:
        trainer.remove_callback(PrinterCallback)
    return trainer
