"""What the records say of one arm on one task: the ground of every table and figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import final

from supermask.report.results import Cell, StudyResults
from supermask.study.measures import RunMeasures
from supermask.study.spec import Expected, Quantity
from supermask.tasks import find_task
from supermask.training import RunRecord

__all__ = [
    "Observation",
    "Seeded",
    "display_name",
    "expected_number",
    "metric_name",
    "missing_in_words",
    "number_ranges",
    "observe",
    "subset_note",
]

_DISPLAY = {"mnli": "MNLI", "qqp": "QQP", "qnli": "QNLI", "sst2": "SST-2", "cola": "CoLA", "stsb": "STS-B"}
_METRICS = {"f1": "F1", "spearman": "Spearman", "matthews": "Matthews", "accuracy": "accuracy"}


@final
@dataclass(frozen=True)
class Seeded:
    """One number by seed.

    Args:
        values: by seed, ascending; never empty.
    """

    values: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.values.values())

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over the seeds; None for a single one."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None


@final
@dataclass(frozen=True)
class Observation:
    """One arm on one task: the runs that are recorded and those that are not.

    Args:
        task: name of the task.
        arm: name of the arm.
        recorded: cells with a completed record, seeds ascending.
        absent: cells without one.
    """

    task: str
    arm: str
    recorded: tuple[Cell, ...]
    absent: tuple[Cell, ...]

    @property
    def planned(self) -> bool:
        """Whether the study has this arm on this task at all."""
        return bool(self.recorded or self.absent)

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the records, relative to their store."""
        return tuple(cell.path for cell in self.recorded if cell.path is not None)

    @property
    def missing(self) -> tuple[str, ...]:
        """The runs that are not there, in words."""
        return tuple(f"{self.task}/{cell.spec.label}" for cell in self.absent)

    def score(self, split: int = 0) -> Seeded | None:
        """Primary metric of the deterministic task model in percent; None if there is none.

        Args:
            split: which of the task's report splits.
        """

        def read(record: RunRecord) -> float | None:
            value = record.scores.get(self._split(split), {}).get(self._metric)
            return None if value is None else 100 * value

        return self.of_records(read)

    def sampled_score(self, split: int = 0) -> Seeded | None:
        """The mean over the draws of each run, in percent; None if nothing was sampled."""
        draws = self.draws(split)
        return _seeded({seed: statistics.fmean(values) for seed, values in draws.items()})

    def draws(self, split: int = 0) -> Mapping[int, tuple[float, ...]]:
        """The scores of sampled masks by seed, in percent."""
        found = {}
        for cell in self.recorded:
            assert cell.record is not None
            spread = cell.record.sampled_scores.get(self._split(split), {}).get(self._metric)
            if spread is not None and spread.values and all(map(math.isfinite, spread.values)):
                found[cell.spec.seed] = tuple(100 * value for value in spread.values)
        return found

    def draw_sd(self, split: int = 0) -> float | None:
        """Standard deviation over the draws of a run, pooled over runs; None if nothing was sampled."""
        variances = [statistics.variance(values) for values in self.draws(split).values() if len(values) > 1]
        return math.sqrt(statistics.fmean(variances)) if variances else None

    def sparsity(self) -> Seeded | None:
        """Zeros of the thresholded or pruned mask among the weights that may be zeroed, in percent."""

        def read(record: RunRecord) -> float | None:
            delta = record.delta
            return 100 * delta.sparsity if delta is not None and delta.constrained_weights else None

        return self.of_records(read)

    def sampled_sparsity(self) -> Seeded | None:
        """Expected zeros of a sampled mask among the weights that may be zeroed, in percent."""
        return self.of_records(
            lambda record: None if record.sampled_sparsity is None else 100 * record.sampled_sparsity
        )

    def steps(self) -> Seeded | None:
        """Optimizer steps."""
        return self.of_records(lambda record: float(record.steps))

    def of_records(self, read: Callable[[RunRecord], float | None]) -> Seeded | None:
        """A number of each record by seed; what is None or not finite is left out."""
        pairs = ((cell.spec.seed, read(cell.record)) for cell in self.recorded if cell.record is not None)
        return _seeded({seed: value for seed, value in pairs if value is not None and math.isfinite(value)})

    def measured(self) -> tuple[tuple[Cell, RunMeasures], ...]:
        """The cells whose delta was measured, with the measures."""
        return tuple((cell, cell.measures) for cell in self.recorded if cell.measures is not None)

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """The runs that are recorded, but whose delta was not measured, in words."""
        return tuple(f"{self.task}/{cell.spec.label} (measures)" for cell in self.recorded if cell.measures is None)

    @property
    def _metric(self) -> str:
        return find_task(self.task).primary_metric

    def _split(self, index: int) -> str:
        splits = find_task(self.task).report_splits
        return splits[index] if index < len(splits) else ""


def observe(results: StudyResults, arm: str, task: str) -> Observation:
    """What there is of one arm on one task.

    Args:
        results: of a study.
        arm: name of the arm.
        task: name of the task.
    """
    cells = sorted(
        (cell for cell in results.cells if cell.spec.arm == arm and cell.spec.task == task),
        key=lambda cell: cell.spec.seed,
    )
    done = [cell.record is not None and cell.record.status == "completed" for cell in cells]
    return Observation(
        task=task,
        arm=arm,
        recorded=tuple(cell for cell, there in zip(cells, done, strict=True) if there),
        absent=tuple(cell for cell, there in zip(cells, done, strict=True) if not there),
    )


def expected_number(
    results: StudyResults, quantity: Quantity, *, arm: str | None = None, task: str | None = None
) -> Expected | None:
    """The paper's number, if it prints one."""
    for number in results.study.expected:
        if (number.arm, number.task, number.quantity) == (arm, task, quantity):
            return number
    return None


def display_name(task: str) -> str:
    """A task's name as people write it.

    Example:
        >>> display_name("stsb"), display_name("mrpc"), display_name("probe-sentiment")
        ('STS-B', 'MRPC', 'probe-sentiment')
    """
    return _DISPLAY.get(task, task.upper() if task.isalpha() else task)


def metric_name(task: str) -> str:
    """The primary metric of a task as people write it.

    Example:
        >>> metric_name("mrpc"), metric_name("cola")
        ('F1', 'Matthews')
    """
    metric = find_task(task).primary_metric
    return _METRICS.get(metric, metric)


def subset_note(results: StudyResults, task: str) -> str | None:
    """That a task was learnt from, or scored on, part of its official examples, in words; None if on all of them."""
    parts: dict[str, None] = {}
    for cell in results.cells:
        if cell.spec.task == task and cell.record is not None:
            for split, info in cell.record.inputs.data.items():
                if info.is_subset:
                    parts[f"{info.examples:,} of {info.official_size:,} {split.replace('_', ' ')} examples"] = None
    return f"{display_name(task)} is a subset: {', '.join(parts)}" if parts else None


def missing_in_words(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Runs as few phrases as an enumeration allows: arms that lack the same tasks and seeds are named together.

    Args:
        cells: of the runs.

    Returns:
        Such as `supermask-init70, supermask-init90: MRPC, RTE (seed 0)`.
    """
    seeds: dict[str, dict[str, list[int]]] = {}
    for cell in cells:
        seeds.setdefault(cell.spec.arm, {}).setdefault(cell.spec.task, []).append(cell.spec.seed)
    arms: dict[tuple[tuple[str, tuple[int, ...]], ...], list[str]] = {}
    for arm, of_task in seeds.items():
        arms.setdefault(tuple((task, tuple(sorted(numbers))) for task, numbers in of_task.items()), []).append(arm)
    return tuple(f"{', '.join(names)}: {_tasks_and_seeds(lacking)}" for lacking, names in arms.items())


def _tasks_and_seeds(lacking: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    of_seeds: dict[tuple[int, ...], list[str]] = {}
    for task, numbers in lacking:
        of_seeds.setdefault(numbers, []).append(display_name(task))
    return ", ".join(
        f"{', '.join(tasks)} ({'seed' if len(numbers) == 1 else 'seeds'} {number_ranges(numbers)})"
        for numbers, tasks in of_seeds.items()
    )


def number_ranges(numbers: Iterable[int]) -> str:
    """Whole numbers, neighbours put together.

    Example:
        >>> number_ranges([0, 3, 4, 5, 9])
        '0, 3–5, 9'
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _seeded(values: dict[int, float]) -> Seeded | None:
    return Seeded(dict(sorted(values.items()))) if values else None
