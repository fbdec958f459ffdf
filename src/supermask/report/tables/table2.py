"""Table 2: how far fine-tuning moves the self-attention matrices, beside how far random initialisations are apart."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Final

from supermask.analysis import (
    PAPER_NORMAL,
    ExpectedDistances,
    RandomLaw,
    SampledDistances,
    expected_distances,
    sampled_distances,
    uniform_law,
)
from supermask.report.observation import Observation, display_name, expected_number, observe
from supermask.report.results import StudyResults
from supermask.report.tables.cells import PAPER_IN_PARENTHESES, absent_runs, closing_notes, study_command
from supermask.report.tables.table import Table, TableCell, TableColumn, TableRow
from supermask.study.measures import RunMeasures, TensorMeasures
from supermask.study.spec import Arm, Quantity

__all__ = ["SELF_ATTENTION_ROLES", "attention_matrices", "table2"]

SELF_ATTENTION_ROLES: Final = ("query", "key", "value", "attention_output")
"""The four matrices of self-attention, which Table 2 is about."""

_PAPER_SIZE: Final = 768
_PAIRS: Final = 10
# Which quantity of the spec belongs to which row; the norm that reproduces the paper's 20.0 carries its numbers.
_ROWS: Final[tuple[tuple[str, str, int, str | None], ...]] = (
    ("largest_column_sum", "L1 distance, largest column sum", 1, "l1"),
    ("l1", "L1 distance, ‖·‖₁ / √n", 2, None),
    ("angular", "Angular distance, in units of π", 4, "angular"),
)


def attention_matrices(measures: RunMeasures) -> tuple[TensorMeasures, ...]:
    """The self-attention matrices that a run changed, biases not among them."""
    return tuple(one for one in measures.tensors if one.role in SELF_ATTENTION_ROLES and len(one.shape) > 1)


def table2(results: StudyResults) -> Table:
    """Distances between random initialisations, by formula and sampled, and [smallest, largest] after fine-tuning.

    The range is over the self-attention matrices of all blocks, all tasks and all seeds that were measured.

    Args:
        results: of the study.

    Source: Table 2 of the paper.
    """
    arms = results.study.arms
    seen = {arm.name: [observe(results, arm.name, task) for task in results.study.tasks] for arm in arms}
    size = _hidden_size([one for observations in seen.values() for one in observations])
    rows = []
    for field, label, digits, quantity in _ROWS:
        rows.append(_main_row(results, field, label, digits, quantity, size, seen))
        rows.append(_sampled_row(field, digits, size, len(arms)))
        if size != _PAPER_SIZE:
            rows.append(_paper_size_row(results, field, digits, quantity, len(arms)))
    columns = (
        TableColumn(title="Between uniform", subtitle="initialisations", key="uniform"),
        TableColumn(title="Between normal", subtitle="initialisations", key="normal"),
        *(
            TableColumn(title="Fine-tuned and pretrained", subtitle=f"{arm.label}, [min, max]", key=arm.name)
            for arm in arms
        ),
    )
    return Table(
        name=results.study.name,
        title=f"{results.study.paper}. {results.study.title}",
        corner="distance",
        columns=columns,
        rows=tuple(rows),
        notes=closing_notes(
            results,
            f"Square self-attention matrices of H = {size} rows. Uniform: from -1/√H to 1/√H. Normal: standard "
            "deviation 0.02, cut off at two, which is BERT's own. [min, max] is over all of these matrices, tasks "
            "and seeds.",
            "The paper does not state its L1 norm. The largest column sum of |X - Y|, numpy's matrix norm 1, gives its "
            "20.0 between uniform matrices; so its numbers stand there.",
            PAPER_IN_PARENTHESES,
            *_spread_by_task(seen, arms),
        ),
        absent=absent_runs(results),
        command=study_command(results),
    )


def _hidden_size(observations: Sequence[Observation]) -> int:
    shapes = {one.shape for seen in observations for _, found in seen.measured() for one in attention_matrices(found)}
    return max((shape[0] for shape in shapes), default=_PAPER_SIZE)


def _main_row(
    results: StudyResults,
    field: str,
    label: str,
    digits: int,
    quantity: str | None,
    size: int,
    seen: dict[str, list[Observation]],
) -> TableRow:
    ranges = [_range_cell(results, field, quantity, arm, observations) for arm, observations in seen.items()]
    if size == _PAPER_SIZE:
        return TableRow(
            label=label, key=field, cells=(*_formula_cells(results, field, digits, quantity, size), *ranges)
        )
    return TableRow(label=label, key=field, cells=(*_formula_cells(None, field, digits, None, size), *ranges))


def _range_cell(
    results: StudyResults, field: str, quantity: str | None, arm: str, observations: Sequence[Observation]
) -> TableCell:
    values, records, missing = [], [], []
    for seen in observations:
        missing += [*seen.missing, *seen.unmeasured]
        for cell, measures in seen.measured():
            records += [cell.path] if cell.path is not None else []
            found = [getattr(one, field) for one in attention_matrices(measures)]
            values += [value for value in found if value is not None and math.isfinite(value)]
    low, high = (
        expected_number(results, f"{quantity}_{end}", arm=arm) if quantity is not None else None  # type: ignore[arg-type]
        for end in ("min", "max")
    )
    paper = f"[{low.value:g}, {high.value:g}]" if low is not None and high is not None else None
    return TableCell(
        text=f"[{_digits(min(values))}, {_digits(max(values))}]" if values else "",
        value=max(values) if values else None,
        paper=paper,
        paper_value=high.value if high is not None else None,
        records=tuple(records),
        missing=tuple(missing),
    )


def _digits(value: float) -> str:
    """Three significant digits without an exponent, as the smallest and the largest may be far apart."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _laws(size: int) -> tuple[tuple[str, RandomLaw], ...]:
    return ("uniform", uniform_law(1 / math.sqrt(size))), ("normal", PAPER_NORMAL)


def _formula_cells(
    results: StudyResults | None, field: str, digits: int, quantity: str | None, size: int
) -> list[TableCell]:
    cells = []
    for name, law in _laws(size):
        found: ExpectedDistances = expected_distances((size, size), law)
        value = getattr(found, field)
        number = None
        if results is not None and quantity is not None:
            asked: Quantity = f"{quantity}_{name}"  # type: ignore[assignment]
            number = expected_number(results, asked)
        spread = f" ± {number.spread:g}" if number is not None and number.spread is not None else ""
        cells.append(
            TableCell(
                text=f"{value:.{digits}f}",
                value=value,
                paper=f"{number.value:.{max(digits, 1) if quantity == 'l1' else 3}f}{spread}"
                if number is not None
                else None,
                paper_value=number.value if number is not None else None,
            )
        )
    return cells


@functools.cache
def _sampled(size: int, law: RandomLaw) -> SampledDistances:
    return sampled_distances((size, size), law, pairs=_PAIRS)


def _sampled_row(field: str, digits: int, size: int, arms: int) -> TableRow:
    cells = []
    for _, law in _laws(size):
        found = _sampled(size, law)
        mean, sd = getattr(found, field)
        cells.append(TableCell(text=f"{mean:.{digits}f} ± {sd:.{digits}f}", value=mean))
    return TableRow(
        label=f"sampled, {_PAIRS} pairs", key=f"{field}.sampled", minor=True, cells=(*cells, *[TableCell()] * arms)
    )


def _paper_size_row(results: StudyResults, field: str, digits: int, quantity: str | None, arms: int) -> TableRow:
    cells = _formula_cells(results, field, digits, quantity, _PAPER_SIZE)
    return TableRow(
        label=f"at the paper's H = {_PAPER_SIZE}", key=f"{field}.768", minor=True, cells=(*cells, *[TableCell()] * arms)
    )


def _spread_by_task(seen: dict[str, list[Observation]], arms: tuple[Arm, ...]) -> list[str]:
    """Which task moved least and which most, by the mean angle: the paper says RTE and MNLI."""
    notes = []
    for arm in arms:
        means = {}
        for observation in seen[arm.name]:
            found = [one.angular for _, part in observation.measured() for one in attention_matrices(part)]
            angles = [angle for angle in found if angle is not None]
            if angles:
                means[observation.task] = math.fsum(angles) / len(angles)
        if len(means) > 1:
            least, most = min(means, key=lambda task: means[task]), max(means, key=lambda task: means[task])
            notes.append(
                f"{arm.label}: by the mean angle, {display_name(most)} moved most ({means[most]:.4f}) and "
                f"{display_name(least)} least ({means[least]:.4f}); the paper: MNLI and RTE."
            )
    return notes
