"""What is recorded of a study: its runs, each with its record and its measures, as far as they are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from supermask.study.expansion import RunSpec, runs_of
from supermask.study.records import RecordStore
from supermask.study.spec import Study
from supermask.training import RunRecord

if TYPE_CHECKING:
    from supermask.study.measures import PairMeasures, RunMeasures

__all__ = ["Cell", "StudyResults", "collect"]


@final
@dataclass(frozen=True)
class Cell:
    """One run of a study, and what came of it.

    Args:
        spec: the run.
        record: its record; None if it is missing.
        measures: what was measured on its delta; None if nothing was.
        path: the record's path, relative to the store, with forward slashes.
    """

    spec: RunSpec
    record: RunRecord | None = None
    measures: RunMeasures | None = None
    path: str | None = None


@final
@dataclass(frozen=True)
class StudyResults:
    """A study with all that is recorded of it.

    Args:
        study: the study.
        cells: one a run, in the order of `runs_of`; further seeds that are recorded come after those of the study.
        pairs: overlaps between the masks of two of the study's runs, if it measures them.
    """

    study: Study
    cells: tuple[Cell, ...]
    pairs: tuple[PairMeasures, ...] = ()

    @property
    def missing(self) -> tuple[Cell, ...]:
        """The cells without a record."""
        return tuple(cell for cell in self.cells if cell.record is None)

    def of(self, *, task: str | None = None, arm: str | None = None) -> tuple[Cell, ...]:
        """The cells of a task, an arm, or both; missing ones, too.

        Args:
            task: name of the task.
            arm: name of the arm.
        """
        return tuple(
            cell
            for cell in self.cells
            if (task is None or cell.spec.task == task) and (arm is None or cell.spec.arm == arm)
        )


def collect(study: Study, store: RecordStore, *, more_seeds: bool = True) -> StudyResults:
    """Look up every run of a study in a store; nothing is computed.

    Args:
        study: the study, overridden as it may be (`supermask.study.overridden`).
        store: the records.
        more_seeds: also take runs of the study's arms and tasks with other seeds that happen to be recorded.

    Returns:
        The results; runs without a record are cells without one.
    """
    cells = []
    runs = runs_of(study)
    planned = {(run.task, run.arm, run.seed) for run in runs}
    for (task, arm), group in _grouped(runs).items():
        further = [
            group[0].with_seed(seed)
            for seed in (store.seeds_of(group[0], base=study.base) if more_seeds else ())
            if (task, arm, seed) not in planned
        ]
        cells += [_cell(run, study, store) for run in (*group, *further)]
    paths = {cell.path for cell in cells if cell.path is not None}
    return StudyResults(study, tuple(cells), store.pairs(paths) if "overlap" in study.measures else ())


def _cell(run: RunSpec, study: Study, store: RecordStore) -> Cell:
    stored = store.find(run, base=study.base)
    if stored is None:
        return Cell(run)
    return Cell(run, stored.record, store.measures(stored.path), stored.path)


def _grouped(runs: list[RunSpec]) -> dict[tuple[str, str], list[RunSpec]]:
    groups: dict[tuple[str, str], list[RunSpec]] = {}
    for run in runs:
        groups.setdefault((run.task, run.arm), []).append(run)
    return groups
