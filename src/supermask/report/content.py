"""What stands in a report: everything from records, gathered as plain values for the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

from supermask.report.observation import display_name, number_ranges
from supermask.report.reading import Finding
from supermask.report.results import Cell, StudyResults
from supermask.study.expansion import RunSpec
from supermask.study.records import RecordStore, default_results
from supermask.study.spec import Study
from supermask.tasks import find_task
from supermask.training import RunRecord

__all__ = [
    "Coverage",
    "DataRow",
    "EnvironmentRow",
    "FailureRow",
    "RunRow",
    "Summary",
    "coverage",
    "data_rows",
    "environment_rows",
    "failure_rows",
    "run_command",
    "run_rows",
    "summary",
]


@final
@dataclass(frozen=True, kw_only=True)
class Summary:
    """The report at a glance.

    Args:
        recorded, planned: runs of the shown studies.
        seeds: in words.
        tasks: in words.
        train_hours: of all recorded runs.
        first, last: dates on which runs were started.
        verdicts: how many findings have each verdict.
    """

    recorded: int
    planned: int
    seeds: str
    tasks: str
    train_hours: float
    first: str
    last: str
    verdicts: Mapping[str, int]


@final
@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How many runs of each arm are recorded on each task.

    Args:
        tasks: names, across.
        rows: arm, its method in words, and a cell a task: recorded, planned, and what that amounts to.
    """

    tasks: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[tuple[int, int, Literal["whole", "partial", "missing", "none"]], ...]], ...]


@final
@dataclass(frozen=True, kw_only=True)
class DataRow:
    """One split of one task, as the runs used it."""

    task: str
    split: str
    examples: int
    official: int | None
    source: str
    content_hash: str
    runs: int


@final
@dataclass(frozen=True, kw_only=True)
class EnvironmentRow:
    """A machine and the versions on it, and how many runs were made there."""

    device: str
    platform: str
    cores: int
    threads: int
    precision: str
    supermask: str
    python: str
    torch: str
    transformers: str
    sources: int
    runs: int


@final
@dataclass(frozen=True, kw_only=True)
class FailureRow:
    """A run that failed, or a file that is no record."""

    path: str
    what: str
    reason: str
    later_completed: bool


@final
@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run of a study: its record and what makes it.

    Args:
        arm: its label.
        task: its name as people write it.
        seed: its seed.
        path: of the record; None if there is none.
        measured: whether its delta was measured.
        score: the primary metric in words.
        command: what makes the record.
    """

    arm: str
    task: str
    seed: int
    path: str | None
    measured: bool
    score: str
    command: str


def run_command(study: Study, store: RecordStore, *, task: str | None = None, seed: int | None = None) -> str:
    """The command line that makes the runs of a study, or one task and seed of it, where they are not recorded.

    Args:
        study: the study, overridden as it may be.
        store: where the records go.
        task: one task alone.
        seed: one seed alone.
    """
    words = ["supermask study run", study.name]
    if study.base != Study.model_fields["base"].default:
        words.append(f"--base {study.base}")
    if task is not None:
        words.append(f"--tasks {task}")
    if seed is not None:
        words.append(f"--seeds {seed}")
    if default_results(study.base).name != store.folder.resolve().name:
        words.append(f"--results {store.folder}")
    return " ".join(words)


def summary(results: Mapping[str, StudyResults], findings: Sequence[Finding]) -> Summary:
    """Counts over all studies; a run that several of them need is counted once.

    Args:
        results: of the studies, by name.
        findings: of all of them.
    """
    cells = _distinct(results)
    records = [cell.record for cell in cells.values() if cell.record is not None]
    dates = sorted(record.started[:10] for record in records)
    return Summary(
        recorded=len(records),
        planned=len(cells),
        seeds=number_ranges(record.inputs.config.seed for record in records) or "none",
        tasks=", ".join(_display(dict.fromkeys(record.inputs.task for record in records))) or "none",
        train_hours=sum(record.train_seconds for record in records) / 3600,
        first=dates[0] if dates else "",
        last=dates[-1] if dates else "",
        verdicts=Counter(finding.verdict for finding in findings),
    )


def coverage(results: Mapping[str, StudyResults]) -> Coverage:
    """What is recorded of every arm on every task, over all studies.

    Args:
        results: of the studies, by name.
    """
    tasks: dict[str, None] = {}
    arms: dict[str, str] = {}
    counts: dict[tuple[str, str], list[int]] = {}
    for cell in _distinct(results).values():
        tasks[cell.spec.task] = None
        arms.setdefault(cell.spec.arm, _method_in_words(cell.spec))
        pair = counts.setdefault((cell.spec.arm, cell.spec.task), [0, 0])
        pair[0] += cell.record is not None
        pair[1] += 1
    rows = []
    for arm, method in arms.items():
        row: list[tuple[int, int, Literal["whole", "partial", "missing", "none"]]] = []
        for task in tasks:
            there, planned = counts.get((arm, task), [0, 0])
            row.append(
                (
                    there,
                    planned,
                    "none" if not planned else "whole" if there == planned else "partial" if there else "missing",
                )
            )
        rows.append((arm, method, tuple(row)))
    return Coverage(tasks=tuple(_display(tasks)), rows=tuple(rows))


def data_rows(results: Mapping[str, StudyResults]) -> tuple[DataRow, ...]:
    """The data that the recorded runs read.

    Args:
        results: of the studies, by name.
    """
    found: Counter[tuple[str, str, int, int | None, str, str]] = Counter()
    for cell in _distinct(results).values():
        if cell.record is not None:
            for split, info in cell.record.inputs.data.items():
                found[
                    display_name(cell.record.inputs.task),
                    split,
                    info.examples,
                    info.official_size,
                    info.source,
                    info.content_hash,
                ] += 1
    return tuple(
        DataRow(
            task=task, split=split, examples=examples, official=official, source=source, content_hash=digest, runs=runs
        )
        for (task, split, examples, official, source, digest), runs in found.items()
    )


def environment_rows(results: Mapping[str, StudyResults]) -> tuple[EnvironmentRow, ...]:
    """The machines and versions that the recorded runs were made with, most runs first.

    Args:
        results: of the studies, by name.
    """
    found: dict[tuple[object, ...], list[RunRecord]] = {}
    for cell in _distinct(results).values():
        if cell.record is not None:
            here = cell.record.environment.model_dump(exclude={"source"})
            found.setdefault((*here.values(), cell.record.precision), []).append(cell.record)
    return tuple(
        EnvironmentRow(
            **records[0].environment.model_dump(exclude={"source"}),
            precision=records[0].precision,
            sources=len({record.environment.source for record in records}),
            runs=len(records),
        )
        for records in sorted(found.values(), key=len, reverse=True)
    )


def failure_rows(store: RecordStore) -> tuple[FailureRow, ...]:
    """Runs that failed, and files of the store that are no records.

    Args:
        store: the records.
    """
    completed = {stored.key for stored in store.records if stored.record.status == "completed"}
    failed = [stored for stored in store.records if stored.record.status != "completed"]
    return (
        *(
            FailureRow(
                path=stored.path,
                what=f"{display_name(stored.record.inputs.task)}, {stored.record.inputs.method['kind']}, "
                f"seed {stored.record.inputs.config.seed}, step {stored.record.steps:,}",
                reason=stored.record.error or "no reason was recorded",
                later_completed=stored.key in completed,
            )
            for stored in failed
        ),
        *(
            FailureRow(path=skipped.path, what="no record", reason=skipped.reason, later_completed=False)
            for skipped in store.skipped
        ),
    )


def run_rows(results: StudyResults, store: RecordStore) -> tuple[RunRow, ...]:
    """Every run of a study.

    Args:
        results: of the study.
        store: the records.
    """
    labels = {arm.name: arm.label for arm in results.study.arms}
    return tuple(
        RunRow(
            arm=labels[cell.spec.arm],
            task=display_name(cell.spec.task),
            seed=cell.spec.seed,
            path=cell.path,
            measured=cell.measures is not None,
            score="" if cell.record is None else _score(cell.record),
            command=run_command(results.study, store, task=cell.spec.task, seed=cell.spec.seed),
        )
        for cell in results.cells
    )


def _score(record: RunRecord) -> str:
    task = find_task(record.inputs.task)
    for split in task.report_splits:
        if task.primary_metric in record.scores.get(split, {}):
            text = f"{100 * record.scores[split][task.primary_metric]:.1f}"
            spread = record.sampled_scores.get(split, {}).get(task.primary_metric)
            return text if spread is None else f"{text}, drawn {100 * spread.mean:.1f}"
    return ""


def _distinct(results: Mapping[str, StudyResults]) -> dict[str, Cell]:
    """Every run once, by its key; a record beats none."""
    found: dict[str, Cell] = {}
    for study in results.values():
        for cell in study.cells:
            before = found.get(cell.spec.key)
            if before is None or before.record is None:
                found[cell.spec.key] = cell
    return found


def _display(tasks: Mapping[str, None]) -> list[str]:
    return [display_name(task) for task in tasks]


def _method_in_words(run: RunSpec) -> str:
    """A method's settings that differ from its defaults."""
    from supermask.methods import METHODS

    kind = str(run.method["kind"])
    plain = METHODS[kind]().describe()
    words = [f"{name} {_shown(value)}" for name, value in run.method.items() if plain.get(name) != value]
    if run.config.learning_rate != type(run.config)().learning_rate:
        words.append(f"learning rate of weights {run.config.learning_rate:g}")
    return ", ".join([kind, *words])


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
