"""The one map behind the tables, (task, arm, quantity) -> cell, and how a table is a pivot of it."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, NamedTuple, final

from supermask.analysis import Magnitudes
from supermask.report.results import Observation, Seeded, StudyResults
from supermask.report.statistics import Comparison, distinguishable, pooled_sd
from supermask.report.tables.table import Table, TableCell, TableColumn, TableRow
from supermask.report.wording import fixed, frame, signed
from supermask.study.expansion import planned_steps
from supermask.study.measures import RunMeasures
from supermask.study.spec import Expected
from supermask.tasks import find_task
from supermask.training import RunRecord

__all__ = ["BERT_HIDDEN_SIZE", "Line", "answers_one_class", "compare", "paper_cell", "pivot", "result_table"]

BERT_HIDDEN_SIZE: Final = 768
FEWEST_TO_BORROW: Final = 4

_Read = Callable[[Observation], TableCell]


@final
class Line(NamedTuple):
    """A row before it has cells: key and label, and as much of (task, arm, quantity) as the columns leave open."""

    key: str
    label: str
    place: Mapping[str, str]
    minor: bool = False


def pivot(
    results: StudyResults,
    lines: Iterable[Line],
    columns: Mapping[TableColumn, Mapping[str, str]],
    *notes: str,
    corner: str = "",
) -> Table:
    """A table of which every cell is that of its row's and its column's task, arm and quantity."""
    rows = []
    for key, label, place, minor in lines:
        cells = (_cell(results, **place, **left_open) for left_open in columns.values())
        rows.append(TableRow(key, label, tuple(cells), minor))
    return result_table(results, columns, rows, *notes, corner=corner)


def result_table(
    results: StudyResults, columns: Iterable[TableColumn], rows: Iterable[TableRow], *notes: str, corner: str = ""
) -> Table:
    """A table of a study, with its title, what is missing, and how to make that."""
    return Table(**frame(results, notes), corner=corner, columns=tuple(columns), rows=tuple(rows))


def _cell(results: StudyResults, *, task: str, arm: str, quantity: str) -> TableCell:
    seen = results.observe(arm, task)
    if quantity.startswith("less."):
        return _difference(seen, seen.beside(quantity.removeprefix("less.")))
    name, _, rival = quantity.partition(" against ")
    cell = _READ[name](seen)
    found = compare(seen, seen.beside(rival)) if rival else None
    # Bold where it is better than its rival beyond the spread between seeds.
    better = found is not None and found.distinguishable and found.difference > 0
    return dataclasses.replace(cell, strong=better)


def paper_cell(number: Expected | None, shown: Callable[[float], str], factor: float = 1.0) -> TableCell:
    """A cell that has the paper's number alone, if it prints one, multiplied to the unit that is shown."""
    if number is None:
        return TableCell()
    return TableCell(paper=shown(factor * number.value), paper_value=factor * number.value)


def _number(
    value: Seeded | None, seen: Observation, expected: Expected | None = None, *, digits: int = 1, unit: str = ""
) -> TableCell:
    """A number by seed: mean, and standard deviation over the seeds where there are several; the paper's to a digit."""
    cell = paper_cell(expected, lambda percent: fixed(percent, 1) + unit, 100.0)
    if value is None:
        unread = (f"{path} (no such number)" for path in seen.paths)
        return dataclasses.replace(cell, missing=(*seen.missing, *unread))
    return dataclasses.replace(
        cell,
        text=_mean_sd(value, digits) + unit,
        value=value.mean,
        seeds=len(value.values),
        seed_sd=value.sd,
        records=seen.paths,
        missing=seen.missing,
    )


def compare(ours: Observation, theirs: Observation) -> Comparison | None:
    """Whether the records tell two arms on one task apart; None if one has no score.

    An arm with one seed borrows the spread of the study's other arms on this task, if these have at least
    `FEWEST_TO_BORROW` degrees of freedom together: a spread from fewer is itself too uncertain to lend.
    """
    first, second = ours.final_score(), theirs.final_score()
    if first is None or second is None:
        return None
    found = (ours.beside(arm.name).final_score() for arm in ours.results.study.arms)
    arms = [scores.values for scores in found if scores is not None]
    lent = sum(len(scores) - 1 for scores in arms) >= FEWEST_TO_BORROW
    return distinguishable(first.values, second.values, borrowed_sd=pooled_sd(arms) if lent else math.nan)


def answers_one_class(record: RunRecord) -> bool | None:
    """Whether a binary classifier gave no right answer of class 0, read off F1 = 2a / (1 + a); None without F1.

    With TP right answers of class 1 and TN of class 0, as shares, F1 = 2 TP / (1 + TP - TN) and a = TP + TN, so the
    equation holds if and only if TN = 0 or all answers are right.
    """
    for split in find_task(record.inputs.task).report_splits:
        scores = record.scores.get(split, {})
        if "f1" in scores and "accuracy" in scores:
            accuracy = scores["accuracy"]
            return 0 < accuracy < 1 and abs(scores["f1"] - 2 * accuracy / (1 + accuracy)) < 1e-9
    return None


# Scores and zeros


def _masks(seen: Observation) -> bool:
    return seen.kind == "supermask"


def _score(seen: Observation, *, sampled: bool) -> TableCell:
    """In percent; of a task with two report splits both, separated by a slash, the value being the first's."""
    masks = _masks(seen)
    if sampled and not masks:
        return TableCell()
    values = [seen.sampled_score(split) if sampled else seen.score(split) for split in (0, 1)]
    # The paper's score of a supermask is that of drawn masks.
    papers = [seen.expected(name) for name in ("score", "score_mismatched")] if sampled == masks else []
    first = _number(values[0], seen, papers[0] if papers else None)
    return dataclasses.replace(
        first,
        text=" / ".join(_mean_sd(value, 1) for value in values if value is not None),
        paper=" / ".join(f"{100 * one.value:.1f}" for one in papers if one is not None) or None,
        draw_sd=seen.draw_sd() if sampled else None,
    )


def _score_over_runs(seen: Observation) -> TableCell:
    """The score by which arms are compared, where the paper's ± is over runs, too."""
    cell = _score(seen, sampled=_masks(seen))
    paper = seen.expected("score")
    if paper is None or paper.spread is None:
        return cell
    return dataclasses.replace(cell, paper=f"{cell.paper} ± {100 * paper.spread:.1f}")


def _draws(seen: Observation, *, paper: bool) -> TableCell:
    if not _masks(seen):
        return TableCell()
    sd, expected = seen.draw_sd(), seen.expected("score") if paper else None
    spread = 100 * expected.spread if expected is not None and expected.spread is not None else None
    return TableCell(
        text="" if sd is None else f"± {sd:.1f}",
        value=sd,
        draw_sd=sd,
        paper=None if spread is None else f"± {spread:.1f}",
        paper_value=spread,
        records=seen.paths if sd is not None else (),
        missing=seen.missing,
    )


def _difference(ours: Observation, theirs: Observation) -> TableCell:
    if ours.arm == theirs.arm:
        return TableCell()
    first, second = ours.expected("score"), theirs.expected("score")
    paper = 100 * (first.value - second.value) if first and second else None
    shown = None if paper is None else signed(paper)
    cell = TableCell(paper=shown, paper_value=paper, missing=(*ours.missing, *theirs.missing))
    comparison = compare(ours, theirs)
    if comparison is None:
        return cell
    ends = ", ".join(map(signed, comparison.interval or ()))
    return dataclasses.replace(
        cell,
        text=signed(comparison.difference) + (f" [{ends}]" if ends else ""),
        value=comparison.difference,
        seeds=min(len(ours.records), len(theirs.records)),
        records=(*ours.paths, *theirs.paths),
    )


def _zeros(seen: Observation, *, sampled: bool) -> TableCell:
    if seen.kind not in (("supermask",) if sampled else ("supermask", "pruning")):
        return TableCell()
    value = seen.sampled_sparsity() if sampled else seen.sparsity()
    return _number(value, seen, seen.expected("sparsity"), digits=2, unit="%")


def _seeds(seen: Observation) -> TableCell:
    count, planned = len(seen.records), len(seen.cells)
    text = str(count) if count == planned else f"{count} of {planned}"
    return TableCell(text=text, value=float(count), records=seen.paths, missing=seen.missing)


def _all_seeds(seen: Observation) -> TableCell:
    """Of every arm of the study on this task."""
    every = [seen.beside(arm.name) for arm in seen.results.study.arms]
    return TableCell(
        text=" / ".join(str(len(one.records)) for one in every),
        records=tuple(path for one in every for path in one.paths),
        missing=tuple(name for one in every for name in one.missing),
    )


# Counts and other metrics


def _steps(seen: Observation) -> TableCell:
    steps = seen.steps()
    cell = _number(steps, seen, digits=0)
    return cell if steps is None else dataclasses.replace(cell, text=fixed(steps.mean, 0))


def _counted(seen: Observation, *, quantity: str) -> TableCell:
    """What follows from the task alone: outputs times the hidden size, and 3 · ceil(n / 32) steps."""
    if quantity == "steps":
        value = planned_steps(seen.cells[0].spec)
    else:
        value = find_task(seen.task).num_labels * BERT_HIDDEN_SIZE
    return dataclasses.replace(
        paper_cell(seen.expected(quantity), "{:,.0f}".format), text=f"{value:,}", value=float(value)
    )


def _learnt(seen: Observation) -> int | None:
    """Components of the base that an arm learns, the head not among them; None if no record says."""
    for _, measures in seen.measured():
        return sum(tensor.weights for tensor in measures.tensors)
    deltas = [record.delta for record in seen.records.values()]
    return next((delta.constrained_weights for delta in deltas if delta is not None), None) if _masks(seen) else None


def _parameters(seen: Observation) -> TableCell:
    kind = "binary" if _masks(seen) else "float"
    count = _learnt(seen)
    whole = _learnt(seen.beside(seen.results.study.arms[0].name))
    paper, share = (seen.expected(quantity) for quantity in ("parameters", "parameter_share"))
    cell = paper_cell(paper, lambda printed: _millions(printed, kind, None if share is None else share.value))
    if count is None:
        return dataclasses.replace(cell, missing=seen.unmeasured or seen.missing)
    text = _millions(count, kind, count / whole if whole else None)
    return dataclasses.replace(cell, text=text, value=float(count), records=seen.paths)


def _accuracy(seen: Observation) -> TableCell:
    split = find_task(seen.task).report_splits[0]
    accuracies = seen.of_records(lambda record: 100 * record.scores.get(split, {}).get("accuracy", math.nan))
    return _number(accuracies, seen)


def _one_class(seen: Observation) -> TableCell:
    verdicts = map(answers_one_class, seen.records.values())
    known = [verdict for verdict in verdicts if verdict is not None]
    return TableCell(
        text=f"{sum(known)} of {len(known)}" if known else "",
        value=float(sum(known)) if known else None,
        records=seen.paths if known else (),
        missing=seen.missing,
    )


# What measures say


def _measured(seen: Observation, *, name: str) -> TableCell:
    read, percent = _MEASURED[name]
    values = [read(measures) for _, measures in seen.measured()]
    known = [value for value in values if value is not None and math.isfinite(value)]
    factor, shown = (100.0, "{:.1f}%".format) if percent else (1.0, _two_digits)
    mean = factor * statistics.fmean(known) if known else None
    return dataclasses.replace(
        paper_cell(seen.expected(name), shown, factor),
        text="" if mean is None else shown(mean),
        value=mean,
        seeds=len(known) or None,
        seed_sd=factor * statistics.stdev(known) if len(known) > 1 else None,
        records=seen.paths_measured,
        missing=(*seen.missing, *seen.unmeasured),
    )


def _against(measures: RunMeasures, scope: Literal["global", "tensor"], what: str) -> float | None:
    """Of the comparison with magnitude pruning: the overlap, or a statistic of what that would zero."""
    against = measures.against_magnitude(scope)
    if against is None:
        return None
    return against.overlap if what == "overlap" else _of(against.pruned, what)


def _of(part: Magnitudes | None, what: str) -> float | None:
    return getattr(part, what) if part is not None and part.weights else None


# What to read, and whether it is a share.
_MEASURED: Final[Mapping[str, tuple[Callable[[RunMeasures], float | None], bool]]] = {
    "pruned_max": (lambda one: _against(one, "global", "max"), False),
    "pruned_mean": (lambda one: _against(one, "global", "mean"), False),
    "supermask_max": (lambda one: _of(one.zeroed, "max"), False),
    "supermask_mean": (lambda one: _of(one.zeroed, "mean"), False),
    "masked_mean": (lambda one: _of(one.masked, "mean"), False),
    "overlap": (lambda one: _against(one, "global", "overlap"), True),
    "overlap in tensors": (lambda one: _against(one, "tensor", "overlap"), True),
}
_READ: Final[Mapping[str, _Read]] = {
    "sampled": functools.partial(_score, sampled=True),
    "score": functools.partial(_score, sampled=False),
    "thresholded": lambda seen: _score(seen, sampled=False) if _masks(seen) else TableCell(),
    "score over runs": _score_over_runs,
    "draw_sd": functools.partial(_draws, paper=True),
    "our draw_sd": functools.partial(_draws, paper=False),
    "sparsity.sampled": functools.partial(_zeros, sampled=True),
    "sparsity.thresholded": functools.partial(_zeros, sampled=False),
    "seeds": _seeds,
    "all seeds": _all_seeds,
    "steps taken": _steps,
    **{name: functools.partial(_counted, quantity=name) for name in ("steps", "additional_parameters")},
    "parameters": _parameters,
    "accuracy": _accuracy,
    "one_class": _one_class,
    **{name: functools.partial(_measured, name=name) for name in _MEASURED},
}


def _mean_sd(value: Seeded, digits: int) -> str:
    return fixed(value.mean, digits) + (f" ± {fixed(value.sd, digits)}" if value.sd is not None else "")


def _millions(count: float, kind: str, share: float | None) -> str:
    """Parameters as the paper writes them, such as `102M float, 94%`."""
    shown = f"{count / 1e6:.0f}M" if count >= 99.5e6 else f"{count / 1e6:.1f}M".replace(".0M", "M")
    return f"{shown} {kind}" + (f", {100 * share:.0f}%" if share is not None else "")


def _two_digits(value: float) -> str:
    """A magnitude as the paper writes it, such as `0.0093` or `1.7`."""
    return f"{value:.{max(1, 1 - math.floor(math.log10(value)))}f}" if value > 0 else "0"
