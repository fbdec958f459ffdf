"""What is to be done for studies: which runs are recorded, and an order for each that is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from supermask.errors import ConfigurationError
from supermask.settings import RunSettings
from supermask.study.expansion import RunSpec, address, planned_steps, runs_of, shared_runs
from supermask.study.inputs import check_inputs, slots_of
from supermask.study.orders import RunOrder, RunState, holders, is_claimed, lock_path, reached_step
from supermask.study.pace import Pace, seconds_left
from supermask.study.records import RecordStore, StoredRecord
from supermask.study.spec import Study
from supermask.tasks import find_task
from supermask.training.record import BaseInfo, RunInputs

__all__ = ["Plan", "RunStatus", "plan_studies", "study_status"]


@final
@dataclass(frozen=True)
class Plan:
    """What is to be done for studies on one base, whose inputs are checked: all their runs, each once.

    `slots` are the devices of what runs at a time on this machine; `seconds` is how long what is not recorded takes,
    None if nothing is known of any run.
    """

    settings: RunSettings
    base: BaseInfo
    notes: list[str]
    runs: list[RunOrder]
    slots: tuple[str | None, ...]
    seconds: float | None

    @property
    def orders(self) -> list[RunOrder]:
        """The runs that are not recorded."""
        return [run for run in self.runs if run.state != "recorded"]


def plan_studies(studies: Sequence[Study], settings: RunSettings) -> Plan:
    """Check everything that can be wrong, and say of every run whether it is recorded, and if not, what is to be done.

    Nothing is trained.

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
    compared = {run.key for run in shared_runs(study for study in studies if "overlap" in study.measures)}
    base, inputs, notes = check_inputs(runs, bases[0], settings)
    store = RecordStore(settings.results)
    pace = Pace(store)
    version = None if settings.any_version else __version__
    planned: list[RunOrder] = []
    taken: dict[str, str] = {}
    for run in runs:
        task, data = find_task(run.task), inputs[run.task]
        hashes = {split: info.content_hash for split, info in data.items()}
        examples = {split: info.examples for split, info in data.items()}
        steps = planned_steps(run, examples[task.train_split])
        name = address(
            run.key,
            base_fingerprint=base.fingerprint,
            data=hashes,
            precision=run.config.precision,
            draws=run.draws,
            version=version or __version__,
        )
        stored = store.find(run, fingerprint=base.fingerprint, data=hashes, version=version)
        failed = store.failed(run, base=base.name)
        target = stored.path if stored else store.place_for(run, name, taken)
        taken[target] = name
        busy = is_claimed(lock_path(store.folder, name))
        planned.append(
            RunOrder(
                inputs=RunInputs(
                    base=base,
                    task=run.task,
                    task_version=task.version,
                    data=data,
                    method=run.method,
                    config=run.config.model_copy(update={"checkpoint_steps": settings.checkpoint_steps}),
                ),
                label=run.label,
                draws=run.draws,
                key=run.key,
                address=name,
                settings=settings,
                directory=str(Path.cwd()),
                target=target,
                steps=steps,
                seconds=None if stored else pace.seconds(run, base.fingerprint, steps=steps, examples=examples),
                state="recorded" if stored else "running" if busy else "failed" if failed else "missing",
                compared=run.key in compared,
            )
        )
    slots = slots_of(settings)
    left = [order.seconds for order in planned if order.state != "recorded"]
    return Plan(settings, base, notes, planned, slots, seconds_left(left, len(slots)))


@final
@dataclass(frozen=True)
class RunStatus:
    """Where one run stands.

    Args:
        run, state: the run, and where it stands.
        stored: its record, completed or failed.
        measured: whether readable measures lie beside the record.
        position: how far it is, if it is running.
        seconds: how long it will take, if it is not recorded and that is known.
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
        near = like or known.get((study.base, ""))
        seconds = None
        if near is not None:
            task = find_task(run.task)
            official = {split: task.expected_sizes.get(split, 0) for split in (task.train_split, *task.report_splits)}
            examples = {split: info.examples for split, info in like.data.items()} if like else official
            if examples.get(task.train_split) or run.config.max_steps is not None:
                steps = planned_steps(run, examples.get(task.train_split))
                seconds = pace.seconds(run, near.base.fingerprint, steps=steps, examples=examples)
        failed = store.failed(run, base=study.base)
        if run.key in running:
            found.append(RunStatus(run, "running", failed, position=_position(running[run.key]), seconds=seconds))
        else:
            found.append(RunStatus(run, "failed" if failed else "missing", failed, seconds=seconds))
    return found


def _position(note: Mapping[str, object]) -> str:
    step = reached_step(str(note.get("work")))
    where = f" on {note['host']}" if note.get("host") else ""
    return (f"past step {step}, " if step is not None else "") + f"since {note.get('started')}{where}"
