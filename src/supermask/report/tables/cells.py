"""From what was observed to a cell: numbers as they are shown, the paper's beside them, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from supermask.report.observation import (
    Observation,
    Seeded,
    display_name,
    metric_name,
    missing_in_words,
    observe,
    subset_note,
)
from supermask.report.results import StudyResults
from supermask.report.statistics import ArmScores, Comparison, distinguishable, pooled_seed_sd
from supermask.report.tables.table import TableCell, TableColumn
from supermask.study.spec import Expected

__all__ = [
    "FEWEST_TO_BORROW",
    "PAPER_IN_PARENTHESES",
    "absent_runs",
    "arm_scores",
    "closing_notes",
    "compare",
    "difference_cell",
    "draws_cell",
    "number_cell",
    "score_cell",
    "seeds_cell",
    "signed",
    "study_command",
    "task_columns",
    "winner",
]

PAPER_IN_PARENTHESES = "In parentheses: the paper's number."
FEWEST_TO_BORROW = 4


def number_cell(
    value: Seeded | None,
    seen: Observation,
    *,
    digits: int = 1,
    unit: str = "",
    expected: Expected | None = None,
    factor: float = 100.0,
    spread: bool = True,
    paper_digits: int | None = None,
) -> TableCell:
    """A number by seed: mean, and standard deviation over the seeds where there are several.

    Args:
        value: the number; None if nothing is recorded.
        seen: where it comes from.
        digits: after the point.
        unit: is put behind it.
        expected: the paper's number.
        factor: the paper's number is multiplied by it.
        spread: whether to show the standard deviation.
        paper_digits: of the paper's number, if they are others than ours.
    """
    printed = digits if paper_digits is None else paper_digits
    paper = f"{_fixed(factor * expected.value, printed)}{unit}" if expected is not None else None
    paper_value = factor * expected.value if expected is not None else None
    if value is None:
        unread = tuple(f"{path} (no such number)" for path in seen.paths)
        return TableCell(paper=paper, paper_value=paper_value, missing=(*seen.missing, *unread))
    text = _fixed(value.mean, digits)
    if spread and value.sd is not None:
        text += f" ± {_fixed(value.sd, digits)}"
    return TableCell(
        text=text + unit,
        value=value.mean,
        seeds=len(value.values),
        seed_sd=value.sd,
        paper=paper,
        paper_value=paper_value,
        records=seen.paths,
        missing=seen.missing,
    )


def score_cell(
    seen: Observation, *, sampled: bool, expected: Sequence[Expected | None] = (), strong: bool = False
) -> TableCell:
    """A score in percent; of a task with two report splits both, separated by a slash, the value being the first's.

    Args:
        seen: the runs.
        sampled: the mean over draws; else the deterministic task model.
        expected: the paper's numbers, one a split.
        strong: whether to set it in bold.
    """
    splits = [seen.sampled_score(split) if sampled else seen.score(split) for split in (0, 1)]
    first = number_cell(splits[0], seen)
    known = [number for number in expected if number is not None]
    texts = [_mean_sd(value) for value in splits if value is not None]
    return TableCell(
        text=" / ".join(texts),
        value=first.value,
        seeds=first.seeds,
        seed_sd=first.seed_sd,
        draw_sd=seen.draw_sd() if sampled else None,
        paper=" / ".join(f"{100 * number.value:.1f}" for number in known) or None,
        paper_value=100 * known[0].value if known else None,
        records=first.records,
        missing=first.missing,
        strong=strong,
    )


def draws_cell(seen: Observation, expected: Expected | None = None) -> TableCell:
    """The standard deviation over the draws of one run, and the paper's."""
    sd = seen.draw_sd()
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


def seeds_cell(observations: Sequence[Observation]) -> TableCell:
    """How many seeds each of several arms has; of one arm alone also how many it is to have."""
    counts = [len(seen.recorded) for seen in observations]
    planned = [len(seen.recorded) + len(seen.absent) for seen in observations]
    alone = len(counts) == 1 and counts != planned
    texts = [f"{counts[0]} of {planned[0]}"] if alone else [str(count) for count in counts]
    return TableCell(
        text=" / ".join(texts),
        value=float(counts[0]) if len(counts) == 1 else None,
        records=tuple(path for seen in observations for path in seen.paths),
        missing=tuple(name for seen in observations for name in seen.missing),
    )


def compare(ours: Observation, theirs: Observation, results: StudyResults) -> Comparison | None:
    """Whether the records tell two arms on one task apart; None if one has no score.

    An arm with one seed borrows the spread of the study's other arms on this task, if these have at least
    `FEWEST_TO_BORROW` degrees of freedom together: a spread from fewer is itself too uncertain to lend.

    Args:
        ours: an arm.
        theirs: another.
        results: of the study.
    """
    first, second = arm_scores(ours), arm_scores(theirs)
    if first is None or second is None:
        return None
    arms = [scores for arm in results.study.arms if (scores := arm_scores(observe(results, arm.name, ours.task)))]
    freedom = sum(len(scores.scores) - 1 for scores in arms)
    borrowed = pooled_seed_sd(arms) if freedom >= FEWEST_TO_BORROW else None
    return distinguishable(first, second, borrowed_seed_sd=borrowed)


def difference_cell(
    ours: Observation, theirs: Observation, results: StudyResults, *, paper: tuple[Expected | None, Expected | None]
) -> TableCell:
    """Score of one arm less the score of another, with the interval that the records allow.

    Args:
        ours: an arm; if it samples, its score is the mean over draws.
        theirs: what it is compared with.
        results: of the study.
        paper: the paper's score of both.
    """
    paper_value = 100 * (paper[0].value - paper[1].value) if paper[0] is not None and paper[1] is not None else None
    paper_text = signed(paper_value) if paper_value is not None else None
    missing = (*ours.missing, *theirs.missing)
    comparison = compare(ours, theirs, results)
    if comparison is None:
        return TableCell(paper=paper_text, paper_value=paper_value, missing=missing)
    text, interval = signed(comparison.difference), comparison.interval
    if interval is not None:
        text += f" [{signed(interval.low)}, {signed(interval.high)}]"
    return TableCell(
        text=text,
        value=comparison.difference,
        seeds=min(len(ours.recorded), len(theirs.recorded)),
        paper=paper_text,
        paper_value=paper_value,
        records=(*ours.paths, *theirs.paths),
        missing=missing,
    )


def winner(ours: Observation, theirs: Observation, results: StudyResults) -> int:
    """Which of two arms is better beyond the spread between seeds: 1 the first, -1 the second, 0 neither."""
    comparison = compare(ours, theirs, results)
    if comparison is None or not comparison.distinguishable:
        return 0
    return 1 if comparison.difference > 0 else -1


def arm_scores(seen: Observation) -> ArmScores | None:
    """Scores of an arm in percent: where it samples, the mean over the draws of each seed."""
    sampled = seen.sampled_score()
    score = sampled if sampled is not None else seen.score()
    if score is None:
        return None
    return ArmScores(scores=score.values, draws=seen.draws() or None)


def task_columns(results: StudyResults) -> tuple[TableColumn, ...]:
    """A column a task: its name, its metric, and whether its data are a subset."""
    return tuple(
        TableColumn(
            title=display_name(task),
            subtitle=metric_name(task) + (", subset" if subset_note(results, task) else ""),
            key=task,
        )
        for task in results.study.tasks
    )


def closing_notes(results: StudyResults, *notes: str) -> tuple[str, ...]:
    """The notes below a table: its own, which data are subsets, and the spec's."""
    subsets = [note for task in results.study.tasks if (note := subset_note(results, task))]
    return (*notes, *(f"{note}." for note in subsets), *([results.study.notes] if results.study.notes else []))


def absent_runs(results: StudyResults) -> tuple[str, ...]:
    """The runs of a study that are not recorded, in words."""
    return missing_in_words(cell for cell in results.cells if cell.record is None or cell.record.status != "completed")


def study_command(results: StudyResults) -> str:
    """What runs a study's trainings that are not recorded yet."""
    return f"supermask study run {results.study.name}"


def signed(value: float) -> str:
    """A difference in points, with its sign.

    Example:
        >>> signed(0.44), signed(-1.26), signed(-0.04)
        ('+0.4', '−1.3', '0.0')
    """
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def _mean_sd(value: Seeded) -> str:
    return _fixed(value.mean, 1) + (f" ± {_fixed(value.sd, 1)}" if value.sd is not None else "")


def _fixed(value: float, digits: int) -> str:
    """A number with so many digits after the point; no zero is negative.

    Example:
        >>> _fixed(-0.0001, 1), _fixed(-84.25, 1), _fixed(36816.0, 0)
        ('0.0', '−84.2', '36,816')
    """
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text.replace("-", "−")
