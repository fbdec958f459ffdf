"""Studies at one call: check everything, make what is not recorded, measure it."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, final

from pydantic import Field

from supermask.configuration import Configuration
from supermask.errors import ConfigurationError
from supermask.study.checking import CheckedInputs, check_inputs
from supermask.study.executors import Executor, ProcessExecutor
from supermask.study.expansion import RunSpec, shared_runs
from supermask.study.locks import LOCKS_FOLDER, is_claimed
from supermask.study.measuring import Measured, measure_deltas, measure_store, pairs_to_measure
from supermask.study.planning import KeepDeltas, Plan, PlannedRun, plan_runs
from supermask.study.progress import Reporter
from supermask.study.records import RecordStore
from supermask.study.spec import Study
from supermask.study.work_loop import RunReport, carry_out, clear_work

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Prepared", "RunSettings", "StudyReport", "default_results", "make_executor", "prepare", "run_prepared"]

WORK_FOLDER = ".work"


@final
class RunSettings(Configuration):
    """Where and how studies are run.

    Args:
        results: the folder of records; see `default_results`.
        work: where runs keep what they resume from; a hidden folder of `results` by default.
        data_dir: folder with the GLUE files; None for the hub. Probes need none.
        limit: train on the first so many examples of each task.
        dev_limit: score on the first so many examples of each split.
        jobs: runs at a time; one a device by default, and one on a CPU.
        devices: CUDA devices, such as `0` or `GPU-8f6...`; all there are by default.
        keep_deltas: which deltas stay beside their records: of methods that store masks alone, all, or none.
        launch: what starts a worker instead of Python, such as `accelerate launch --num_processes 4`.
        ray: address of a Ray cluster, or `local` to start one here; None for processes of this machine.
        checkpoint_steps: optimizer steps between what a run can resume from.
        any_version: take records that another version of supermask made, too.
        use_cpu: stay on the CPU even where there is an accelerator.
    """

    results: Path
    work: Path | None = None
    data_dir: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    dev_limit: Annotated[int, Field(ge=1)] | None = None
    jobs: Annotated[int, Field(ge=1)] | None = None
    devices: tuple[str, ...] = ()
    keep_deltas: KeepDeltas = "masks"
    launch: tuple[str, ...] = ()
    ray: str | None = None
    checkpoint_steps: Annotated[int, Field(ge=1)] = 100
    any_version: bool = False
    use_cpu: bool = False

    @property
    def work_folder(self) -> Path:
        """Where runs keep what they resume from."""
        return self.work or self.results / WORK_FOLDER


@final
@dataclass(frozen=True)
class Prepared:
    """Studies whose inputs are checked.

    Args:
        studies: the studies, all on one base.
        settings: where and how.
        inputs: base and data.
        store: the records.
        plan: what is to be done.
    """

    studies: tuple[Study, ...]
    settings: RunSettings
    inputs: CheckedInputs
    store: RecordStore
    plan: Plan


@final
@dataclass(frozen=True)
class StudyReport:
    """What came of running studies."""

    runs: RunReport
    measured: Measured


def default_results(base: str, limit: int | None = None) -> Path:
    """Where records of a base go if nothing else is said; those of cut training data apart from the rest.

    Example:
        >>> default_results("minilm-l6").as_posix(), default_results("me/my-bert", 500).as_posix()
        ('results/minilm-l6', 'results/me-my-bert-first500')
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", base).strip("-.") or "base"
    return Path("results") / (name if limit is None else f"{name}-first{limit}")


def prepare(studies: Sequence[Study], settings: RunSettings) -> Prepared:
    """Check everything that can be wrong, and plan what is to be done; nothing is trained.

    Args:
        studies: what to run; all on one base.
        settings: where and how.

    Raises:
        ConfigurationError: naming all faults together.
    """
    bases = list(dict.fromkeys(study.base for study in studies))
    if len(bases) != 1:
        raise ConfigurationError(
            f"studies are run on one base at a time, received {', '.join(bases) or 'no study'}; name it with --base"
        )
    from supermask import __version__

    runs: list[RunSpec] = shared_runs(studies)
    jobs = settings.jobs or max(1, len(settings.devices))
    inputs = check_inputs(
        runs,
        base=bases[0],
        data_dir=settings.data_dir,
        limit=settings.limit,
        dev_limit=settings.dev_limit,
        work=settings.work_folder,
        store=settings.results,
        jobs=jobs,
    )
    store = RecordStore(settings.results)
    plan = plan_runs(
        runs,
        inputs,
        store,
        work=settings.work_folder,
        version=None if settings.any_version else __version__,
        data_dir=settings.data_dir,
        limit=settings.limit,
        dev_limit=settings.dev_limit,
        keep_deltas=settings.keep_deltas,
        checkpoint_steps=settings.checkpoint_steps,
        use_cpu=settings.use_cpu,
    )
    return Prepared(tuple(studies), settings, inputs, store, plan)


def run_prepared(prepared: Prepared, reporter: Reporter, executor: Executor | None = None) -> StudyReport:
    """Make what is not recorded, then measure what has a delta and no measures, and the pairs of masks.

    Args:
        prepared: what `prepare` gave.
        reporter: hears of everything.
        executor: where runs are made; by default what the settings say.

    Raises:
        KeyboardInterrupt: after all workers have ended; the same call goes on where they stopped.
    """
    settings, store = prepared.settings, prepared.store
    if prepared.plan.to_do:
        for folder in (settings.work_folder, settings.results / LOCKS_FOLDER):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    executor = executor or make_executor(settings)
    try:
        report = carry_out(prepared.plan, executor, reporter)
    finally:
        executor.close()
    store.rescan()
    model = functools.cache(load_base_model)
    left = [run for run in prepared.plan.runs if _is_left_over(run, store)]
    late = measure_deltas(store, [run.order.folder.delta for run in left], model, keep_deltas="none")
    for run in left:
        clear_work(run)
    pairs = []
    for study in prepared.studies:
        if "overlap" in study.measures:
            found = (
                store.find(run, fingerprint=prepared.inputs.fingerprint, data=prepared.inputs.hashes(run.task))
                for run in shared_runs([study])
            )
            pairs += pairs_to_measure(stored for stored in found if stored is not None)
    beside = measure_store(store, model, pairs_of=pairs)
    measured = Measured((*late.runs, *beside.runs), beside.pairs, (*late.faults, *beside.faults))
    for fault in measured.faults:
        reporter.note(f"not measured: {fault}")
    return StudyReport(report, measured)


def make_executor(settings: RunSettings) -> Executor:
    """Where runs are made, as the settings say: a process each on this machine, or tasks of a Ray cluster.

    Raises:
        MissingDependencyError: if Ray is asked for and not installed.
        ConfigurationError: if settings contradict each other.
    """
    if settings.ray is not None:
        if settings.launch or settings.devices:
            raise ConfigurationError("on a Ray cluster, Ray gives out the devices; leave --launch and --devices out")
        from supermask.study.ray_runner import RayExecutor

        return RayExecutor(settings.ray, jobs=settings.jobs, use_cpu=settings.use_cpu)
    if settings.launch and (settings.jobs or 1) > 1:
        raise ConfigurationError("--launch takes all devices for one run; leave --jobs out")
    devices: Sequence[str | None] = settings.devices or (() if settings.use_cpu else _cuda_devices())
    if settings.launch or not devices:
        devices = (None,) * (settings.jobs or 1)
    elif settings.jobs is not None:
        devices = [devices[index % len(devices)] for index in range(settings.jobs)]
    return ProcessExecutor(devices, launch=settings.launch)


def load_base_model(name: str) -> nn.Module:
    """The model of a base; the size of its head plays no part."""
    from supermask.models import load_base

    model: nn.Module = load_base(name, num_labels=2).model
    return model


def _is_left_over(run: PlannedRun, store: RecordStore) -> bool:
    """Whether a run is recorded and its delta lies where it was made, because nobody was there to clear up."""
    stored = store.at(run.order.target)
    return (
        stored is not None
        and stored.record.status == "completed"
        and run.order.folder.delta.is_dir()
        and not is_claimed(run.order.lock_path)
    )


def _cuda_devices() -> list[str]:
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip()] if torch.cuda.is_available() else []
    return [str(index) for index in range(torch.cuda.device_count())]
