"""Markdown of what benchmarks/training.py has measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from training_rows import FULL, PHASES, SAME

MIB = 2**20


def section_tables(section: dict[str, Any]) -> list[str]:
    """The tables of one section, each under a line that says what it is of."""
    tables = [time_table, phase_table] if section["what"] == "time" else [memory_table]
    return [f"{caption(section)}\n\n{table(section)}" for table in tables if table(section)]


def caption(section: dict[str, Any]) -> str:
    environment = section["environment"]
    return (
        f"{section['model']}, {section['device']}, {section['precision']}, batch {section['batch']}, length "
        f"{section['length']}{_allocator(section)}: {environment['device']}, {environment['threads']} threads, torch "
        f"{environment['torch']}, transformers {environment['transformers']}, peft {environment['peft']}, Python "
        f"{environment['python']}"
    )


def _allocator(section: dict[str, Any]) -> str:
    return f", allocator {section['allocator']}" if "allocator" in section else ""


def rows_of(section: dict[str, Any]) -> list[str]:
    """Every row that a run of the section has; not all runs have all."""
    return list(dict.fromkeys(row for run in section["runs"] for row in run["seconds"]))


def ratio(section: dict[str, Any], row: str, other: str) -> float | None:
    """The median over runs of a row's time over another's in the same run."""
    runs = [run["seconds"] for run in section["runs"] if row in run["seconds"] and other in run["seconds"]]
    shares = [seconds[row] / seconds[other] for seconds in runs]
    return statistics.median(shares) if shares else None


def time_table(section: dict[str, Any]) -> str:
    lines = []
    for row in rows_of(section):
        seconds = statistics.median(run["seconds"][row] for run in section["runs"] if row in run["seconds"])
        shares = (ratio(section, row, other) for other in (FULL, SAME))
        lines.append([row, f"{1e3 * seconds:.0f}", f"{section['batch'] / seconds:.1f}", *map(two_digits, shares)])
    return markdown(["row", "step, ms", "samples/s", "/ full", "/ same matrices"], lines)


def phase_table(section: dict[str, Any]) -> str:
    """Milliseconds by phase; nothing where a device does not tell them apart."""
    if section["device"] != "cpu":
        return ""
    lines = []
    for row in rows_of(section):
        phases = [run["phases"][row] for run in section["runs"] if row in run["phases"]]
        values = [statistics.median(one[phase] for one in phases) for phase in PHASES]
        lines.append([row, *(f"{1e3 * value:.1f}" for value in values)])
    return markdown(["row", *(f"{phase}, ms" for phase in PHASES)], lines)


def memory_table(section: dict[str, Any]) -> str:
    run = section["runs"][-1]
    rows, weights = run["rows"], run["masked_weights"]
    full, same = rows.get(FULL), rows.get(SAME)
    lines = []
    for name, row in rows.items():
        saved = (row["saved_for_backward"] - same["saved_for_backward"]) / weights if same else None
        lines.append(
            [
                name,
                f"{row['alive'] / MIB:.0f}",
                f"{row['peak'] / MIB:.0f}",
                two_digits(row["peak"] / full["peak"] if full else None),
                two_digits(saved),
            ]
        )
    return markdown(
        ["row", "between steps, MiB", "peak, MiB", "/ full", "saved for backward beyond same matrices, bytes a weight"],
        lines,
    )


def two_digits(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    aligned = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, aligned, *lines))
