"""Table 6: the learning rate of mask logits, a column each."""

from __future__ import annotations

from supermask.report.observation import display_name, expected_number, metric_name, observe
from supermask.report.results import StudyResults
from supermask.report.tables.cells import (
    PAPER_IN_PARENTHESES,
    absent_runs,
    closing_notes,
    draws_cell,
    number_cell,
    score_cell,
    seeds_cell,
    study_command,
)
from supermask.report.tables.table import Table, TableColumn, TableRow

__all__ = ["table6"]


def table6(results: StudyResults) -> Table:
    """Scores and zeros, a column an arm.

    Args:
        results: of the study.

    Source: Table 6 of the paper.
    """
    rows = [row for task in results.study.tasks for row in _rows(results, task)]
    return Table(
        name=results.study.name,
        title=f"{results.study.paper}. {results.study.title}",
        corner="learning rate",
        columns=tuple(TableColumn(title=arm.label, key=arm.name) for arm in results.study.arms),
        rows=tuple(rows),
        notes=closing_notes(
            results,
            f"{PAPER_IN_PARENTHESES} ± behind a score is over seeds; “over draws” is within a run, which is the "
            f"paper's ±.",
        ),
        absent=absent_runs(results),
        command=study_command(results),
    )


def _rows(results: StudyResults, task: str) -> list[TableRow]:
    arms = [arm.name for arm in results.study.arms]
    seen = [observe(results, arm, task) for arm in arms]
    expected = [expected_number(results, "score", arm=arm, task=task) for arm in arms]
    name = f"{display_name(task)} {metric_name(task)}" if len(results.study.tasks) > 1 else f"{metric_name(task)} score"
    return [
        TableRow(
            label=f"{name}, sampled",
            key=f"{task}.sampled",
            cells=tuple(
                score_cell(one, sampled=True, expected=[number]) for one, number in zip(seen, expected, strict=True)
            ),
        ),
        TableRow(
            label="over draws",
            key=f"{task}.draw_sd",
            minor=True,
            cells=tuple(draws_cell(one, number) for one, number in zip(seen, expected, strict=True)),
        ),
        TableRow(
            label=f"{name}, thresholded",
            key=f"{task}.thresholded",
            cells=tuple(score_cell(one, sampled=False) for one in seen),
        ),
        TableRow(
            label="Zeros, sampled",
            key=f"{task}.sparsity.sampled",
            cells=tuple(number_cell(one.sampled_sparsity(), one, digits=2, unit="%") for one in seen),
        ),
        TableRow(
            label="Zeros, thresholded",
            key=f"{task}.sparsity.thresholded",
            cells=tuple(number_cell(one.sparsity(), one, digits=2, unit="%") for one in seen),
        ),
        TableRow(label="Seeds", key=f"{task}.seeds", minor=True, cells=tuple(seeds_cell([one]) for one in seen)),
    ]
