"""Table 2: how far fine-tuning moves the self-attention matrices, beside how far random initialisations are apart."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Iterable, Iterator
from typing import Final

from supermask.analysis import PAPER_NORMAL, RandomLaw, expected_distances, sampled_distances, uniform_law
from supermask.report.results import Observation, StudyResults
from supermask.report.tables.cells import BERT_HIDDEN_SIZE, paper_cell, result_table
from supermask.report.tables.table import Table, TableCell, TableColumn, TableRow
from supermask.report.wording import display_name
from supermask.study.measures import TensorMeasures

__all__ = ["attention_matrices", "table2"]

_ROLES: Final = ("query", "key", "value", "attention_output")
_PAIRS: Final = 10
_drawn = functools.cache(sampled_distances)
# Field, label, digits, and what the spec calls it; the norm that reproduces the paper's 20.0 carries its numbers.
_ROWS: Final[tuple[tuple[str, str, int, str], ...]] = (
    ("largest_column_sum", "L1 distance, largest column sum", 1, "l1"),
    ("l1", "L1 distance, ‖·‖₁ / √n", 2, ""),
    ("angular", "Angular distance, in units of π", 4, "angular"),
)


def attention_matrices(seen: Iterable[Observation]) -> tuple[TensorMeasures, ...]:
    """The self-attention matrices that runs changed, biases not among them."""
    tensors = (tensor for one in seen for _, measures in one.measured() for tensor in measures.tensors)
    return tuple(tensor for tensor in tensors if tensor.role in _ROLES and len(tensor.shape) > 1)


def table2(results: StudyResults) -> Table:
    """Distances between random initialisations, by formula and sampled, and [smallest, largest] after fine-tuning."""
    arms = results.study.arms
    matrices = attention_matrices(one for arm in arms for one in results.over_tasks(arm.name))
    size = max((one.shape[0] for one in matrices), default=BERT_HIDDEN_SIZE)
    blank = (TableCell(),) * len(arms)
    rows = []
    for field, label, digits, quantity in _ROWS:
        ranges = (_range(results, field, quantity, arm.name) for arm in arms)
        rows.append(TableRow(field, label, (*_formula(results, field, digits, quantity, size), *ranges)))
        sampled = tuple(_sampled(field, digits, size))
        rows.append(TableRow(f"{field}.sampled", f"sampled, {_PAIRS} pairs", (*sampled, *blank), minor=True))
        if size != BERT_HIDDEN_SIZE:
            cells = *_formula(results, field, digits, quantity, BERT_HIDDEN_SIZE), *blank
            rows.append(TableRow(f"{field}.768", f"at the paper's H = {BERT_HIDDEN_SIZE}", cells, minor=True))
    columns = [TableColumn(law, f"Between {law}", "initialisations") for law in ("uniform", "normal")]
    columns += [TableColumn(arm.name, "Fine-tuned and pretrained", f"{arm.label}, [min, max]") for arm in arms]
    return result_table(
        results,
        columns,
        rows,
        f"Square self-attention matrices of H = {size} rows. Uniform: from -1/√H to 1/√H. Normal: standard "
        "deviation 0.02, cut off at two, which is BERT's own. [min, max] is over all of these matrices, tasks "
        "and seeds.",
        "The paper does not state its L1 norm. The largest column sum of |X - Y|, numpy's matrix norm 1, gives its "
        "20.0 between uniform matrices; so its numbers stand there.",
        "In parentheses: the paper's number.",
        *_spread_by_task(results),
        corner="distance",
    )


def _range(results: StudyResults, field: str, quantity: str, arm: str) -> TableCell:
    seen = results.over_tasks(arm)
    found = [getattr(one, field) for one in attention_matrices(seen)]
    values = [value for value in found if value is not None and math.isfinite(value)]
    low, high = (results.expected(f"{quantity}_{end}", arm=arm) for end in ("min", "max"))
    return TableCell(
        text=f"[{_digits(min(values))}, {_digits(max(values))}]" if values else "",
        value=max(values, default=None),
        paper=f"[{low.value:g}, {high.value:g}]" if low is not None and high is not None else None,
        paper_value=high.value if high is not None else None,
        records=tuple(path for one in seen for path in one.paths_measured),
        missing=tuple(name for one in seen for name in (*one.missing, *one.unmeasured)),
    )


def _digits(value: float) -> str:
    """Three significant digits without an exponent, as the smallest and the largest may be far apart."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}" if value else "0"


def _laws(size: int) -> tuple[tuple[str, RandomLaw], ...]:
    return ("uniform", uniform_law(1 / math.sqrt(size))), ("normal", PAPER_NORMAL)


def _formula(results: StudyResults, field: str, digits: int, quantity: str, size: int) -> Iterator[TableCell]:
    for name, law in _laws(size):
        value = getattr(expected_distances((size, size), law), field)
        paper = results.expected(f"{quantity}_{name}") if size == BERT_HIDDEN_SIZE else None
        spread = f" ± {paper.spread:g}" if paper is not None and paper.spread is not None else ""
        printed = paper_cell(paper, (f"{{:.{1 if quantity == 'l1' else 3}f}}" + spread).format)
        yield dataclasses.replace(printed, text=f"{value:.{digits}f}", value=value)


def _sampled(field: str, digits: int, size: int) -> Iterator[TableCell]:
    for _, law in _laws(size):
        mean, sd = getattr(_drawn((size, size), law, pairs=_PAIRS), field)
        yield TableCell(text=f"{mean:.{digits}f} ± {sd:.{digits}f}", value=mean)


def _spread_by_task(results: StudyResults) -> Iterator[str]:
    """Which task moved least and which most, by the mean angle: the paper says RTE and MNLI."""
    for arm in results.study.arms:
        of = {seen.task: attention_matrices([seen]) for seen in results.over_tasks(arm.name)}
        angles = {task: [one.angular for one in found if one.angular is not None] for task, found in of.items()}
        means = {task: statistics.fmean(found) for task, found in angles.items() if found}
        if len(means) > 1:
            least, *_, most = sorted(means, key=lambda task: means[task])
            yield (
                f"{arm.label}: by the mean angle, {display_name(most)} moved most ({means[most]:.4f}) and "
                f"{display_name(least)} least ({means[least]:.4f}); the paper: MNLI and RTE."
            )
