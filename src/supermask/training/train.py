"""Base + method + task -> task delta, in one call."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.util
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from supermask.deltas import TaskDelta, TaskRecord
from supermask.errors import ConfigurationError, MissingDependencyError, OutputError
from supermask.methods import Attachment, Method
from supermask.models import Base
from supermask.prediction.encoding import encode
from supermask.prediction.given import GivenModel, given_model, resolve_precision, take_device
from supermask.prediction.predictor import Predictor
from supermask.settings import TrainingConfig
from supermask.tasks import TaskData, load_task
from supermask.training.head_bias import start_head_at_base_rate_
from supermask.training.output import RunFolder
from supermask.training.processes import Processes, current_processes
from supermask.training.provenance import current_environment
from supermask.training.record import BaseInfo, DataInfo, DeltaInfo, RunInputs, RunRecord, Spread, spread

__all__ = ["Run", "train"]


@final
@dataclass(frozen=True)
class Run:
    """What a training gives, the same in every process that took part.

    Args:
        delta: what was learnt.
        record: how.
        folder: where both are, if there is one.
        first: whether this is the process that reports; of one process, it.
    """

    delta: TaskDelta
    record: RunRecord
    folder: Path | None = None
    first: bool = True


def train(
    model: nn.Module | Base,
    *,
    task: str | TaskData,
    method: Method,
    config: TrainingConfig | None = None,
    tokenizer: Any = None,
    data_dir: str | Path | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    draws: int = 10,
    quiet: bool = False,
    use_cpu: bool = False,
) -> Run:
    """Learn a task by a method, and give back the task delta.

    The model comes back as it was given, bit for bit; `run.delta.apply_(model)` makes it the task model.

    Started in several processes by `accelerate launch` or `torchrun`, all of which must make this call, it divides each
    batch among them; the first one scores, writes and prints. See docs/distributed.md.

    Args:
        model: a base with a task head of the right size: what `load_base` gives, or
            `AutoModelForSequenceClassification.from_pretrained`.
        task: the name of a task, or data of your own (`supermask.tasks.load_files`).
        method: `Supermask`, `Pruning` or `Freezing`, with its settings.
        config: hyper-parameters; the paper's by default.
        tokenizer: the base's tokenizer; by default the one that belongs to `model.config._name_or_path`.
        data_dir: folder of the task's data, for GLUE tasks in the official TSV layout; without it they come from the
            hub.
        output_dir: folder for checkpoints, delta and record; without it nothing is written.
        resume: go on with the run in `output_dir`; the delta is then bit for bit that of a run without the break.
        overwrite: replace a run in `output_dir`.
        draws: masks to sample for the sampled score, for methods that sample.
        quiet: show no progress.
        use_cpu: stay on the CPU even where there is an accelerator.

    Returns:
        The run.

    Raises:
        SupermaskError: of the kind that fits; every check that needs no compute comes before the training.

    Source: section 3 of the paper.
    """
    config = config or TrainingConfig()
    folder = RunFolder(Path(output_dir)) if output_dir is not None else None
    if (resume or overwrite) and folder is None:
        raise ConfigurationError("resume and overwrite speak of the run in output_dir; name one")
    if draws < 0:
        raise ConfigurationError(f"draws is a number of masks to sample, 0 or more; received {draws}")
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise MissingDependencyError("logs for TensorBoard need it installed: pip install 'supermask[tensorboard]'")
    data = load_task(task, data_dir=data_dir) if isinstance(task, str) else task
    given = given_model(model, data.task, tokenizer)
    processes = current_processes(use_cpu=use_cpu)
    device = take_device(use_cpu=use_cpu)
    predictor = Predictor(
        model=given.model,
        tokenizer=given.tokenizer,
        task=data.task,
        max_length=config.max_length,
        batch_size=config.eval_batch_size,
        precision=resolve_precision(config.precision, device.type),
    )
    modes = [(module, module.training) for module in given.model.modules()]
    attachment = method.attach_(given.model, seed=config.seed)
    try:
        _let_draw(attachment, config, processes)
        inputs = _describe_inputs(attachment, given, data, config)
        if folder is not None:
            bytes_needed = _bytes_needed(given.model, checkpointed=config.checkpoint_steps > 0 or config.tensorboard)
            finished = processes.on_first(
                lambda: folder.open(inputs, resume=resume, overwrite=overwrite, bytes_needed=bytes_needed)
            )
            if finished is not None:
                return Run(TaskDelta.load(folder.delta), finished, folder.path, processes.first)
        return _Training(attachment, predictor, data, inputs, folder, draws, quiet, device, processes).run(
            resume=resume
        )
    finally:
        attachment.detach_()
        for module, training in modes:
            module.training = training


@final
@dataclass(frozen=True)
class _Training:
    """The steps of one training whose inputs are checked."""

    attachment: Attachment
    predictor: Predictor
    data: TaskData
    inputs: RunInputs
    folder: RunFolder | None
    draws: int
    quiet: bool
    device: torch.device
    processes: Processes

    def run(self, *, resume: bool) -> Run:
        facts: dict[str, Any] = {
            "inputs": self.inputs,
            "environment": current_environment(self.device),
            "precision": self.predictor.precision,
            "processes": self.processes.count,
            "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "steps": 0,
            "train_seconds": 0.0,
        }
        try:
            facts |= self._learn(resume=resume)
            self.processes.must_agree(_digest(self.attachment), what="the trained parameters")
            clock = time.perf_counter()
            scores, sampled = self.processes.on_first(self._evaluate)
            facts["evaluation_seconds"] = time.perf_counter() - clock
            delta = self._extract(facts, scores)
            results = {"scores": scores, "sampled_scores": sampled}
            record = self.processes.on_first(lambda: self._finish(delta, facts | results))
        except Exception as error:
            if self.folder is not None and self.processes.first:
                failed = RunRecord(status="failed", error=f"{type(error).__name__}: {error}", **facts)
                with contextlib.suppress(
                    OutputError
                ):  # the disk may be what failed; the first error is the one to show
                    failed.save(self.folder.record_path)
            raise
        return Run(delta, record, self.folder.path if self.folder is not None else None, self.processes.first)

    def _learn(self, *, resume: bool) -> dict[str, Any]:
        from transformers import set_seed

        from supermask.training.trainer import make_trainer

        model, config, folder = self.attachment.model, self.inputs.config, self.folder
        tokenizer = self.predictor.tokenizer
        examples = encode(self.data.train, self.data.task, tokenizer, max_length=config.max_length)
        at_base_rate = config.head_bias == "base_rate" and start_head_at_base_rate_(
            model, self.attachment.parameters.head, self.data.task, self.data.train.labels or ()
        )
        set_seed(config.seed)
        clock = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            trainer = make_trainer(
                self.attachment,
                examples,
                tokenizer,
                config,
                precision=self.predictor.precision,
                folder=folder.checkpoints if folder is not None else Path(scratch),
                use_cpu=self.device.type == "cpu",
                quiet=self.quiet,
                processes=self.processes,
            )
            last = self.processes.on_first(folder.last_checkpoint) if folder is not None and resume else None
            with _gradient_checkpointing(model) if config.gradient_checkpointing else contextlib.nullcontext():
                trainer.train(resume_from_checkpoint=str(last) if last is not None else None)
        return {
            "steps": trainer.state.global_step,
            "train_seconds": time.perf_counter() - clock,
            "head_at_base_rate": at_base_rate,
            "log": tuple(
                {name: float(value) for name, value in row.items()}
                for row in trainer.state.log_history
                if "loss" in row
            ),
        }

    def _evaluate(self) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, Spread]]]:
        scores: dict[str, dict[str, float]] = {}
        sampled: dict[str, dict[str, Spread]] = {}
        for split, examples in self.data.report.items():
            batches = self.predictor.encode(examples)

            def score(draw: int | None) -> dict[str, float]:
                with self.attachment.evaluating(draw):
                    return self.predictor.score(batches, examples)  # noqa: B023  # called in this round alone

            scores[split] = score(None)
            if self.attachment.samples and self.draws:
                sampled[split] = spread([score(draw) for draw in range(self.draws)])
        return scores, sampled

    def _extract(self, facts: dict[str, Any], scores: dict[str, dict[str, float]]) -> TaskDelta:
        environment = facts["environment"]
        return self.attachment.extract(
            base_name=self.inputs.base.name,
            base_revision=self.inputs.base.revision,
            task={name: getattr(self.data.task, name) for name in TaskRecord.model_fields},
            training={
                "config": self.inputs.config.model_dump(mode="json"),
                "precision": self.predictor.precision,
                "steps": facts["steps"],
                "data": {split: info.model_dump(mode="json") for split, info in self.inputs.data.items()},
                "scores": scores,
                "supermask": environment.supermask,
                "source": environment.source,
            },
        )

    def _finish(self, delta: TaskDelta, facts: dict[str, Any]) -> RunRecord:
        """Save the delta, then the record: what is recorded is done."""
        if self.folder is not None:
            delta.save(self.folder.delta, overwrite=True)
        record = RunRecord(
            status="completed",
            sampled_sparsity=self.attachment.statistics().get("sampled_sparsity"),
            delta=DeltaInfo(
                zeros=delta.zeros,
                constrained_weights=delta.weights,
                sparsity=delta.sparsity,
                bytes=delta.nbytes_on_disk(),
            ),
            **facts,
        )
        if self.folder is not None:
            record.save(self.folder.record_path)
            if not self.inputs.config.tensorboard:
                self.folder.drop_checkpoints()
        return record


@contextlib.contextmanager
def _gradient_checkpointing(model: Any) -> Iterator[None]:
    """Recompute activations for the while."""
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ConfigurationError(f"{type(model).__name__} does not support gradient checkpointing; leave it off")
    # transformers 5 renames it on the way; the Trainer's own setting changes with it, so the model is asked itself.
    kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    getattr(model, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(model, f"{kind}_checkpointing_disable")()


def _let_draw(attachment: Attachment, config: TrainingConfig, processes: Processes) -> None:
    if config.mask_draws == "per_rank":
        if not attachment.samples:
            raise ConfigurationError(
                f"mask_draws='per_rank' is for methods that draw masks, and {attachment.method['kind']} does not; "
                "leave it at 'shared'"
            )
        attachment.rank = processes.rank


def _digest(attachment: Attachment) -> str:
    """A digest of what was trained, as it is now."""
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in attachment.model.named_parameters():
        if parameter.requires_grad:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _describe_inputs(attachment: Attachment, given: GivenModel, data: TaskData, config: TrainingConfig) -> RunInputs:
    splits = [data.task.train_split, *data.report]
    return RunInputs(
        base=BaseInfo(
            name=given.name,
            revision=given.revision,
            architecture=attachment.parameters.architecture,
            fingerprint=attachment.base.digest,
            parameters=sum(info.numel for info in attachment.parameters.infos),
        ),
        task=data.task.name,
        task_version=data.task.version,
        data={
            split: DataInfo(
                examples=len(data[split]),
                source=data[split].source,
                content_hash=data[split].content_hash,
                official_size=data.task.expected_sizes.get(split),
            )
            for split in splits
        },
        method=attachment.method,
        config=config,
    )


def _bytes_needed(model: nn.Module, *, checkpointed: bool) -> int:
    """An upper estimate: the delta holds every value at most, two checkpoints the model and Adam's two moments."""
    values = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    delta = 4 * trained
    return delta + (2 * (values + 8 * trained) if checkpointed else 0)
