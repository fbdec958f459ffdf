"""What is recorded of a study: its runs with their records and measures, and what these say of an arm on a task."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from supermask.study.expansion import RunSpec, runs_of
from supermask.study.records import RecordStore
from supermask.study.spec import Expected, Study
from supermask.tasks import find_task
from supermask.training import RunRecord

if TYPE_CHECKING:
    from supermask.study.measures import PairMeasures, RunMeasures

__all__ = ["Cell", "Observation", "Seeded", "StudyResults", "collect"]


@final
@dataclass(frozen=True)
class Cell:
    """One run of a study, and what came of it."""

    spec: RunSpec
    record: RunRecord | None = None  # of a run that went through; None if it is missing
    measures: RunMeasures | None = None  # of its delta, if it was measured
    path: str | None = None  # of the record, relative to the store, with forward slashes


@final
@dataclass(frozen=True)
class Seeded:
    """One number by seed, ascending; never empty."""

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
    """One arm of a study on one task: its runs, seeds ascending."""

    results: StudyResults
    arm: str
    task: str
    cells: tuple[Cell, ...]

    @property
    def records(self) -> Mapping[int, RunRecord]:
        """The records by seed."""
        return {cell.spec.seed: cell.record for cell in self.cells if cell.record is not None}

    @property
    def kind(self) -> str:
        """Of the arm's method."""
        return str(self.results.study.arm(self.arm).method["kind"])

    def expected(self, quantity: str) -> Expected | None:
        """The paper's number of it, if it prints one."""
        return self.results.expected(quantity, arm=self.arm, task=self.task)

    def beside(self, arm: str) -> Observation:
        """Another arm on the same task."""
        return self.results.observe(arm, self.task)

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the records, relative to their store."""
        return tuple(cell.path for cell in self.cells if cell.path is not None)

    @property
    def paths_measured(self) -> tuple[str, ...]:
        """Of the records whose delta was measured."""
        return tuple(cell.path for cell, _ in self.measured() if cell.path is not None)

    @property
    def missing(self) -> tuple[str, ...]:
        """The runs that are not there, in words."""
        return tuple(f"{self.task}/{cell.spec.label}" for cell in self.cells if cell.record is None)

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """The runs that are recorded, but whose delta was not measured, in words."""
        cells = (cell for cell in self.cells if cell.record is not None and cell.measures is None)
        return tuple(f"{self.task}/{cell.spec.label} (measures)" for cell in cells)

    def score(self, split: int = 0) -> Seeded | None:
        """Primary metric of the deterministic task model in percent, on one of the task's report splits, if any."""
        return self.of_records(
            lambda record: _percent(record.scores.get(self._split(split), {}).get(find_task(self.task).primary_metric))
        )

    def draws(self, split: int = 0) -> Mapping[int, tuple[float, ...]]:
        """The scores of sampled masks by seed, in percent."""
        found = {}
        for seed, record in self.records.items():
            spread = record.sampled_scores.get(self._split(split), {}).get(find_task(self.task).primary_metric)
            if spread is not None and spread.values and all(map(math.isfinite, spread.values)):
                found[seed] = tuple(100 * value for value in spread.values)
        return found

    def sampled_score(self, split: int = 0) -> Seeded | None:
        """The mean over the draws of each run, in percent; None if nothing was sampled."""
        draws = self.draws(split)
        return Seeded({seed: statistics.fmean(values) for seed, values in draws.items()}) if draws else None

    def final_score(self, split: int = 0) -> Seeded | None:
        """What an arm is compared by: where it samples the mean over draws, else the score."""
        return self.sampled_score(split) or self.score(split)

    def draw_sd(self, split: int = 0) -> float | None:
        """Standard deviation over the draws of a run, pooled over runs; None if nothing was sampled."""
        variances = [statistics.variance(values) for values in self.draws(split).values() if len(values) > 1]
        return math.sqrt(statistics.fmean(variances)) if variances else None

    def sparsity(self) -> Seeded | None:
        """Zeros of the thresholded or pruned mask among the weights that may be zeroed, in percent."""
        return self.of_records(
            lambda record: 100 * record.delta.sparsity if record.delta and record.delta.constrained_weights else None
        )

    def sampled_sparsity(self) -> Seeded | None:
        """Expected zeros of a sampled mask among the weights that may be zeroed, in percent."""
        return self.of_records(lambda record: _percent(record.sampled_sparsity))

    def steps(self) -> Seeded | None:
        """Optimizer steps."""
        return self.of_records(lambda record: float(record.steps))

    def of_records(self, read: Callable[[RunRecord], float | None]) -> Seeded | None:
        """A number of each record by seed; what is None or not finite is left out."""
        every = {seed: read(record) for seed, record in self.records.items()}
        found = {seed: value for seed, value in every.items() if value is not None and math.isfinite(value)}
        return Seeded(found) if found else None

    def measured(self) -> tuple[tuple[Cell, RunMeasures], ...]:
        """The cells whose delta was measured, with the measures."""
        return tuple((cell, cell.measures) for cell in self.cells if cell.measures is not None)

    def _split(self, index: int) -> str:
        splits = find_task(self.task).report_splits
        return splits[index] if index < len(splits) else ""


@final
@dataclass(frozen=True)
class StudyResults:
    """A study with all that is recorded of it."""

    study: Study
    cells: tuple[Cell, ...]  # one a run, in the order of `runs_of`; after an arm's own seeds others that are recorded
    pairs: tuple[PairMeasures, ...] = ()  # overlaps between two runs' masks, if the study measures them

    @property
    def missing(self) -> tuple[Cell, ...]:
        """The cells without a record."""
        return tuple(cell for cell in self.cells if cell.record is None)

    @property
    def paths(self) -> tuple[str, ...]:
        """Of all records, relative to their store."""
        return tuple(cell.path for cell in self.cells if cell.path is not None)

    def observe(self, arm: str, task: str) -> Observation:
        """What there is of one arm on one task."""
        return Observation(self, arm, task, self._grouped.get((arm, task), ()))

    def over_tasks(self, arm: str) -> tuple[Observation, ...]:
        """One arm on each of the study's tasks."""
        return tuple(self.observe(arm, task) for task in self.study.tasks)

    def expected(self, quantity: str, *, arm: str | None = None, task: str | None = None) -> Expected | None:
        """The paper's number, if it prints one."""
        asked = arm, task, quantity
        return next((one for one in self.study.expected if (one.arm, one.task, one.quantity) == asked), None)

    def subset(self, task: str) -> str | None:
        """Which part of a task's official examples was learnt from or scored on, in words; None if all were."""
        records = (cell.record for cell in self.cells if cell.spec.task == task and cell.record is not None)
        data = ((split.replace("_", " "), info) for record in records for split, info in record.inputs.data.items())
        parts = (f"{one.examples:,} of {one.official_size:,} {split} examples" for split, one in data if one.is_subset)
        return ", ".join(dict.fromkeys(parts)) or None

    @functools.cached_property
    def _grouped(self) -> Mapping[tuple[str, str], tuple[Cell, ...]]:
        groups: dict[tuple[str, str], list[Cell]] = {}
        for cell in self.cells:
            groups.setdefault((cell.spec.arm, cell.spec.task), []).append(cell)
        return {place: tuple(sorted(cells, key=lambda cell: cell.spec.seed)) for place, cells in groups.items()}


def collect(study: Study, store: RecordStore, *, more_seeds: bool = True) -> StudyResults:
    """Look up every run of a study in a store; runs without a record are cells without one.

    Args:
        study: the study, overridden as it may be (`supermask.study.overridden`).
        store: the records.
        more_seeds: also take runs of the study's arms and tasks with other seeds that happen to be recorded.
    """
    groups: dict[tuple[str, str], list[RunSpec]] = {}
    for run in runs_of(study):
        groups.setdefault((run.task, run.arm), []).append(run)
    cells = []
    for group in groups.values():
        planned = {run.seed for run in group}
        recorded = store.seeds_of(group[0], base=study.base) if more_seeds else []
        further = [group[0].with_seed(seed) for seed in recorded if seed not in planned]
        for run in (*group, *further):
            stored = store.find(run, base=study.base)
            found = (stored.record, store.measures(stored.path), stored.path) if stored else ()
            cells.append(Cell(run, *found))
    paths = {cell.path for cell in cells if cell.path is not None}
    return StudyResults(study, tuple(cells), store.pairs(paths) if "overlap" in study.measures else ())


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction
