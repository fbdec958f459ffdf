"""What is to be done for studies: which runs are recorded already, and an order for each that is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from supermask.study.checking import CheckedInputs
from supermask.study.estimates import Pace
from supermask.study.expansion import RunSpec, planned_steps
from supermask.study.keys import address
from supermask.study.locks import is_claimed, lock_path
from supermask.study.orders import RunOrder
from supermask.study.records import RecordStore, StoredRecord
from supermask.tasks import find_task

__all__ = ["KeepDeltas", "Plan", "PlannedRun", "masks_alone", "plan_runs"]

KeepDeltas = Literal["masks", "all", "none"]


@final
@dataclass(frozen=True)
class PlannedRun:
    """One run, and what becomes of it.

    Args:
        order: all that a worker needs.
        state: `recorded`, `new`, `failed` (before, and to be tried again) or `elsewhere` (another process is at it).
        stored: the record, where there is one.
        seconds: how long it will take, from like runs; None if nothing like it is recorded.
        steps: optimizer steps.
    """

    order: RunOrder
    state: Literal["recorded", "new", "failed", "elsewhere"]
    stored: StoredRecord | None
    seconds: float | None
    steps: int


@final
@dataclass(frozen=True)
class Plan:
    """All runs of the studies, each once."""

    runs: tuple[PlannedRun, ...]

    def of(self, *states: str) -> tuple[PlannedRun, ...]:
        """The runs in one of these states."""
        return tuple(run for run in self.runs if run.state in states)

    @property
    def to_do(self) -> tuple[PlannedRun, ...]:
        """The runs that are not recorded."""
        return self.of("new", "failed", "elsewhere")

    def seconds_left(self, jobs: int) -> float | None:
        """How long what is to be done takes with so many runs at a time; None if nothing is known of any."""
        known = [run.seconds for run in self.to_do if run.seconds is not None]
        if not known:
            return None if self.to_do else 0.0
        # What nothing is known of is counted like the mean of the rest.
        return sum(known) / len(known) * len(self.to_do) / jobs


def plan_runs(
    runs: Sequence[RunSpec],
    inputs: CheckedInputs,
    store: RecordStore,
    *,
    work: Path,
    version: str | None,
    data_dir: str | None = None,
    limit: int | None = None,
    dev_limit: int | None = None,
    keep_deltas: KeepDeltas = "masks",
    checkpoint_steps: int = 100,
    use_cpu: bool = False,
    directory: Path | None = None,
) -> Plan:
    """Say of every run whether it is recorded, and if not, what is to be done.

    Args:
        runs: the runs, each once.
        inputs: base and data, checked.
        store: the records.
        work: where runs keep what they resume from.
        version: of supermask that a record must be of; None takes any.
        data_dir: folder with the GLUE files.
        limit: train on the first so many examples.
        dev_limit: score on the first so many examples.
        keep_deltas: which deltas stay beside their records: of methods that store masks alone, all, or none.
        checkpoint_steps: optimizer steps between what a run can resume from.
        use_cpu: stay on the CPU.
        directory: the working folder that relative paths start from.

    Returns:
        The plan, in the order of the runs.
    """
    from supermask import __version__

    pace = Pace(stored.record for stored in store.records)
    planned = []
    taken: dict[str, str] = {}
    for run in runs:
        hashes = inputs.hashes(run.task)
        name = address(
            run.key,
            base_fingerprint=inputs.fingerprint,
            data=hashes,
            precision=run.config.precision,
            draws=run.draws,
            version=version or __version__,
        )
        target = _target(run, name, store, taken)
        taken[target] = name
        order = RunOrder(
            task=run.task,
            task_version=find_task(run.task).version,
            label=run.label,
            method=run.method,
            config=run.config.model_copy(update={"checkpoint_steps": checkpoint_steps}),
            draws=run.draws,
            key=run.key,
            address=name,
            base=inputs.bases[run.task],
            data=dict(inputs.data[run.task]),
            data_dir=data_dir,
            limit=limit,
            dev_limit=dev_limit,
            directory=str(directory or Path.cwd()),
            store=str(store.folder),
            target=target,
            work=str(work / name),
            keep_delta=keep_deltas == "all" or (keep_deltas == "masks" and masks_alone(run.method)),
            use_cpu=use_cpu,
        )
        stored = store.find(run, fingerprint=inputs.fingerprint, data=hashes, version=version)
        failed = store.failed(run, base=inputs.bases[run.task].name) if stored is None else None
        busy = stored is None and is_claimed(lock_path(store.folder, name))
        steps = planned_steps(run, inputs.data[run.task][find_task(run.task).train_split].examples)
        planned.append(
            PlannedRun(
                order=order,
                state="recorded" if stored else "elsewhere" if busy else "failed" if failed else "new",
                stored=stored or failed,
                seconds=None if stored else pace.seconds(order.inputs, steps=steps, draws=_draws(run)),
                steps=steps,
            )
        )
    return Plan(tuple(planned))


def _target(run: RunSpec, name: str, store: RecordStore, taken: Mapping[str, str]) -> str:
    """Where the record goes: under the run's label, unless something else that should stay is there."""
    plain = f"{run.task}/{run.label}.json"
    there = store.at(plain)
    free = there is None and not (store.folder / plain).exists()
    replaceable = there is not None and there.record.status == "failed" and there.key == run.key
    if (free or replaceable) and taken.get(plain, name) == name:
        return plain
    return f"{run.task}/{run.label}-{name}.json"


def masks_alone(method: Mapping[str, object]) -> bool:
    """Whether the deltas of a method store masks and the head, and no other values."""
    return method.get("kind") == "supermask" and not method.get("train")


def _draws(run: RunSpec) -> int:
    return run.draws if run.method.get("kind") == "supermask" else 0
