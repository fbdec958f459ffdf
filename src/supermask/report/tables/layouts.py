"""How each table of the paper lies: which of task, arm and quantity goes down, and which across."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from supermask.report.results import StudyResults
from supermask.report.tables.cells import BERT_HIDDEN_SIZE, Line, pivot
from supermask.report.tables.distances import table2
from supermask.report.tables.table import Table, TableColumn
from supermask.report.wording import display_name, metric_name
from supermask.study.spec import Arm

__all__ = ["LAYOUTS", "study_table", "table1"]

_PAPER = "In parentheses: the paper's number."


def _task_columns(results: StudyResults) -> dict[TableColumn, Mapping[str, str]]:
    """A column a task: its name, its metric, and whether its data are a subset."""
    subtitles = {task: metric_name(task) + (", subset" if results.subset(task) else "") for task in results.study.tasks}
    return {TableColumn(task, display_name(task), text): {"task": task} for task, text in subtitles.items()}


def _columns(*columns: tuple[str, ...]) -> dict[TableColumn, Mapping[str, str]]:
    """A column a quantity, each with key, title, subtitle, and the quantity where it is not called as the key."""
    return {TableColumn(*column[:3]): {"quantity": column[-1] if len(column) > 3 else column[0]} for column in columns}


def _arm_lines(results: StudyResults) -> Iterator[Line]:
    for task in results.study.tasks:
        prefix = f"{display_name(task)}: " if len(results.study.tasks) > 1 else ""
        for arm in results.study.arms:
            if results.observe(arm.name, task).cells:
                yield Line(f"{task}.{arm.name}", prefix + arm.label, {"task": task, "arm": arm.name})


def _metric(results: StudyResults) -> str:
    return metric_name(results.study.tasks[0]) if len(results.study.tasks) == 1 else "Score"


def _arms_table(results: StudyResults) -> Table:
    """Scores and zeros of every arm, sampled and thresholded, task by task: of studies without another layout."""
    metric = _metric(results)
    columns = _columns(
        ("sampled", metric, "sampled"),
        ("draw_sd", "Draws", "± within a run"),
        ("score", metric, "thresholded, or values"),
        ("sparsity.sampled", "Zeros", "sampled"),
        ("sparsity.thresholded", "Zeros", "thresholded"),
        ("seeds", "Seeds"),
    )
    return pivot(
        results,
        _arm_lines(results),
        columns,
        *([_PAPER] if results.study.expected else []),
        "± behind a score is over seeds. An untouched mask logit of +5 is dropped by 0.67 % of draws, so this "
        "is where sampled zeros start.",
    )


def _appendix_a(results: StudyResults) -> Table:
    columns = _columns(
        ("score", metric_name(results.study.tasks[0]), "± over seeds", "score over runs"),
        ("accuracy", "Accuracy"),
        ("one_class", "Runs that answer 1", "to every example"),
        ("seeds", "Seeds"),
    )
    return pivot(
        results,
        _arm_lines(results),
        columns,
        _PAPER,
        "A model that answers 1 to all has an accuracy of a, the share of 1, and an F1 of 2a / (1 + a); that is "
        "how such runs are told from their scores.",
        corner="what is trained",
    )


def table1(results: StudyResults) -> Table:
    """Parameters of the head and iteration counts, which follow from the tasks; and the steps that were taken."""
    arms = results.study.arms
    counts = {"additional_parameters": "Additional parameters", "steps": "Iterations on the official data"}
    lines = [Line(name, label, {"arm": arms[0].name, "quantity": name}) for name, label in counts.items()]
    for arm in arms:
        place = {"arm": arm.name, "quantity": "steps taken"}
        lines.append(Line(f"{arm.name}.steps", f"Steps taken: {arm.label}", place, minor=True))
    table = pivot(results, lines, _task_columns(results))
    counted = [(column, cell) for row, column, cell in table.placed() if not row.minor]
    differing = [c.title for c, cell in counted if cell.paper_value is not None and cell.value != cell.paper_value]
    told = f"Differing from the paper: {', '.join(dict.fromkeys(differing))}."
    notes = [
        f"Computed from the tasks: outputs times a hidden size of {BERT_HIDDEN_SIZE}, and 3 · ceil(n / 32). "
        + (told if differing else "All counts are the paper's."),
        _PAPER,
        *(["Steps taken on a subset are fewer."] if any(map(results.subset, results.study.tasks)) else []),
    ]
    return dataclasses.replace(table, notes=(*notes, *table.notes))


def _table3(results: StudyResults) -> Table:
    metric = _metric(results)
    columns = _columns(
        ("parameters", "Parameters left"),
        ("score", metric, "± over seeds", "score over runs"),
        ("draw_sd", "Draws", "± within a run", "our draw_sd"),
        ("thresholded", metric, "thresholded mask"),
        ("difference", "Less baseline", "[95 % interval]", f"less.{results.study.arms[0].name}"),
        ("seeds", "Seeds"),
    )
    return pivot(
        results,
        _arm_lines(results),
        columns,
        _PAPER,
        f"The paper's ± is over 10 independent runs. {metric} of a row with sparse fine-tuning is the mean over "
        "drawn masks, then over seeds. Parameters are those of the base that may change; the head is not counted.",
        corner="Layers excluded from fine-tuning",
    )


def _table4(results: StudyResults) -> Table:
    arm = results.study.arms[0].name
    lines = (
        ("pruned_max", "Pruned max", "pruned_max"),
        ("supermask_max", "Supermask max", "supermask_max"),
        ("pruned_mean", "Pruned mean", "pruned_mean"),
        ("supermask_mean", "Supermask mean", "supermask_mean"),
        ("mean_of_all_masked_weights", "mean of all masked weights", "masked_mean"),
        ("overlap", "Overlap", "overlap"),
        ("each_matrix_ranked_by_itself", "each matrix ranked by itself", "overlap in tensors"),
        ("chance", "overlap by chance: the sparsity", "sparsity.thresholded"),
    )
    return pivot(
        results,
        [Line(key, label, {"arm": arm, "quantity": name}, minor=label[0].islower()) for key, label, name in lines],
        _task_columns(results),
        "Of the thresholded mask. “Pruned” are the smallest weights of the base, as many as the mask zeroes, all "
        "matrices ranked together. Overlap: of the weights that the supermask zeroes, those among them. Zeros at "
        "random would overlap by the sparsity.",
        _PAPER,
        corner="magnitude in the base",
    )


def _table5(results: StudyResults) -> Table:
    masks = [arm for arm in results.study.arms if arm.method["kind"] == "supermask"]
    baselines = [arm for arm in results.study.arms if arm not in masks]
    lines = []
    for arm in baselines:
        quantity = f"score against {masks[0].name}" if masks and arm is baselines[0] else "score"
        lines.append(Line(f"{arm.name}.score", arm.label, {"arm": arm.name, "quantity": quantity}))
    for arm in masks:
        lines += _mask_lines(arm, baselines, alone=len(masks) == 1)
    everything = f"Seeds ({' / '.join(arm.name for arm in results.study.arms)})"
    lines.append(Line("seeds", everything, {"arm": results.study.arms[0].name, "quantity": "all seeds"}, minor=True))
    return pivot(
        results,
        lines,
        _task_columns(results),
        _PAPER,
        "± behind a score is the standard deviation over seeds; the row “over draws” is that of the 10 masks drawn "
        "from one run, which is the paper's ±. In brackets: 95 % interval of a difference, where seeds allow one. "
        "Bold: better than its counterpart beyond the spread between seeds.",
        "The paper does not say whether its sparsity is of draws or thresholded; its number stands at both.",
    )


def _mask_lines(arm: Arm, baselines: list[Arm], *, alone: bool) -> Iterator[Line]:
    def line(quantity: str, label: str, against: str = "") -> Line:
        place = {"arm": arm.name, "quantity": quantity + against}
        return Line(f"{arm.name}.{quantity}", label, place, minor=quantity == "draw_sd")

    yield line("sampled", f"{arm.label}, sampled", f" against {baselines[0].name}" if baselines else "")
    yield line("draw_sd", "over draws")
    yield line("thresholded", f"{arm.label}, thresholded")
    for baseline in baselines:
        other = baseline.label[:1].lower() + baseline.label[1:]
        label = f"Sampled less {other}" if alone else f"{arm.label}, sampled, less {other}"
        yield line(f"less.{baseline.name}", label)
    for mask in ("sampled", "thresholded"):
        yield line(f"sparsity.{mask}", f"Final sparsity, {mask}")


def _table6(results: StudyResults) -> Table:
    lines = []
    for task in results.study.tasks:
        metric = metric_name(task)
        name = f"{display_name(task)} {metric}" if len(results.study.tasks) > 1 else f"{metric} score"
        lines += [
            Line(f"{task}.{quantity}", label, {"task": task, "quantity": quantity}, minor)
            for quantity, label, minor in (
                ("sampled", f"{name}, sampled", False),
                ("draw_sd", "over draws", True),
                ("thresholded", f"{name}, thresholded", False),
                ("sparsity.sampled", "Zeros, sampled", False),
                ("sparsity.thresholded", "Zeros, thresholded", False),
                ("seeds", "Seeds", True),
            )
        ]
    return pivot(
        results,
        lines,
        {TableColumn(arm.name, arm.label): {"arm": arm.name} for arm in results.study.arms},
        f"{_PAPER} ± behind a score is over seeds; “over draws” is within a run, which is the paper's ±.",
        corner="learning rate",
    )


LAYOUTS: Mapping[str, Callable[[StudyResults], Table]] = {
    "table1": table1,
    "table2": table2,
    "table3": _table3,
    "table4": _table4,
    "table5": _table5,
    "table6": _table6,
    "appendix-a": _appendix_a,
}
"""The layouts of the paper's tables, by the name of their study."""


def study_table(results: StudyResults) -> Table:
    """The table of a study: in the paper's layout where it has one, else scores and zeros, a row an arm."""
    return LAYOUTS.get(results.study.name, _arms_table)(results)
