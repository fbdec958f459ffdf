"""Table 3: fine-tuning with parts of the model held fixed: what is left to learn, and what it costs."""

from __future__ import annotations

from supermask.report.observation import Observation, display_name, expected_number, metric_name, observe
from supermask.report.results import StudyResults
from supermask.report.tables.cells import (
    PAPER_IN_PARENTHESES,
    absent_runs,
    closing_notes,
    difference_cell,
    draws_cell,
    number_cell,
    seeds_cell,
    study_command,
)
from supermask.report.tables.table import Table, TableCell, TableColumn, TableRow
from supermask.study.spec import Arm

__all__ = ["learnt_parameters", "table3"]


def learnt_parameters(seen: Observation) -> int | None:
    """Components of the base that an arm learns, the head not among them; None if no record says.

    Args:
        seen: the arm's runs; measures tell it, and for a method that masks, the record itself.
    """
    for _, measures in seen.measured():
        return sum(tensor.weights for tensor in measures.tensors)
    for cell in seen.recorded:
        if cell.record is not None and cell.record.delta is not None and cell.spec.method["kind"] == "supermask":
            return cell.record.delta.constrained_weights
    return None


def table3(results: StudyResults) -> Table:
    """A row an arm: parameters that remain, score, spread over seeds, and the difference from the first arm.

    Args:
        results: of the study.

    Source: Table 3 of the paper.
    """
    rows = [
        row
        for task in results.study.tasks
        for row in _rows(results, task, f"{display_name(task)}: " if len(results.study.tasks) > 1 else "")
    ]
    metric = metric_name(results.study.tasks[0]) if len(results.study.tasks) == 1 else "Score"
    return Table(
        name=results.study.name,
        title=f"{results.study.paper}. {results.study.title}",
        corner="Layers excluded from fine-tuning",
        columns=(
            TableColumn(title="Parameters left", key="parameters"),
            TableColumn(title=metric, subtitle="± over seeds", key="score"),
            TableColumn(title="Draws", subtitle="± within a run", key="draw_sd"),
            TableColumn(title=metric, subtitle="thresholded mask", key="thresholded"),
            TableColumn(title="Less baseline", subtitle="[95 % interval]", key="difference"),
            TableColumn(title="Seeds", key="seeds"),
        ),
        rows=tuple(rows),
        notes=closing_notes(
            results,
            PAPER_IN_PARENTHESES,
            f"The paper's ± is over 10 independent runs. {metric} of a row with sparse fine-tuning is the mean over "
            "drawn masks, then over seeds. Parameters are those of the base that may change; the head is not counted.",
        ),
        absent=absent_runs(results),
        command=study_command(results),
    )


def _rows(results: StudyResults, task: str, prefix: str) -> list[TableRow]:
    arms = results.study.arms
    baseline = observe(results, arms[0].name, task)
    whole = learnt_parameters(baseline)
    return [_row(results, arm, task, prefix, baseline, whole) for arm in arms]


def _row(results: StudyResults, arm: Arm, task: str, prefix: str, baseline: Observation, whole: int | None) -> TableRow:
    seen = observe(results, arm.name, task)
    score = expected_number(results, "score", arm=arm.name, task=task)
    masks = arm.method["kind"] == "supermask"
    main = number_cell(seen.sampled_score() if masks else seen.score(), seen, expected=score)
    if score is not None and score.spread is not None and main.paper is not None:
        main = TableCell(**{**vars(main), "paper": f"{main.paper} ± {100 * score.spread:.1f}"})
    cells = (
        _parameters_cell(results, arm, task, seen, whole),
        main,
        draws_cell(seen) if masks else TableCell(),
        number_cell(seen.score(), seen) if masks else TableCell(),
        TableCell()
        if seen.arm == baseline.arm
        else difference_cell(
            seen,
            baseline,
            results,
            paper=(score, expected_number(results, "score", arm=baseline.arm, task=task)),
        ),
        seeds_cell([seen]),
    )
    return TableRow(label=prefix + arm.label, key=f"{task}.{arm.name}", cells=cells)


def _parameters_cell(results: StudyResults, arm: Arm, task: str, seen: Observation, whole: int | None) -> TableCell:
    kind = "binary" if arm.method["kind"] == "supermask" else "float"
    count = learnt_parameters(seen)
    number = expected_number(results, "parameters", arm=arm.name, task=task)
    share = expected_number(results, "parameter_share", arm=arm.name, task=task)
    paper = None
    if number is not None:
        paper = _millions(number.value, kind, share.value if share is not None else None)
    part = count / whole if count is not None and whole else None
    return TableCell(
        text="" if count is None else _millions(count, kind, part),
        value=None if count is None else float(count),
        paper=paper,
        paper_value=None if number is None else number.value,
        records=seen.paths if count is not None else (),
        missing=() if count is not None else seen.unmeasured or seen.missing,
    )


def _millions(count: float, kind: str, share: float | None) -> str:
    """Parameters as the paper writes them.

    Example:
        >>> _millions(101.9e6, "float", 0.935)
        '102M float, 94%'
        >>> _millions(22_713_216, "float", None)
        '22.7M float'
    """
    number = f"{count / 1e6:.0f}M" if count >= 99.5e6 else f"{count / 1e6:.1f}M".replace(".0M", "M")
    return f"{number} {kind}" + (f", {100 * share:.0f}%" if share is not None else "")
