"""Table 5: low-sparsity supermasks beside the baseline, a column a task."""

from __future__ import annotations

from supermask.report.observation import Observation, expected_number, observe
from supermask.report.results import StudyResults
from supermask.report.tables.cells import (
    PAPER_IN_PARENTHESES,
    absent_runs,
    closing_notes,
    difference_cell,
    draws_cell,
    number_cell,
    score_cell,
    seeds_cell,
    study_command,
    task_columns,
    winner,
)
from supermask.report.tables.table import Table, TableRow
from supermask.study.spec import Arm

__all__ = ["table5"]


def table5(results: StudyResults) -> Table:
    """Scores of the baselines and of every supermask, the difference, and the zeros.

    A score is in bold where it is better than its counterpart (first baseline against supermask) beyond the spread
    between seeds, as `supermask.report.statistics.distinguishable` has it.

    Args:
        results: of the study.

    Source: Table 5 of the paper.
    """
    baselines = [arm for arm in results.study.arms if arm.method["kind"] != "supermask"]
    masks = [arm for arm in results.study.arms if arm.method["kind"] == "supermask"]
    rows = []
    for arm in baselines:
        compared = [masks[0], baselines[0]] if masks and arm is baselines[0] else []
        rows.append(_scores(results, arm, arm.label, compared, sampled=False))
    for arm in masks:
        rows += _mask_rows(results, arm, baselines, alone=len(masks) == 1)
    rows.append(
        TableRow(
            label=f"Seeds ({' / '.join(arm.name for arm in results.study.arms)})",
            key="seeds",
            minor=True,
            cells=tuple(
                seeds_cell([observe(results, arm.name, task) for arm in results.study.arms])
                for task in results.study.tasks
            ),
        )
    )
    return Table(
        name=results.study.name,
        title=f"{results.study.paper}. {results.study.title}",
        corner="",
        columns=task_columns(results),
        rows=tuple(rows),
        notes=closing_notes(
            results,
            PAPER_IN_PARENTHESES,
            "± behind a score is the standard deviation over seeds; the row “over draws” is that of the 10 masks drawn "
            "from one run, which is the paper's ±. In brackets: 95 % interval of a difference, where seeds allow one. "
            "Bold: better than its counterpart beyond the spread between seeds.",
            "The paper does not say whether its sparsity is of draws or thresholded; its number stands at both.",
        ),
        absent=absent_runs(results),
        command=study_command(results),
    )


def _scores(results: StudyResults, arm: Arm, label: str, compared: list[Arm], *, sampled: bool) -> TableRow:
    cells = []
    for task in results.study.tasks:
        seen = observe(results, arm.name, task)
        strong = False
        if compared:
            first, second = (observe(results, one.name, task) for one in compared)
            better = winner(first, second, results)
            strong = better == (1 if arm is compared[0] else -1)
        expected = [
            expected_number(results, "score", arm=arm.name, task=task),
            expected_number(results, "score_mismatched", arm=arm.name, task=task),
        ]
        cells.append(score_cell(seen, sampled=sampled, expected=expected, strong=strong))
    key = f"{arm.name}.{'sampled' if sampled else 'score'}"
    return TableRow(label=label, key=key, cells=tuple(cells))


def _mask_rows(results: StudyResults, arm: Arm, baselines: list[Arm], *, alone: bool) -> list[TableRow]:
    tasks = results.study.tasks
    seen = {task: observe(results, arm.name, task) for task in tasks}
    rows = [
        _scores(results, arm, f"{arm.label}, sampled", [arm, baselines[0]] if baselines else [], sampled=True),
        TableRow(
            label="over draws",
            key=f"{arm.name}.draw_sd",
            minor=True,
            cells=tuple(
                draws_cell(seen[task], expected_number(results, "score", arm=arm.name, task=task)) for task in tasks
            ),
        ),
        TableRow(
            label=f"{arm.label}, thresholded",
            key=f"{arm.name}.thresholded",
            cells=tuple(score_cell(seen[task], sampled=False) for task in tasks),
        ),
    ]
    for baseline in baselines:
        rows.append(
            TableRow(
                label=f"Sampled less {baseline.label[:1].lower()}{baseline.label[1:]}"
                if alone
                else f"{arm.label}, sampled, less {baseline.label[:1].lower()}{baseline.label[1:]}",
                key=f"{arm.name}.less.{baseline.name}",
                cells=tuple(
                    difference_cell(
                        seen[task],
                        observe(results, baseline.name, task),
                        results,
                        paper=(
                            expected_number(results, "score", arm=arm.name, task=task),
                            expected_number(results, "score", arm=baseline.name, task=task),
                        ),
                    )
                    for task in tasks
                ),
            )
        )
    return [*rows, *_zeros(results, arm, seen)]


def _zeros(results: StudyResults, arm: Arm, seen: dict[str, Observation]) -> list[TableRow]:
    tasks = results.study.tasks
    expected = {task: expected_number(results, "sparsity", arm=arm.name, task=task) for task in tasks}
    return [
        TableRow(
            label=f"Final sparsity, {name}",
            key=f"{arm.name}.sparsity.{name}",
            cells=tuple(
                number_cell(
                    seen[task].sampled_sparsity() if name == "sampled" else seen[task].sparsity(),
                    seen[task],
                    digits=2,
                    paper_digits=1,
                    unit="%",
                    expected=expected[task],
                )
                for task in tasks
            ),
        )
        for name in ("sampled", "thresholded")
    ]
