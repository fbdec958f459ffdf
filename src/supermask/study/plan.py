"""What is to be done for studies: which runs are recorded, an order for each that is not, and how long it takes."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from supermask.errors import ConfigurationError
from supermask.study.expansion import RunSpec, address, planned_steps, runs_of, shared_runs
from supermask.study.inputs import CheckedInputs, RunSettings, check_inputs
from supermask.study.measuring import keeps_delta
from supermask.study.orders import RunOrder, holders, is_claimed, lock_path, reached_step
from supermask.study.records import RecordStore, StoredRecord, content_hashes
from supermask.study.spec import Study
from supermask.tasks import find_task
from supermask.training.record import DataInfo, RunInputs

__all__ = [
    "Pace",
    "Plan",
    "PlannedRun",
    "RunState",
    "RunStatus",
    "plan_studies",
    "seconds_left",
    "shown_duration",
    "study_status",
]

RunState = Literal["recorded", "running", "failed", "missing"]


@final
@dataclass(frozen=True)
class PlannedRun:
    """One run, and what becomes of it.

    Args:
        order: all that a worker needs.
        state: `recorded`, `missing`, `failed` (before, and to be tried again) or `running` (by another process).
        stored: the record, completed or failed, where there is one.
    """

    order: RunOrder
    state: RunState
    stored: StoredRecord | None


@final
@dataclass(frozen=True)
class Plan:
    """What is to be done for studies whose inputs are checked.

    Args:
        studies: the studies, all on one base.
        settings: where and how.
        inputs: base and data.
        store: the records.
        runs: all runs of the studies, each once.
    """

    studies: tuple[Study, ...]
    settings: RunSettings
    inputs: CheckedInputs
    store: RecordStore
    runs: tuple[PlannedRun, ...]

    @property
    def orders(self) -> list[RunOrder]:
        """The runs that are not recorded."""
        return [run.order for run in self.runs if run.state != "recorded"]

    @property
    def states(self) -> dict[RunState, int]:
        """How many runs are in which state."""
        return dict(Counter(run.state for run in self.runs))


@final
class Pace:
    """Seconds a step and seconds a scored example, as recorded; what was not completed is left out."""

    def __init__(self, store: RecordStore) -> None:
        self._training: dict[tuple[str, ...], list[float]] = {}
        self._scoring: dict[tuple[str, ...], list[float]] = {}
        for stored in store.records:
            record = stored.record
            if record.status == "completed" and record.steps and record.train_seconds > 0:
                inputs = record.inputs
                scored = _scored(_examples(inputs.data)) * (1 + (stored.draws or 0))
                kind = str(inputs.method.get("kind"))
                for place in _places(inputs.base.fingerprint, inputs.config.batch_size, inputs.task, kind):
                    self._training.setdefault(place, []).append(record.train_seconds / record.steps)
                    if scored:
                        self._scoring.setdefault(place, []).append(record.evaluation_seconds / scored)

    def seconds(self, run: RunSpec, steps: int, base: str, examples: Mapping[str, int]) -> float | None:
        """How long a run takes; None if there is no record of the base at all.

        The closest records count: of the same task and method, else of the task, else of the base.

        Args:
            run: the run.
            steps: its optimizer steps.
            base: fingerprint of its base.
            examples: split to how many it has.
        """
        kind = str(run.method.get("kind"))
        places = _places(base, run.config.batch_size, run.task, kind)
        step, example = (
            next((statistics.median(pace[place]) for place in places if place in pace), None)
            for pace in (self._training, self._scoring)
        )
        if step is None or example is None:
            return None
        passes = 1 + (run.draws if kind == "supermask" else 0)
        return steps * step + _scored(examples) * passes * example


def plan_studies(studies: Sequence[Study], settings: RunSettings) -> Plan:
    """Check everything that can be wrong, and say of every run whether it is recorded, and if not, what is to be done.

    Nothing is trained.

    Args:
        studies: what to run; all on one base.
        settings: where and how.

    Raises:
        ConfigurationError: naming all faults together.
    """
    from supermask import __version__

    bases = list(dict.fromkeys(study.base for study in studies))
    if len(bases) != 1:
        raise ConfigurationError(
            f"studies are run on one base at a time, received {', '.join(bases) or 'no study'}; name it with --base"
        )
    runs = shared_runs(studies)
    inputs = check_inputs(runs, bases[0], settings)
    store = RecordStore(settings.results)
    pace = Pace(store)
    version = None if settings.any_version else __version__
    planned: list[PlannedRun] = []
    taken: dict[str, str] = {}
    for run in runs:
        data = inputs.data[run.task]
        hashes = content_hashes(data)
        name = address(
            run.key,
            base_fingerprint=inputs.fingerprint,
            data=hashes,
            precision=run.config.precision,
            draws=run.draws,
            version=version or __version__,
        )
        task = find_task(run.task)
        steps = planned_steps(run, data[task.train_split].examples)
        stored = store.find(run, fingerprint=inputs.fingerprint, data=hashes, version=version)
        failed = store.failed(run, base=inputs.bases[run.task].name) if stored is None else None
        target = stored.path if stored else store.place_for(run, name, taken)
        taken[target] = name
        busy = is_claimed(lock_path(store.folder, name))
        order = RunOrder(
            task=run.task,
            task_version=task.version,
            label=run.label,
            method=run.method,
            config=run.config.model_copy(update={"checkpoint_steps": settings.checkpoint_steps}),
            draws=run.draws,
            key=run.key,
            address=name,
            base=inputs.bases[run.task],
            data=data,
            data_dir=settings.data_dir,
            limit=settings.limit,
            dev_limit=settings.dev_limit,
            directory=str(Path.cwd()),
            store=str(store.folder),
            target=target,
            work=str(settings.work_folder / name),
            keep_delta=keeps_delta(settings.keep_deltas, run.method),
            use_cpu=settings.use_cpu,
            steps=steps,
            seconds=None if stored else pace.seconds(run, steps, inputs.fingerprint, _examples(data)),
        )
        state: RunState = "recorded" if stored else "running" if busy else "failed" if failed else "missing"
        planned.append(PlannedRun(order, state, stored or failed))
    return Plan(tuple(studies), settings, inputs, store, tuple(planned))


@final
@dataclass(frozen=True)
class RunStatus:
    """Where one run stands.

    Args:
        run: the run.
        state: where it stands.
        stored: its record, completed or failed.
        measured: whether readable measures lie beside the record.
        position: how far it is, if it is running.
        seconds: how long it will take, from like runs; None if nothing like it is recorded, or it is recorded.
    """

    run: RunSpec
    state: RunState
    stored: StoredRecord | None = None
    measured: bool = False
    position: str | None = None
    seconds: float | None = None


def study_status(study: Study, store: RecordStore) -> list[RunStatus]:
    """Look every run of a study up, without loading base or data.

    Whether a record is of the data and the version of today is not asked here; `plan_studies` does ask.
    """
    pace = Pace(store)
    running = {str(note.get("key")): note for note in holders(store.folder).values()}
    # What is recorded of bases and of data: the newest inputs by base and task, and by base alone.
    known: dict[tuple[str | None, str], RunInputs] = {}
    for stored in sorted(store.records, key=lambda stored: stored.record.started):
        inputs = stored.record.inputs
        known[inputs.base.name, inputs.task] = known[inputs.base.name, ""] = inputs
    found = []
    for run in runs_of(study):
        answer = store.find(run, base=study.base)
        if answer is not None:
            found.append(RunStatus(run, "recorded", answer, store.measures(answer.path) is not None))
            continue
        like = known.get((study.base, run.task))
        base = like or known.get((study.base, ""))
        task = find_task(run.task)
        read = (task.train_split, *task.report_splits)
        official = {split: count for split, count in task.expected_sizes.items() if split in read}
        examples = _examples(like.data) if like else official
        seconds = None
        if base is not None and (task.train_split in examples or run.config.max_steps is not None):
            steps = planned_steps(run, examples.get(task.train_split, 0))
            seconds = pace.seconds(run, steps, base.base.fingerprint, examples)
        failed = store.failed(run, base=study.base)
        if run.key in running:
            found.append(RunStatus(run, "running", failed, position=_position(running[run.key]), seconds=seconds))
        else:
            found.append(RunStatus(run, "failed" if failed else "missing", failed, seconds=seconds))
    return found


def seconds_left(seconds: Sequence[float | None], slots: int = 1, took: Sequence[float] = ()) -> float | None:
    """How long runs take; None if nothing is known of any.

    Args:
        seconds: what each is thought to take; one of which nothing is known counts like the mean of the rest.
        slots: how many run at a time.
        took: what runs took that were made meanwhile, which count if nothing else is known.

    Example:
        >>> seconds_left([100.0, None, 50.0], slots=3), seconds_left([None], took=[7.0]), seconds_left([None])
        (75.0, 7.0, None)
    """
    known = [one for one in seconds if one is not None] or took
    if not seconds:
        return 0.0
    return statistics.fmean(known) * len(seconds) / slots if known else None


def shown_duration(seconds: float | None) -> str:
    """A duration for people.

    Example:
        >>> shown_duration(75), shown_duration(4000), shown_duration(200_000), shown_duration(None)
        ('1 min 15 s', '1 h 06 min', '2 d 7 h', 'unknown')
    """
    if seconds is None:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _places(base: str, batch_size: int, task: str, kind: str) -> list[tuple[str, ...]]:
    batch = str(batch_size)
    return [(base, batch, task, kind), (base, batch, task), (base, batch)]


def _examples(data: Mapping[str, DataInfo]) -> dict[str, int]:
    return {split: info.examples for split, info in data.items()}


def _scored(examples: Mapping[str, int]) -> int:
    return sum(count for split, count in examples.items() if split != "train")


def _position(note: Mapping[str, object]) -> str:
    step = reached_step(str(note.get("work")))
    words = [f"past step {step}" if step is not None else "", f"since {note.get('started')}"]
    where = f" on {note['host']}" if note.get("host") else ""
    return ", ".join(word for word in words if word) + where
