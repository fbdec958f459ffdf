"""The tables of docs/performance.md, written from the records under benchmarks/results.

    python benchmarks/page.py            # fill them in
    python benchmarks/page.py --check    # say whether they are what the records say

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`; what lies between is overwritten.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import startup
from training_rows import FULL, SAME
from training_tables import markdown, memory_table, phase_table, ratio, time_table, two_digits

import analysis
from training import KEPT, LORA

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- table: (?P<name>[^>]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; the exit code is 1 if a table is stale")
    given = parser.parse_args(arguments)
    before = PAGE.read_text(encoding="utf-8")
    after = filled(before)
    if given.check:
        return int(before != after)
    PAGE.write_text(after, encoding="utf-8")
    return 0


def filled(page: str) -> str:
    """The page with every table as the records have it."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{table(found['name'])}\n\n{found[3]}", page)


def table(name: str) -> str:
    what, *key = name.split()
    try:
        return TABLES[what](*key)
    except NotMeasuredError as error:
        return f"Not measured yet: {error}."


class NotMeasuredError(LookupError):
    """There is no record of what a table shows; says what is missing."""


def record(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    if not path.exists():
        raise NotMeasuredError(f"no `{path.relative_to(ROOT).as_posix()}`")
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def section(what: str, model: str, device: str, precision: str, length: str) -> dict[str, Any]:
    """One section of the training record."""
    key = {"what": what, "model": model, "device": device, "precision": precision, "length": int(length)}
    if what == "time" and device == "cpu":
        key["allocator"] = KEPT
    found = [one for one in record("training")["sections"] if all(one.get(name) == key[name] for name in key)]
    if not found:
        raise NotMeasuredError(f"{what}, {model}, {precision}, length {length} on {device}")
    return dict(found[0])


# Goals: what is compared, the largest value that meets the goal, and where it comes from.


def goals() -> str:
    lines: list[tuple[str, float, float]] = []
    for length in ("64", "128"):
        with contextlib.suppress(NotMeasuredError):  # a goal without a record has no line
            lines += step_goals(length)
    for model in ("minilm-l6", "bert-base"):
        run = section("memory", model, "cpu", "fp32", "128")["runs"][-1]
        rows, weights = run["rows"], run["masked_weights"]
        for row in ("supermask, fused", "supermask, fused, 8-bit state"):
            peak = rows[row]["peak"] / rows[FULL]["peak"]
            lines.append((f"{model}: peak memory, {row} / full fine-tuning", 1.00, peak))
        saved = (rows["supermask, fused"]["saved_for_backward"] - rows[SAME]["saved_for_backward"]) / weights
        lines.append((f"{model}: bytes a masked weight saved for backward beyond the same matrices", 0.0, saved))
    for model in ("minilm-l6", "bert-base"):
        share = record("kernels-cpu")["models"][model]["rows"]["draw"]["/ copy"]
        lines.append((f"the mask operation / copying the weights, {model}", 3.0, share))
    with contextlib.suppress(NotMeasuredError):
        seconds = record("startup")["seconds"]
        lines.append(("`supermask --help` beyond Python, s", 0.5, seconds["supermask --help"] - seconds["python"]))
    return markdown(
        ["goal", "at most", "measured", "met"],
        [
            [name, f"{bound:.2f}", f"{value:.2f}", "yes" if round(value, 2) <= bound else "**no**"]
            for name, bound, value in lines
        ],
    )


def step_goals(length: str) -> list[tuple[str, float, float]]:
    found = section("time", "minilm-l6", "cpu", "fp32", length)
    # Of the supermask, from the runs of few rows: the fewer models in a process, the less do they disturb each other.
    few = {**found, "runs": [run for run in found["runs"] if LORA in run["seconds"]]}

    def share(runs: dict[str, Any], row: str, other: str) -> float:
        value = ratio(runs, row, other)
        assert value is not None
        return value

    return [
        (f"length {length}: supermask / full fine-tuning", 0.92, share(few, "supermask, fused", FULL)),
        (f"length {length}: supermask / fine-tuning the same matrices", 1.02, share(few, "supermask, fused", SAME)),
        (f"length {length}: supermask / LoRA r=8", 1.00, share(few, "supermask, fused", LORA)),
        (f"length {length}: pruning / full fine-tuning", 1.02, share(found, "pruning", FULL)),
        (f"length {length}: freezing / full fine-tuning", 1.02, share(found, "freezing", FULL)),
    ]


def runs() -> str:
    """The supermask's step over others', in every run of every section."""
    lines = []
    for found in record("training")["sections"]:
        if found["what"] != "time" or found["device"] != "cpu":
            continue
        for run in found["runs"]:
            seconds = run["seconds"]
            shares = (
                seconds["supermask, fused"] / seconds[row] if row in seconds else None for row in (FULL, SAME, LORA)
            )
            lines.append(
                [
                    f"{found['model']}, {found['precision']}, {found['length']}",
                    found["allocator"],
                    str(len(seconds)),
                    *map(two_digits, shares),
                ]
            )
    return markdown(["model, precision, length", "memory", "rows", "/ full", "/ same matrices", "/ LoRA r=8"], lines)


KERNEL_ROWS = (
    "copy",
    "draw",
    "draw, bfloat16",
    "threshold",
    "gradient, stop",
    "gradient, through",
    "draw, eager",
    "gradient, through, eager",
    "Adam, fused of torch",
)


def kernels() -> str:
    """The mask's operations over copying: measured, and the bytes that they must move."""
    models = record("kernels-cpu")["models"]
    lines = []
    for row in KERNEL_ROWS:
        cells = [row]
        for model in models.values():
            found = model["rows"][row]
            cells += [f"{found['ms']:.1f}", f"{found['/ copy']:.2f}"]
        lines.append([*cells, f"{found['floor']:.2f}"])
    header = [f"{name}, {what}" for name in models for what in ("ms", "/ copy")]
    return markdown(["operation", *header, "bytes / copy's"], lines)


def startup_part(part: int) -> Callable[[], str]:
    return lambda: startup.table(record("startup")).split("\n\n")[part]


TABLES: dict[str, Callable[..., str]] = {
    "goals": goals,
    "runs": runs,
    "time": lambda *key: time_table(section("time", *key)),
    "phases": lambda *key: phase_table(section("time", *key)),
    "memory": lambda *key: memory_table(section("memory", *key)),
    "kernels": kernels,
    "analysis": lambda: analysis.table(record("analysis")),
    "commands": startup_part(0),
    "first-step": startup_part(1),
}


if __name__ == "__main__":
    sys.exit(main())
