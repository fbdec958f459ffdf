"""Table 1: what a task adds to the base, and how many steps its fine-tuning takes."""

from __future__ import annotations

from supermask.report.observation import display_name, expected_number, observe, subset_note
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
from supermask.study.expansion import planned_steps
from supermask.tasks import find_task

__all__ = ["BERT_HIDDEN_SIZE", "head_weights", "table1"]

BERT_HIDDEN_SIZE = 768


def head_weights(task: str, hidden_size: int = BERT_HIDDEN_SIZE) -> int:
    """Weights of a linear head, biases not counted: outputs times hidden size.

    Args:
        task: the task's name.
        hidden_size: of the base.

    Example:
        >>> head_weights("mnli"), head_weights("mrpc"), head_weights("stsb")
        (2304, 1536, 768)
    """
    return find_task(task).num_labels * hidden_size


def table1(results: StudyResults) -> Table:
    """Parameters of the head and iteration counts, which follow from the tasks; and the steps that were taken.

    Args:
        results: of the study.

    Source: Table 1 of the paper.
    """
    tasks = results.study.tasks
    arms = results.study.arms
    parameters: list[TableCell] = []
    iterations: list[TableCell] = []
    for task in tasks:
        expected = [
            expected_number(results, "additional_parameters", arm=arms[0].name, task=task),
            expected_number(results, "steps", arm=arms[0].name, task=task),
        ]
        run = next(cell.spec for cell in results.cells if cell.spec.task == task)
        for cells, value, number in zip(
            (parameters, iterations), (head_weights(task), planned_steps(run)), expected, strict=True
        ):
            cells.append(
                TableCell(
                    text=f"{value:,}",
                    value=float(value),
                    paper=f"{number.value:,.0f}" if number is not None else None,
                    paper_value=number.value if number is not None else None,
                )
            )
    rows = [
        TableRow(label="Additional parameters", key="additional_parameters", cells=tuple(parameters)),
        TableRow(label="Iterations on the official data", key="steps", cells=tuple(iterations)),
    ]
    for arm in arms:
        taken = [observe(results, arm.name, task) for task in tasks]
        rows.append(
            TableRow(
                label=f"Steps taken: {arm.label}",
                key=f"{arm.name}.steps",
                minor=True,
                cells=tuple(number_cell(seen.steps(), seen, digits=0, spread=False) for seen in taken),
            )
        )
    differing = [
        display_name(tasks[index])
        for row in rows[:2]
        for index, cell in enumerate(row.cells)
        if cell.paper_value is not None and cell.value != cell.paper_value
    ]
    said = [task for task in tasks if subset_note(results, task)]
    verdict = (
        f"Differing from the paper: {', '.join(dict.fromkeys(differing))}."
        if differing
        else "All counts are the paper's."
    )
    return Table(
        name=results.study.name,
        title=f"{results.study.paper}. {results.study.title}",
        corner="",
        columns=task_columns(results),
        rows=tuple(rows),
        notes=closing_notes(
            results,
            f"Computed from the tasks: outputs times a hidden size of {BERT_HIDDEN_SIZE}, and 3 · ceil(n / 32). "
            f"{verdict}",
            PAPER_IN_PARENTHESES,
            *(["Steps taken on a subset are fewer."] if said else []),
        ),
        absent=absent_runs(results),
        command=study_command(results),
    )
