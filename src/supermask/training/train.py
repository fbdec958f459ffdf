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
from typing import TYPE_CHECKING, Any, final

import torch
from torch import nn

from supermask.deltas import TaskDelta
from supermask.errors import ConfigurationError, MissingDependencyError, OutputError
from supermask.methods import Attachment, Method
from supermask.models import Base
from supermask.training.config import Precision, TrainingConfig, resolve_precision
from supermask.training.encoding import EncodedExamples, encode
from supermask.training.evaluation import check_head
from supermask.training.given import GivenModel, given_model, take_device
from supermask.training.head_bias import start_head_at_base_rate_
from supermask.training.output import RunFolder
from supermask.training.predicting import PaddedBatches, padded_batches, predict_logits, predictions_from_logits
from supermask.training.processes import Processes, current_processes
from supermask.training.provenance import current_environment
from supermask.training.record import BaseInfo, DataInfo, DeltaInfo, RunInputs, RunRecord, Spread, spread

if TYPE_CHECKING:
    from supermask.tasks import Examples, TaskData

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
    from supermask.tasks import load_task

    config = config or TrainingConfig()
    folder = RunFolder(Path(output_dir)) if output_dir is not None else None
    if (resume or overwrite) and folder is None:
        raise ConfigurationError("resume and overwrite speak of the run in output_dir; name one")
    if draws < 0:
        raise ConfigurationError(f"draws is a number of masks to sample, 0 or more; received {draws}")
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise MissingDependencyError("logs for TensorBoard need it installed: pip install 'supermask[tensorboard]'")
    data = load_task(task, data_dir=data_dir) if isinstance(task, str) else task
    given = given_model(model, tokenizer)
    check_head(given.model, data.task)
    processes = current_processes(use_cpu=use_cpu)
    precision = resolve_precision(config.precision, take_device(use_cpu=use_cpu).type)
    modes = [(module, module.training) for module in given.model.modules()]
    attachment = method.attach_(given.model, seed=config.seed)
    try:
        _let_draw(attachment, config, processes)
        inputs = _describe_inputs(attachment, given, data, config)
        if folder is not None:
            bytes_needed = _bytes_needed(given.model, checkpointed=config.checkpoint_steps > 0 or config.tensorboard)
            finished = processes.on_first(
                lambda: _open(folder, inputs, resume=resume, overwrite=overwrite, bytes_needed=bytes_needed)
            )
            if finished is not None:
                return Run(TaskDelta.load(folder.delta), finished, folder.path, processes.first)
        return _Training(
            attachment, data, inputs, config, given.tokenizer, precision, folder, draws, quiet, use_cpu, processes
        ).run(resume=resume)
    finally:
        attachment.detach_()
        for module, training in modes:
            module.training = training


@final
@dataclass(frozen=True)
class _Training:
    """The steps of one training whose inputs are checked."""

    attachment: Attachment
    data: TaskData
    inputs: RunInputs
    config: TrainingConfig
    tokenizer: Any
    precision: Precision
    folder: RunFolder | None
    draws: int
    quiet: bool
    use_cpu: bool
    processes: Processes

    def run(self, *, resume: bool) -> Run:
        started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        progress: dict[str, Any] = {"steps": 0, "train_seconds": 0.0}
        try:
            progress |= self._learn(resume=resume)
            self.processes.must_agree(_digest(self.attachment), what="the trained parameters")
            clock = time.perf_counter()
            scores, sampled = self.processes.on_first(self._evaluate)
            progress["evaluation_seconds"] = time.perf_counter() - clock
            delta = self._extract(progress, scores)
            record = self.processes.on_first(lambda: self._write(delta, started, progress, scores, sampled))
        except Exception as error:
            if self.folder is not None and self.processes.first:
                self._note_failure(error, started, progress)
            raise
        return Run(delta, record, self.folder.path if self.folder is not None else None, self.processes.first)

    def _write(
        self,
        delta: TaskDelta,
        started: str,
        progress: dict[str, Any],
        scores: dict[str, dict[str, float]],
        sampled: dict[str, dict[str, Spread]],
    ) -> RunRecord:
        if self.folder is not None:
            delta.save(self.folder.delta, overwrite=True)
        record = self._record(
            "completed",
            started,
            progress,
            scores=scores,
            sampled_scores=sampled,
            sampled_sparsity=self.attachment.statistics().get("sampled_sparsity"),
            delta=_delta_info(delta),
        )
        if self.folder is not None:
            record.save(self.folder.record_path)
            if not self.config.tensorboard:
                self.folder.drop_checkpoints()
        return record

    def _learn(self, *, resume: bool) -> dict[str, Any]:
        from transformers import set_seed

        from supermask.training.trainer import make_trainer

        model, task = self.attachment.model, self.data.task
        examples = self._encode(self.data.train)
        at_base_rate = self.config.head_bias == "base_rate" and start_head_at_base_rate_(
            model, self.attachment.parameters.head, task, self.data.train.labels or ()
        )
        set_seed(self.config.seed)
        clock = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            checkpoints = self.folder.checkpoints if self.folder is not None else Path(scratch)
            trainer = make_trainer(
                model,
                self.attachment,
                examples,
                self.tokenizer,
                self.config,
                precision=self.precision,
                folder=checkpoints,
                use_cpu=take_device(use_cpu=self.use_cpu).type == "cpu",
                quiet=self.quiet,
                processes=self.processes,
            )
            folder = self.folder
            last = self.processes.on_first(folder.last_checkpoint) if folder is not None and resume else None
            with _gradient_checkpointing(model) if self.config.gradient_checkpointing else contextlib.nullcontext():
                trainer.train(resume_from_checkpoint=str(last) if last is not None else None)
        log = [
            {name: float(value) for name, value in row.items()} for row in trainer.state.log_history if "loss" in row
        ]
        return {
            "steps": trainer.state.global_step,
            "train_seconds": time.perf_counter() - clock,
            "head_at_base_rate": at_base_rate,
            "log": tuple(log),
        }

    def _evaluate(self) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, Spread]]]:
        scores: dict[str, dict[str, float]] = {}
        sampled: dict[str, dict[str, Spread]] = {}
        for split, examples in self.data.report.items():
            batches = padded_batches(self._encode(examples), self.tokenizer, batch_size=self.config.eval_batch_size)
            scores[split] = self._score(batches, examples, draw=None)
            if self.attachment.samples and self.draws:
                sampled[split] = spread([self._score(batches, examples, draw=draw) for draw in range(self.draws)])
        return scores, sampled

    def _score(self, batches: PaddedBatches, examples: Examples, *, draw: int | None) -> dict[str, float]:
        from supermask.tasks import score

        with self.attachment.evaluating(draw):
            logits = predict_logits(self.attachment.model, batches, precision=self.precision)
        predictions = predictions_from_logits(logits, self.data.task)
        return dict(score(self.data.task, predictions, examples.labels or ()))

    def _encode(self, examples: Any) -> EncodedExamples:
        return encode(examples, self.data.task, self.tokenizer, max_length=self.config.max_length)

    def _extract(self, progress: dict[str, Any], scores: dict[str, dict[str, float]]) -> TaskDelta:
        task = self.data.task
        return self.attachment.extract(
            base_name=self.inputs.base.name,
            base_revision=self.inputs.base.revision,
            task={
                "name": task.name,
                "version": task.version,
                "kind": task.kind,
                "label_names": list(task.label_names),
                "metrics": list(task.metrics),
                "paired": task.paired,
            },
            training={
                "config": self.config.model_dump(mode="json"),
                "precision": self.precision,
                "steps": progress["steps"],
                "data": {split: info.model_dump(mode="json") for split, info in self.inputs.data.items()},
                "scores": scores,
                "supermask": self._environment().supermask,
                "source": self._environment().source,
            },
        )

    def _record(self, status: Any, started: str, progress: dict[str, Any], **results: Any) -> RunRecord:
        return RunRecord(
            status=status,
            inputs=self.inputs,
            environment=self._environment(),
            precision=self.precision,
            processes=self.processes.count,
            started=started,
            **progress,
            **results,
        )

    def _note_failure(self, error: BaseException, started: str, progress: dict[str, Any]) -> None:
        assert self.folder is not None
        try:
            self._record("failed", started, progress, error=f"{type(error).__name__}: {error}").save(
                self.folder.record_path
            )
        except OutputError:
            return  # the disk may be what failed; the first error is the one to show

    def _environment(self) -> Any:
        return current_environment(next(self.attachment.model.parameters()).device)


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


def _open(
    folder: RunFolder, inputs: RunInputs, *, resume: bool, overwrite: bool, bytes_needed: int
) -> RunRecord | None:
    """Make the folder ready; the record of the run to resume, if it is complete already."""
    folder.open(inputs, resume=resume, overwrite=overwrite, bytes_needed=bytes_needed)
    return folder.completed() if resume else None


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


def _delta_info(delta: TaskDelta) -> DeltaInfo:
    return DeltaInfo(
        zeros=delta.zeros, constrained_weights=delta.weights, sparsity=delta.sparsity, bytes=delta.nbytes_on_disk()
    )
