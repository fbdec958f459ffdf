"""Distances and overlaps over a whole model, against the time of reading it.

    python benchmarks/analysis.py --output benchmarks/results/analysis.json

Two models of BERT-base's size, the second a little off the first, and two keep masks of the same size. Every measure
goes over all matrices; beside it stands the time of reading both once (torch's own sums, on as many threads as
torch has) and, for the scale, of the same formula in plain torch, which copies whole tensors. Rows take turns, and a
figure is the ratio of medians within the one run.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supermask.core import angular_distance, count_zeros, l0_distance, l1_distance
from supermask.training.provenance import current_environment

SHAPES = [(30522, 768), *([(768, 768)] * 4 + [(3072, 768), (768, 3072)]) * 12]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--smoke", action="store_true", help="tiny tensors, to see that the benchmark runs")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    record = measure([(300, 304)] * 2 if given.smoke else SHAPES, given.rounds)
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))
    return 0


def pairs(shapes: list[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for shape in shapes:
        first = 0.04 * torch.randn(shape, generator=generator)
        made.append((first, first + 0.001 * torch.randn(shape, generator=generator)))
    return made


def measure(shapes: list[tuple[int, int]], rounds: int) -> dict[str, Any]:
    """Seconds of every row over all tensors."""
    weights = pairs(shapes)
    masks = [(first > -0.08, second > -0.08) for first, second in weights]
    rows: dict[str, Callable[[], object]] = {
        "read the weights": lambda: [(first.sum(), second.sum()) for first, second in weights],
        "L1": lambda: [l1_distance(first, second) for first, second in weights],
        "angular": lambda: [angular_distance(first, second) for first, second in weights],
        "L0": lambda: [l0_distance(first, second) for first, second in weights],
        "L1, plain torch": lambda: [plain_l1(first, second) for first, second in weights],
        "angular, plain torch": lambda: [plain_angular(first, second) for first, second in weights],
        "L0, plain torch": lambda: [int((first != second).count_nonzero()) for first, second in weights],
        "read the masks": lambda: [(read(first), read(second)) for first, second in masks],
        "overlap": lambda: [count_zeros(first, second) for first, second in masks],
        "overlap, plain torch": lambda: [plain_overlap(first, second) for first, second in masks],
    }
    seconds: dict[str, list[float]] = {row: [] for row in rows}
    for row in rows.values():
        row()
    for _ in range(rounds):
        for name, row in rows.items():
            gc.collect()
            start = time.perf_counter()
            row()
            seconds[name].append(time.perf_counter() - start)
    return {
        "environment": current_environment().model_dump(),
        "rounds": rounds,
        "weights": sum(first.numel() for first, _ in weights),
        "bytes": {"weights": 2 * nbytes(weights), "masks": 2 * nbytes(masks)},
        "seconds": {name: round(statistics.median(times), 6) for name, times in seconds.items()},
    }


def nbytes(tensors: list[tuple[Tensor, Tensor]]) -> int:
    return sum(first.nbytes for first, _ in tensors)


def read(mask: Tensor) -> Tensor:
    """Reads a mask as the 64-bit words that its bytes make up: torch sums single bytes slowly."""
    return mask.reshape(-1).view(torch.int64).sum()


def plain_l1(first: Tensor, second: Tensor) -> float:
    return float((first.double() - second.double()).abs().sum())


def plain_angular(first: Tensor, second: Tensor) -> float:
    a, b = first.double().reshape(-1), second.double().reshape(-1)
    a, b = a / a.norm(), b / b.norm()
    return float(2.0 * torch.atan2((a - b).norm(), (a + b).norm()))


def plain_overlap(first: Tensor, second: Tensor) -> tuple[int, int, int]:
    shared = int((~first & ~second).count_nonzero())
    return shared, int(first.count_nonzero()), int(second.count_nonzero())


def table(record: dict[str, Any]) -> str:
    """Markdown: milliseconds, bytes a second, and the multiple of the time of reading."""
    lines = ["| measure | ms | GB/s | / reading both once | plain torch / reading |", "|---|---:|---:|---:|---:|"]
    seconds = record["seconds"]
    for name in ("L1", "angular", "L0", "overlap"):
        what = "masks" if name == "overlap" else "weights"
        reading, plain = seconds[f"read the {what}"], seconds[f"{name}, plain torch"]
        speed = record["bytes"][what] / seconds[name] / 1e9
        lines.append(
            f"| {name} | {1e3 * seconds[name]:.1f} | {speed:.1f} | {seconds[name] / reading:.2f} | "
            f"{plain / reading:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
