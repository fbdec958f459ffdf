"""A row an arm: the layout of our own studies, of Appendix A, and of every study that has no layout of its own."""

from __future__ import annotations

from collections.abc import Sequence

from supermask.report.observation import Observation, display_name, expected_number, metric_name, observe
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
from supermask.report.tables.table import Table, TableCell, TableColumn, TableRow
from supermask.study.spec import Arm
from supermask.tasks import find_task
from supermask.training import RunRecord

__all__ = ["answers_one_class", "appendix_a", "arms_table"]


def arms_table(results: StudyResults) -> Table:
    """Scores and zeros of every arm, sampled and thresholded, task by task.

    Args:
        results: of a study.
    """
    tasks = results.study.tasks
    rows = [
        TableRow(
            label=arm.label if len(tasks) == 1 else f"{display_name(task)}: {arm.label}",
            key=f"{task}.{arm.name}",
            cells=_cells(results, arm, observe(results, arm.name, task)),
        )
        for task in tasks
        for arm in results.study.arms
        if observe(results, arm.name, task).planned
    ]
    metric = metric_name(tasks[0]) if len(tasks) == 1 else "Score"
    return Table(
        name=results.study.name,
        title=_title(results),
        corner="",
        columns=(
            TableColumn(title=metric, subtitle="sampled", key="sampled"),
            TableColumn(title="Draws", subtitle="± within a run", key="draw_sd"),
            TableColumn(title=metric, subtitle="thresholded, or values", key="score"),
            TableColumn(title="Zeros", subtitle="sampled", key="sparsity.sampled"),
            TableColumn(title="Zeros", subtitle="thresholded", key="sparsity.thresholded"),
            TableColumn(title="Seeds", key="seeds"),
        ),
        rows=tuple(rows),
        notes=closing_notes(
            results,
            *([PAPER_IN_PARENTHESES] if results.study.expected else []),
            "± behind a score is over seeds. An untouched mask logit of +5 is dropped by 0.67 % of draws, so this "
            "is where sampled zeros start.",
        ),
        absent=absent_runs(results),
        command=study_command(results),
    )


def _cells(results: StudyResults, arm: Arm, seen: Observation) -> tuple[TableCell, ...]:
    masks, prunes = arm.method["kind"] == "supermask", arm.method["kind"] == "pruning"
    number = expected_number(results, "score", arm=arm.name, task=seen.task)
    return (
        score_cell(seen, sampled=True, expected=[number]) if masks else TableCell(),
        draws_cell(seen, number) if masks else TableCell(),
        score_cell(seen, sampled=False, expected=[] if masks else [number]),
        number_cell(seen.sampled_sparsity(), seen, digits=2, unit="%") if masks else TableCell(),
        number_cell(seen.sparsity(), seen, digits=2, unit="%") if masks or prunes else TableCell(),
        seeds_cell([seen]),
    )


def appendix_a(results: StudyResults) -> Table:
    """Head-only training beside full fine-tuning, and whether the model answers one class to everything.

    Args:
        results: of the study.

    Source: Appendix A of the paper.
    """
    rows = []
    for task in results.study.tasks:
        for arm in results.study.arms:
            seen = observe(results, arm.name, task)
            expected = expected_number(results, "score", arm=arm.name, task=task)
            main = number_cell(seen.score(), seen, expected=expected)
            if expected is not None and expected.spread is not None and main.paper is not None:
                main = TableCell(**{**vars(main), "paper": f"{main.paper} ± {100 * expected.spread:.1f}"})
            label = arm.label if len(results.study.tasks) == 1 else f"{display_name(task)}: {arm.label}"
            rows.append(
                TableRow(
                    label=label,
                    key=f"{task}.{arm.name}",
                    cells=(main, *_other_metrics(seen), _one_class_cell(seen), seeds_cell([seen])),
                )
            )
    metric = metric_name(results.study.tasks[0])
    return Table(
        name=results.study.name,
        title=_title(results),
        corner="what is trained",
        columns=(
            TableColumn(title=metric, subtitle="± over seeds", key="score"),
            TableColumn(title="Accuracy", key="accuracy"),
            TableColumn(title="Runs that answer 1", subtitle="to every example", key="one_class"),
            TableColumn(title="Seeds", key="seeds"),
        ),
        rows=tuple(rows),
        notes=closing_notes(
            results,
            PAPER_IN_PARENTHESES,
            "A model that answers 1 to all has an accuracy of a, the share of 1, and an F1 of 2a / (1 + a); that is "
            "how such runs are told from their scores.",
        ),
        absent=absent_runs(results),
        command=study_command(results),
    )


def answers_one_class(record: RunRecord) -> bool | None:
    """Whether a binary classifier gave no right answer of class 0, read off F1 = 2a / (1 + a); None without F1.

    With TP right answers of class 1 and TN of class 0, as shares, F1 = 2 TP / (1 + TP - TN) and a = TP + TN, so the
    equation holds if and only if TN = 0 or all answers are right.

    Args:
        record: of a run.
    """
    for split in find_task(record.inputs.task).report_splits:
        scores = record.scores.get(split, {})
        if "f1" in scores and "accuracy" in scores:
            accuracy = scores["accuracy"]
            return 0 < accuracy < 1 and abs(scores["f1"] - 2 * accuracy / (1 + accuracy)) < 1e-9
    return None


def _other_metrics(seen: Observation) -> Sequence[TableCell]:
    def accuracy(record: RunRecord) -> float | None:
        for split in find_task(seen.task).report_splits:
            if "accuracy" in record.scores.get(split, {}):
                return 100 * record.scores[split]["accuracy"]
        return None

    return (number_cell(seen.of_records(accuracy), seen),)


def _one_class_cell(seen: Observation) -> TableCell:
    verdicts = [answers_one_class(cell.record) for cell in seen.recorded if cell.record is not None]
    known = [verdict for verdict in verdicts if verdict is not None]
    return TableCell(
        text=f"{sum(known)} of {len(known)}" if known else "",
        value=float(sum(known)) if known else None,
        records=seen.paths if known else (),
        missing=seen.missing,
    )


def _title(results: StudyResults) -> str:
    study = results.study
    return study.title if study.paper == "ours" else f"{study.paper}. {study.title}"
