"""Table 4: how large the weights are that supermasks zero, beside those that magnitude pruning would zero."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

from supermask.report.observation import Observation, expected_number, observe
from supermask.report.results import StudyResults
from supermask.report.tables.cells import (
    PAPER_IN_PARENTHESES,
    absent_runs,
    closing_notes,
    number_cell,
    study_command,
    task_columns,
)
from supermask.report.tables.table import Table, TableCell, TableRow
from supermask.study.measures import RunMeasures
from supermask.study.spec import Expected, Quantity

__all__ = ["table4"]

Read = Callable[[RunMeasures], float | None]


def _pruned_max(measures: RunMeasures) -> float | None:
    against = measures.against_magnitude("global")
    return against.pruned.max if against is not None and against.pruned.weights else None


def _pruned_mean(measures: RunMeasures) -> float | None:
    against = measures.against_magnitude("global")
    return against.pruned.mean if against is not None and against.pruned.weights else None


def _supermask_max(measures: RunMeasures) -> float | None:
    return measures.zeroed.max if measures.zeroed is not None and measures.zeroed.weights else None


def _supermask_mean(measures: RunMeasures) -> float | None:
    return measures.zeroed.mean if measures.zeroed is not None and measures.zeroed.weights else None


def _masked_mean(measures: RunMeasures) -> float | None:
    return measures.masked.mean if measures.masked is not None else None


def _overlap(measures: RunMeasures) -> float | None:
    against = measures.against_magnitude("global")
    return None if against is None else against.overlap


def _overlap_in_tensors(measures: RunMeasures) -> float | None:
    against = measures.against_magnitude("tensor")
    return None if against is None else against.overlap


_ROWS: tuple[tuple[str, Quantity | None, Read, bool], ...] = (
    ("Pruned max", "pruned_max", _pruned_max, False),
    ("Supermask max", "supermask_max", _supermask_max, False),
    ("Pruned mean", "pruned_mean", _pruned_mean, False),
    ("Supermask mean", "supermask_mean", _supermask_mean, False),
    ("mean of all masked weights", None, _masked_mean, True),
    ("Overlap", "overlap", _overlap, False),
    ("each matrix ranked by itself", None, _overlap_in_tensors, True),
)


def table4(results: StudyResults) -> Table:
    """Largest and mean magnitude of zeroed weights and of the smallest ones at equal sparsity, and what both share.

    Args:
        results: of the study; its first arm is shown.

    Source: Table 4 of the paper.
    """
    tasks = results.study.tasks
    arm = results.study.arms[0].name
    seen = {task: observe(results, arm, task) for task in tasks}
    rows = [
        TableRow(
            label=label,
            key=quantity or label.replace(" ", "_"),
            minor=minor,
            cells=tuple(
                _cell(
                    seen[task],
                    read,
                    percent="verlap" in label or "ranked" in label,
                    expected=expected_number(results, quantity, arm=arm, task=task) if quantity is not None else None,
                )
                for task in tasks
            ),
        )
        for label, quantity, read, minor in _ROWS
    ]
    rows.append(
        TableRow(
            label="overlap by chance: the sparsity",
            key="chance",
            minor=True,
            cells=tuple(number_cell(seen[task].sparsity(), seen[task], digits=2, unit="%") for task in tasks),
        )
    )
    return Table(
        name=results.study.name,
        title=f"{results.study.paper}. {results.study.title}",
        corner="magnitude in the base",
        columns=task_columns(results),
        rows=tuple(rows),
        notes=closing_notes(
            results,
            "Of the thresholded mask. “Pruned” are the smallest weights of the base, as many as the mask zeroes, all "
            "matrices ranked together. Overlap: of the weights that the supermask zeroes, those among them. Zeros at "
            "random would overlap by the sparsity.",
            PAPER_IN_PARENTHESES,
        ),
        absent=absent_runs(results),
        command=study_command(results),
    )


def _cell(seen: Observation, read: Read, *, percent: bool, expected: Expected | None) -> TableCell:
    values = {cell.spec.seed: read(measures) for cell, measures in seen.measured()}
    known = [value for value in values.values() if value is not None and math.isfinite(value)]
    paper = None
    if expected is not None:
        paper = f"{100 * expected.value:.1f}%" if percent else _shown(expected.value)
    text = ""
    if known:
        mean = statistics.fmean(known)
        text = f"{100 * mean:.1f}%" if percent else _shown(mean)
    factor = 100.0 if percent else 1.0
    return TableCell(
        text=text,
        value=factor * statistics.fmean(known) if known else None,
        seeds=len(known) or None,
        seed_sd=factor * statistics.stdev(known) if len(known) > 1 else None,
        paper=paper,
        paper_value=factor * expected.value if expected is not None else None,
        records=tuple(cell.path for cell, _ in seen.measured() if cell.path is not None),
        missing=(*seen.missing, *seen.unmeasured),
    )


def _shown(value: float) -> str:
    """A magnitude as the paper writes it: two significant digits.

    Example:
        >>> _shown(0.00931), _shown(0.0319), _shown(1.74)
        ('0.0093', '0.032', '1.7')
    """
    return f"{value:.{max(1, 1 - math.floor(math.log10(value)))}f}" if value > 0 else "0"
