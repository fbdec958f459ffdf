"""How tasks, numbers, and missing runs are written, in tables, figures and findings alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from supermask.report.results import Cell, StudyResults
from supermask.tasks import find_task

__all__ = [
    *("display_name", "fixed", "frame", "metric_name", "missing_in_words", "names", "number_ranges", "signed"),
    "task_label",
]

_DISPLAY = {"mnli": "MNLI", "qqp": "QQP", "qnli": "QNLI", "sst2": "SST-2", "cola": "CoLA", "stsb": "STS-B"}
_METRICS = {"f1": "F1", "spearman": "Spearman", "matthews": "Matthews", "accuracy": "accuracy"}


def display_name(task: str) -> str:
    """A task's name as people write it.

    Example:
        >>> display_name("stsb"), display_name("mrpc"), display_name("probe-sentiment")
        ('STS-B', 'MRPC', 'probe-sentiment')
    """
    return _DISPLAY.get(task, task.upper() if task.isalpha() else task)


def task_label(task: str, *, subset: bool) -> str:
    """A task's name, and whether its data are a part of the official ones."""
    return display_name(task) + (" (subset)" if subset else "")


def metric_name(task: str) -> str:
    """The primary metric of a task as people write it.

    Example:
        >>> metric_name("mrpc"), metric_name("cola")
        ('F1', 'Matthews')
    """
    metric = find_task(task).primary_metric
    return _METRICS.get(metric, metric)


def frame(results: StudyResults, notes: Iterable[str] = (), missing: Iterable[str] = ()) -> dict[str, Any]:
    """What tables and figures have in common: title, notes below, what is missing in words, and what makes it."""
    study = results.study
    subsets = [(task, part) for task in study.tasks if (part := results.subset(task))]
    told = (f"{display_name(task)} is a subset: {part}." for task, part in subsets)
    return {
        "name": study.name,
        "title": study.title if study.paper == "ours" else f"{study.paper}. {study.title}",
        "notes": (*notes, *told, *([study.notes] if study.notes else [])),
        "missing": (*missing_in_words(results.missing), *missing),
        "command": f"supermask study run {study.name}",
    }


def names(tasks: Iterable[str], values: Mapping[str, str] | None = None) -> str:
    """Tasks in a sentence, each with a value behind it if there is one.

    Example:
        >>> names(["rte", "mrpc"], {"rte": "1.2"})
        'RTE (1.2), MRPC'
    """
    told = values or {}
    return ", ".join(display_name(task) + (f" ({told[task]})" if task in told else "") for task in tasks)


def fixed(value: float, digits: int) -> str:
    """A number with so many digits after the point; no zero is negative.

    Example:
        >>> fixed(-0.0001, 1), fixed(-84.25, 1), fixed(36816.0, 0)
        ('0.0', '−84.2', '36,816')
    """
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text.replace("-", "−")


def signed(value: float, digits: int = 1) -> str:
    """A difference or a correlation, with its sign.

    Example:
        >>> signed(0.44), signed(-1.26), signed(-0.04), signed(-0.5, 2)
        ('+0.4', '−1.3', '0.0', '−0.50')
    """
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def missing_in_words(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Runs in few phrases, such as `supermask-init70, supermask-init90: MRPC, RTE (seed 0)`."""
    seeds: dict[str, dict[str, list[int]]] = {}
    for cell in cells:
        seeds.setdefault(cell.spec.arm, {}).setdefault(cell.spec.task, []).append(cell.spec.seed)
    arms: dict[str, list[str]] = {}
    for arm, of_task in seeds.items():
        arms.setdefault(_tasks_and_seeds(of_task), []).append(arm)
    return tuple(f"{', '.join(names)}: {lacking}" for lacking, names in arms.items())


def _tasks_and_seeds(seeds: dict[str, list[int]]) -> str:
    tasks: dict[str, list[str]] = {}
    for task, numbers in seeds.items():
        tasks.setdefault(f"{'seed' if len(numbers) == 1 else 'seeds'} {number_ranges(numbers)}", []).append(task)
    return ", ".join(f"{names(of_seeds)} ({told})" for told, of_seeds in tasks.items())


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
