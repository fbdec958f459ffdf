"""The tables of docs/reproduction.md, written from the records under results/minilm-l6.

    python studies/reproduction_page.py            # fill them in
    python studies/reproduction_page.py --check    # say whether they are what the records say

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`; what lies between is overwritten. A number
in parentheses behind a score is how many seeds it is the mean of, if it is not one; ± is over seeds.
"""

from __future__ import annotations

import argparse
import functools
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from supermask.analysis import learnt_sparsity, sampled_sparsity
from supermask.report.observation import (
    Observation,
    Seeded,
    display_name,
    expected_number,
    metric_name,
    observe,
    subset_note,
)
from supermask.report.results import StudyResults, collect
from supermask.report.tables.cells import compare, signed
from supermask.report.tables.table2 import attention_matrices
from supermask.study import RecordStore, load_study
from supermask.study.measures import RunMeasures, TensorMeasures

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reproduction.md"
RESULTS = ROOT / "results" / "minilm-l6"
BLOCK = re.compile(r"(<!-- table: (?P<name>[^>]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

SMALL = ("rte", "mrpc", "stsb", "cola")
ALL = (*SMALL, "sst2", "qqp", "mnli")
STARTS = {0: "supermask"} | {start: f"supermask-init{start}" for start in (20, 40, 70, 90)}
NOT_RUN = "not run"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; the exit code is 1 if a table is stale")
    given = parser.parse_args(arguments)
    before = PAGE.read_text(encoding="utf-8")
    after = BLOCK.sub(lambda found: f"{found[1]}\n{TABLES[found['name']]()}\n\n{found[3]}", before)
    if given.check:
        return int(before != after)
    PAGE.write_text(after, encoding="utf-8")
    return 0


# What there is


@functools.lru_cache(maxsize=1)
def store() -> RecordStore:
    return RecordStore(RESULTS)


@functools.lru_cache(maxsize=32)
def results(study: str) -> StudyResults:
    return collect(load_study(study), store())


def seen(study: str, arm: str, task: str) -> Observation:
    return observe(results(study), arm, task)


def measured(study: str, arm: str, task: str) -> RunMeasures | None:
    """Of the first seed that was measured."""
    found = seen(study, arm, task).measured()
    return found[0][1] if found else None


# Cells


def number(value: Seeded | None, digits: int = 1, unit: str = "") -> str:
    """Mean, spread over seeds, and how many these are."""
    if value is None:
        return NOT_RUN
    seeds = len(value.values)
    spread = f" ± {value.sd:.{digits}f}" if value.sd is not None else ""
    return f"{value.mean:.{digits}f}{spread}{unit}" + (f" ({seeds})" if seeds > 1 else "")


def score(study: str, arm: str, task: str) -> str:
    """Of the deterministic task model: thresholded, pruned or with its values."""
    return number(seen(study, arm, task).score())


def draws(study: str, arm: str, task: str) -> str:
    """Mean over draws, then over seeds."""
    return number(seen(study, arm, task).sampled_score())


def within(study: str, arm: str, task: str) -> str:
    """Spread over the draws of a run."""
    sd = seen(study, arm, task).draw_sd()
    return "" if sd is None else f"± {sd:.1f}"


def zeros(study: str, arm: str, task: str, *, sampled: bool = False) -> str:
    found = seen(study, arm, task)
    return number(found.sampled_sparsity() if sampled else found.sparsity(), 2, " %")


def paper_score(study: str, arm: str, task: str) -> str:
    found = expected_number(results(study), "score", arm=arm, task=task)
    if found is None:
        return ""
    return f"{100 * found.value:.1f}" + (f" ± {100 * found.spread:.1f}" if found.spread is not None else "")


def name(study: str, task: str) -> str:
    return display_name(task) + (" subset" if subset_note(results(study), task) else "")


def label(study: str, arm: str) -> str:
    return next(one.label for one in results(study).study.arms if one.name == arm)


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows))


# Distances


def _distance_tasks(arm: str) -> list[str]:
    return [task for task in ALL if measured("table2", arm, task) is not None]


def _matrices(arm: str, task: str) -> tuple[TensorMeasures, ...]:
    found = measured("table2", arm, task)
    return () if found is None else attention_matrices(found)


def _values(tensors: Iterable[TensorMeasures], field: str) -> list[float]:
    return [value for tensor in tensors if (value := getattr(tensor, field)) is not None]


def closeness() -> str:
    """Smallest and largest distances of self-attention matrices over all tasks."""

    def span(arm: str, field: str, digits: int) -> str:
        found = [value for task in _distance_tasks(arm) for value in _values(_matrices(arm, task), field)]
        return f"{min(found):.{digits}f} to {max(found):.{digits}f}"

    lines = [
        ["paper, 768 x 768, L1", "20.0 ± 0.1", "16.7 ± 0.1", "0.1 to 3.3", ""],
        ["by formula, 768 x 768, largest column sum", "20.0", "16.7", "", ""],
        ["ours, 384 x 384, largest column sum", "14.5", "8.6", *_both(span, "largest_column_sum", 2)],
        ["ours, ‖·‖₁ / √n", "13.1", "7.7", *_both(span, "l1", 2)],
        ["paper, angle / π", "0.500", "0.500", "0.001 to 0.027", ""],
        ["ours, angle / π", "0.500", "0.500", *_both(span, "angular", 3)],
    ]
    header = ["", "uniform initialisations", "BERT's own initialisation", "fine-tuned, 2e-5", "fine-tuned, 1e-4"]
    return markdown(header, lines)


def _both(span: Callable[[str, str, int], str], field: str, digits: int) -> list[str]:
    return [span(arm, field, digits) for arm in ("full", "full-lr1e-4")]


def steps() -> str:
    tasks = _distance_tasks("full")
    steps_of = {task: seen("table2", "full", task).steps() for task in tasks}
    tasks.sort(key=lambda task: steps_of[task].mean)  # type: ignore[union-attr]
    return markdown(
        ["", *(name("table2", task) for task in tasks)],
        [
            ["steps", *(f"{steps_of[task].mean:,.0f}" for task in tasks)],  # type: ignore[union-attr]
            ["angle / π", *(f"{statistics.fmean(_values(_matrices('full', task), 'angular')):.4f}" for task in tasks)],
            ["‖·‖₁ / √n", *(f"{statistics.fmean(_values(_matrices('full', task), 'l1')):.3f}" for task in tasks)],
        ],
    )


def _over_tasks(rows: Sequence[tuple[str, str, str]], cell: Callable[[str, str, str], str]) -> str:
    """A row a distance and arm, a column a task."""
    tasks = [task for task in ALL if any(task in _distance_tasks(arm) for _, arm, _ in rows)]
    return markdown(
        ["", *(name("table2", task) for task in tasks)],
        [
            [title, *(cell(arm, task, field) if _matrices(arm, task) else "" for task in tasks)]
            for title, arm, field in rows
        ],
    )


def depth() -> str:
    """Correlation of a block's mean distance with its depth."""

    def correlation(arm: str, task: str, field: str) -> str:
        matrices = _matrices(arm, task)
        blocks = sorted({one.block for one in matrices if one.block is not None})
        means = [statistics.fmean(_values((one for one in matrices if one.block == block), field)) for block in blocks]
        return f"{statistics.correlation(blocks, means):+.2f}"

    rows = [
        ("L1, 2e-5 (claim: positive)", "full", "l1"),
        ("L1, 1e-4", "full-lr1e-4", "l1"),
        ("angle, 2e-5 (claim: negative)", "full", "angular"),
        ("angle, 1e-4", "full-lr1e-4", "angular"),
    ]
    return _over_tasks(rows, correlation)


def roles() -> str:
    """Mean distance of value and output matrices over that of query and key matrices."""

    def share(arm: str, task: str, field: str) -> str:
        def mean(*wanted: str) -> float:
            return statistics.fmean(_values((one for one in _matrices(arm, task) if one.role in wanted), field))

        return f"{mean('value', 'attention_output') / mean('query', 'key'):.2f}"

    rows = [
        (f"{title}, {rate}", arm, field)
        for title, field in (("angle", "angular"), ("L1", "l1"))
        for rate, arm in (("2e-5", "full"), ("1e-4", "full-lr1e-4"))
    ]
    return _over_tasks(rows, share)


# Scores


def exclusions() -> str:
    arms = [one.name for one in results("table3").study.arms if one.method["kind"] == "freezing"]
    lines = []
    for arm in arms:
        less = ""
        if arm != "full":
            found = compare(seen("table3", arm, "mrpc"), seen("table3", "full", "mrpc"), results("table3"))
            if found is not None:
                less = signed(found.difference)
                if found.interval is not None:
                    less += f" [{signed(found.interval.low)}, {signed(found.interval.high)}]"
        title = label("table3", arm)
        lines.append([title, paper_score("table3", arm, "mrpc"), score("table3", arm, "mrpc"), less])
    return markdown(["excluded", "paper", "ours", "less baseline [95 % interval]"], lines)


def masked_parts() -> str:
    lines = [
        [start, paper_score("table3", arm, "mrpc"), *(of("table3", arm, "mrpc") for of in (score, draws, within))]
        for start, arm in (("30 %", "supermask-123-init30"), ("40 %", "supermask-123-init40"))
    ]
    return markdown(["initial sparsity", "paper", "ours, thresholded", "draws", "within a run"], lines)


def low_sparsity() -> str:
    lines = []
    for task in ALL:
        found = expected_number(results("table5"), "sparsity", arm="supermask", task=task)
        lines.append(
            [
                f"{name('table5', task)}, {metric_name(task)}",
                f"{paper_score('table5', 'full', task)}, {paper_score('table5', 'supermask', task)}",
                "" if found is None else f"{100 * found.value:.1f} %",
                score("table5", "full", task),
                score("table5", "full-lr1e-4", task),
                score("table5", "supermask", task),
                draws("table5", "supermask", task),
                within("table5", "supermask", task),
                zeros("table5", "supermask", task),
                zeros("table5", "supermask", task, sampled=True),
            ]
        )
    header = ["task, metric", "paper: baseline, supermask", "paper: zeros", "ours: full 2e-5", "full 1e-4"]
    header += ["supermask, thresholded", "draws", "within a run", "zeros, thresholded", "zeros, draws"]
    return markdown(header, lines)


def length() -> str:
    """Steps and zeros, by rising steps; official data whole."""
    tasks = [task for task in ALL if subset_note(results("table5"), task) is None]

    def paper(task: str) -> str:
        found = expected_number(results("table5"), "sparsity", arm="supermask", task=task)
        return "" if found is None else f"{100 * learnt_sparsity(found.value):.1f} %"

    return markdown(
        ["", *(display_name(task) for task in tasks)],
        [
            ["steps", *(f"{seen('table5', 'supermask', task).steps().mean:,.0f}" for task in tasks)],  # type: ignore[union-attr]
            ["zeros, thresholded", *(zeros("table5", "supermask", task) for task in tasks)],
            ["paper's zeros less the noise floor", *map(paper, tasks)],
        ],
    )


def over_sparsity() -> str:
    lines = []
    for task in SMALL:
        title = f"{display_name(task)}, {metric_name(task)}"
        baseline = score("figure3", "full", task)
        lines.append([title, "draws", baseline, *(draws("figure3", arm, task) for arm in STARTS.values())])
        lines.append(["", "thresholded", "", *(score("figure3", arm, task) for arm in STARTS.values())])
    return markdown(["task, metric", "mask", "full 2e-5", *(f"{start} %" for start in STARTS)], lines)


def drift() -> str:
    """Zeros before and after training; thresholded, and expected in a draw."""
    lines = []
    for start, arm in STARTS.items():
        before = sampled_sparsity(start / 100, certain=False)
        lines.append([f"{start} %", "thresholded", f"{start:.2f} %", *(zeros("figure9", arm, task) for task in SMALL)])
        after = (zeros("figure9", arm, task, sampled=True) for task in SMALL)
        lines.append(["", "draws", f"{100 * before:.2f} %", *after])
    return markdown(["start", "mask", "before", *map(display_name, SMALL)], lines)


def learning_rates() -> str:
    arms = sorted(results("table6").study.arms, key=lambda arm: -float(arm.method.get("learning_rate", 0.2)))
    names = [arm.name for arm in arms]
    rows: list[tuple[str, Callable[[str], str]]] = [
        ("paper", lambda arm: paper_score("table6", arm, "mrpc")),
        ("ours, thresholded", lambda arm: score("table6", arm, "mrpc")),
        ("ours, draws", lambda arm: draws("table6", arm, "mrpc")),
        ("zeros, thresholded", lambda arm: zeros("table6", arm, "mrpc")),
    ]
    header = ["", *(f"{float(arm.method.get('learning_rate', 0.2)):.0e}".replace("e-0", "e-") for arm in arms)]
    return markdown(header, [[title, *map(of, names)] for title, of in rows])


def pruning() -> str:
    arms = [one for one in results("figure8").study.arms if one.method["kind"] == "pruning"]
    lines = [
        [
            f"{display_name(task)}, {metric_name(task)}",
            score("figure8", "full", task),
            *(score("figure8", arm.name, task) for arm in arms),
        ]
        for task in SMALL
    ]
    shares = [f"{100 * float(arm.method['sparsity']):.0f} %" for arm in arms]
    return markdown(["task, metric", "full 2e-5", *shares], lines)


def conventions() -> str:
    lines = [
        [
            arm.label,
            *(of("conventions", arm.name, "mrpc") for of in (score, draws, within, zeros)),
            zeros("conventions", arm.name, "mrpc", sampled=True),
        ]
        for arm in results("conventions").study.arms
    ]
    header = ["gradient, eps", "F1, thresholded", "F1, draws", "within a run", "zeros, thresholded", "zeros, draws"]
    return markdown(header, lines)


TABLES: dict[str, Callable[[], str]] = {
    "closeness": closeness,
    "steps": steps,
    "depth": depth,
    "roles": roles,
    "exclusions": exclusions,
    "masked parts": masked_parts,
    "low sparsity": low_sparsity,
    "length": length,
    "over sparsity": over_sparsity,
    "drift": drift,
    "learning rates": learning_rates,
    "pruning": pruning,
    "conventions": conventions,
}


if __name__ == "__main__":
    sys.exit(main())
