"""Where studies stand: what is recorded, what failed, what is being run, what is missing; nothing is loaded or run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from supermask.study.estimates import Pace
from supermask.study.expansion import RunSpec, planned_steps, runs_of
from supermask.study.locks import holders
from supermask.study.records import RecordStore
from supermask.study.spec import Study
from supermask.tasks import find_task
from supermask.training.output import RunFolder
from supermask.training.record import BaseInfo, DataInfo, RunInputs

__all__ = ["RunState", "RunStatus", "StudyStatus", "study_status"]

RunState = Literal["recorded", "running", "failed", "missing"]


@final
@dataclass(frozen=True)
class RunStatus:
    """Where one run stands.

    Args:
        run: the run.
        state: where it stands.
        path: of its record, completed or failed, relative to the store.
        measured: whether readable measures lie beside the record.
        error: what stopped it, if it failed.
        position: how far it is, if it is running.
        seconds: how long it will take, from like runs; None if nothing like it is recorded, or it is recorded.
    """

    run: RunSpec
    state: RunState
    path: str | None = None
    measured: bool = False
    error: str | None = None
    position: str | None = None
    seconds: float | None = None


@final
@dataclass(frozen=True)
class StudyStatus:
    """Where a study stands."""

    study: Study
    runs: tuple[RunStatus, ...]

    def of(self, state: RunState) -> tuple[RunStatus, ...]:
        """The runs that stand there."""
        return tuple(run for run in self.runs if run.state == state)

    @property
    def seconds_left(self) -> float | None:
        """How long what is not recorded takes, one run at a time; None if nothing is known of any."""
        left = [run.seconds for run in self.runs if run.state != "recorded"]
        known = [seconds for seconds in left if seconds is not None]
        if not left:
            return 0.0
        return sum(known) / len(known) * len(left) if known else None


def study_status(studies: Sequence[Study], store: RecordStore) -> list[StudyStatus]:
    """Look every run of the studies up, without loading base or data.

    Whether a record is of the data and the version of today is not asked here; `run --dry-run` does ask.

    Args:
        studies: the studies.
        store: the records.
    """
    pace = Pace(stored.record for stored in store.records)
    running = {str(note.get("key")): note for note in holders(store.folder).values()}
    known = _known_inputs(store)
    return [
        StudyStatus(study, tuple(_status(run, study, store, pace, running, known) for run in runs_of(study)))
        for study in studies
    ]


def _status(
    run: RunSpec,
    study: Study,
    store: RecordStore,
    pace: Pace,
    running: dict[str, dict[str, object]],
    known: dict[tuple[str | None, str], RunInputs],
) -> RunStatus:
    stored = store.find(run, base=study.base)
    if stored is not None:
        return RunStatus(run, "recorded", stored.path, store.measures(stored.path) is not None)
    seconds = _seconds(run, study, pace, known)
    if run.key in running:
        return RunStatus(run, "running", position=_position(running[run.key], run), seconds=seconds)
    failed = store.failed(run, base=study.base)
    if failed is not None:
        return RunStatus(run, "failed", failed.path, error=failed.record.error, seconds=seconds)
    return RunStatus(run, "missing", seconds=seconds)


def _known_inputs(store: RecordStore) -> dict[tuple[str | None, str], RunInputs]:
    """What is recorded of bases and of data: the newest inputs by base and task, and by base alone."""
    found: dict[tuple[str | None, str], RunInputs] = {}
    for stored in sorted(store.records, key=lambda stored: stored.record.started):
        inputs = stored.record.inputs
        found[inputs.base.name, inputs.task] = found[inputs.base.name, ""] = inputs
    return found


def _seconds(run: RunSpec, study: Study, pace: Pace, known: dict[tuple[str | None, str], RunInputs]) -> float | None:
    like = known.get((study.base, run.task))
    other = like or known.get((study.base, ""))
    if other is None:
        return None
    base: BaseInfo = other.base
    if like is not None:
        data = like.data
    else:
        task = find_task(run.task)
        data = {
            split: DataInfo(examples=task.expected_sizes[split], source="", content_hash="")
            for split in (task.train_split, *task.report_splits)
            if split in task.expected_sizes
        }
    train = data.get(find_task(run.task).train_split)
    if train is None and run.config.max_steps is None:
        return None
    inputs = RunInputs(base=base, task=run.task, task_version=1, data=data, method=dict(run.method), config=run.config)
    steps = planned_steps(run, train.examples if train is not None else 0)
    return pace.seconds(inputs, steps=steps, draws=run.draws if run.method.get("kind") == "supermask" else 0)


def _position(note: dict[str, object], run: RunSpec) -> str:
    words = f"since {note.get('started')}"
    if note.get("host"):
        words += f" on {note['host']}"
    last = RunFolder(Path(str(note.get("work"))) / "run").last_checkpoint()
    return words if last is None else f"past step {last.name.removeprefix('checkpoint-')}, {words}"
