"""The compiled operations on a CPU, against copying the same weights in memory: what each costs, and what it must.

    python benchmarks/kernels_cpu.py --threads 2 --output benchmarks/results/kernels-cpu.json

`models`: every operation goes over all masked matrices of a model, one after the other as a training step does. Rows
take turns, and a ratio is one of medians within this run. The *floor* of a row is the bytes that it must read and
write, over those of copying: what the ratio would be if nothing counted but memory. Results go to tensors that exist
(`out`), as those of copying do, but in the rows that say so.

`tensors`: the time of a single call by size, everything in cache: what calling costs.

`starting`: the time of the first call in a new process, with and without the compiled code on disk.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supermask.core.counter_random import key_words
from supermask.core.kernels import cpu, reference
from supermask.training.provenance import current_environment

WIDTHS = {"minilm-l6": (384, 1536, 6), "bert-base": (768, 3072, 12), "tiny": (16, 32, 2)}
SIZES = (1024, 16_384, 147_456, 589_824, 2_359_296)
KEY = key_words("benchmark")
FIRST_CALL = """
import time
import torch
from supermask.core import masked_weight
start = time.perf_counter()
from supermask.core.kernels import cpu
imported = time.perf_counter()
weight, logits = torch.ones(2, 2), torch.zeros(2, 2)
cpu.draw_masked_weight(weight, logits, (1, 2), dtype=torch.float32)
drawn = time.perf_counter()
cpu.mask_logit_gradient(weight, weight, logits, through=True)
print(imported - start, drawn - imported, time.perf_counter() - drawn)
"""

PARTS = ["models", "tensors", "starting"]

Row = tuple[Callable[[], object], float]  # what it does, and how many bytes a weight it must read and write


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(WIDTHS), default=["minilm-l6", "bert-base"])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="all by default")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--smoke", action="store_true", help="tiny tensors, to see that the benchmark runs")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    torch.set_grad_enabled(False)
    names, sizes = (["tiny"], SIZES[:1]) if given.smoke else (given.models, SIZES)
    record: dict[str, Any] = {"environment": current_environment().model_dump()}
    if given.output and given.output.exists():  # parts measured before stay
        record = json.loads(given.output.read_text()) | record
    if "models" in given.parts:
        record["rounds"] = given.rounds
        record["models"] = record.get("models", {}) | {name: measure_model(name, given.rounds) for name in names}
    if "tensors" in given.parts:
        record["tensors"] = {str(size): measure_calls(size, given.rounds) for size in sizes}
    if "starting" in given.parts:
        record["starting"] = measure_starting()
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(record, indent=1) + "\n")
    print_tables(record)
    return 0


def measure_model(name: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of every row, over copying, and over the floor."""
    width, inner, blocks = WIDTHS[name]
    shapes = [*([(width, width)] * 4 + [(inner, width), (width, inner)]) * blocks, (width, width)]
    weights, gradients, out = ([0.03 * torch.randn(shape) for shape in shapes] for _ in range(3))
    logits = [torch.where(torch.rand(shape) < 0.1, -5.0, 5.0) + 0.5 * torch.randn(shape) for shape in shapes]
    halves, half_gradients, half_out = ([tensor.bfloat16() for tensor in each] for each in (weights, gradients, out))
    signs = [weight.sign() for weight in weights]
    parameters = [torch.nn.Parameter(logit.clone()) for logit in logits]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer = torch.optim.AdamW(parameters, lr=1e-9, weight_decay=0.0, fused=True)
    workspace = torch.empty(inner * width)

    def over(do: Callable[..., object], *lists: list[Tensor]) -> Callable[[], None]:
        def run() -> None:
            for tensors in zip(*lists, strict=True):
                do(*tensors)

        return run

    def draw(kernels: Any, dtype: torch.dtype, *, given_out: bool = True) -> Callable[..., object]:
        if given_out:
            return lambda weight, logit, into: kernels.draw_masked_weight(weight, logit, KEY, dtype=dtype, out=into)
        return lambda weight, logit: kernels.draw_masked_weight(weight, logit, KEY, dtype=dtype)

    def draw_to_workspace(weight: Tensor, logit: Tensor) -> Tensor:
        into = workspace[: weight.numel()].view(weight.shape)
        return cpu.draw_masked_weight(weight, logit, KEY, dtype=torch.float32, out=into)

    def threshold(weight: Tensor, logit: Tensor, into: Tensor) -> Tensor:
        return cpu.threshold_masked_weight(weight, logit, dtype=torch.float32, out=into)

    def gradient_of(kernels: Any, *, through: bool) -> Callable[..., object]:
        return lambda gradient, weight, logit, into: kernels.mask_logit_gradient(
            gradient, weight, logit, through=through, out=into
        )

    single, half = torch.float32, torch.bfloat16
    rows: dict[str, Row] = {
        "copy": (over(Tensor.copy_, out, weights), 8),
        "add two tensors into a third": (over(lambda a, b, c: torch.add(a, b, out=c), weights, logits, out), 12),
        "draw": (over(draw(cpu, single), weights, logits, out), 12),
        "draw, all into one workspace": (over(draw_to_workspace, weights, logits), 8),
        "draw, into new tensors": (over(draw(cpu, single, given_out=False), weights, logits), 12),
        "draw, eager": (over(draw(reference, single), weights, logits, out), 12),
        "draw, float32 to bfloat16": (over(draw(cpu, half), weights, logits, half_out), 10),
        "draw, bfloat16": (over(draw(cpu, half), halves, logits, half_out), 8),
        "threshold": (over(threshold, weights, logits, out), 12),
        "keep mask, into new tensors": (over(lambda logit: cpu.draw_keep_mask(logit, KEY), logits), 5),
        "gradient, stop": (over(gradient_of(cpu, through=False), gradients, weights, logits, out), 12),
        "gradient, through": (over(gradient_of(cpu, through=True), gradients, weights, logits, out), 16),
        "gradient, stop, in place": (over(gradient_of(cpu, through=False), signs, signs, logits, signs), 12),
        "gradient, through, of bfloat16": (
            over(gradient_of(cpu, through=True), half_gradients, halves, logits, out),
            12,
        ),
        "gradient, through, eager": (over(gradient_of(reference, through=True), gradients, weights, logits, out), 16),
        "Adam, fused of torch": (optimizer.step, 28),
    }
    seconds = take_turns({row: do for row, (do, _) in rows.items()}, rounds)
    copying = seconds["copy"]
    return {
        "weights": sum(weight.numel() for weight in weights),
        "rows": {
            row: {
                "ms": round(seconds[row] * 1e3, 3),
                "/ copy": round(seconds[row] / copying, 2),
                "floor": round(bytes_moved / 8, 2),
            }
            for row, (_, bytes_moved) in rows.items()
        },
    }


def measure_calls(size: int, rounds: int) -> dict[str, float]:
    """Microseconds of one call."""
    weight, logits, out = torch.randn(size), torch.full((size,), 5.0), torch.empty(size)
    rows: dict[str, Callable[[], object]] = {
        "copy": lambda: out.copy_(weight),
        "draw": lambda: cpu.draw_masked_weight(weight, logits, KEY, dtype=torch.float32, out=out),
        "draw, eager": lambda: reference.draw_masked_weight(weight, logits, KEY, dtype=torch.float32, out=out),
        "gradient, through": lambda: cpu.mask_logit_gradient(weight, weight, logits, through=True, out=out),
    }
    return {row: round(taken * 1e6, 1) for row, taken in take_turns(rows, 5 * rounds).items()}


def measure_starting() -> dict[str, dict[str, float]]:
    """Seconds of the first call in a new process."""
    times = {}
    with tempfile.TemporaryDirectory() as empty:
        for code in ("to be compiled", "on disk"):
            environment = os.environ | {"NUMBA_CACHE_DIR": empty}
            finished = subprocess.run(
                [sys.executable, "-c", FIRST_CALL], env=environment, capture_output=True, text=True, check=True
            )
            parts = (round(float(part), 3) for part in finished.stdout.split())
            times[code] = dict(zip(("import, s", "first draw, s", "first gradient, s"), parts, strict=True))
    return times


def take_turns(rows: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, interleaved."""
    seconds: dict[str, list[float]] = {row: [] for row in rows}
    gc.disable()
    for turn in range(rounds + 2):  # two turns to compile and to settle
        for row, do in rows.items():
            if "eager" in row and turn > 4:  # many times slower than the rest: three turns will do
                continue
            started = time.perf_counter()
            do()
            if turn >= 2:
                seconds[row].append(time.perf_counter() - started)
    gc.enable()
    return {row: statistics.median(taken) for row, taken in seconds.items()}


def print_tables(record: dict[str, Any]) -> None:
    for name, model in record.get("models", {}).items():
        print(f"{name}, {model['weights']:,} masked weights, {record['environment']['threads']} threads\n")
        print("| | ms | / copy | floor |\n|---|---|---|---|")
        for row, figures in model["rows"].items():
            print(f"| {row} | {figures['ms']} | {figures['/ copy']} | {figures['floor']} |")
        print()
    if "tensors" in record:
        columns = list(next(iter(record["tensors"].values())))
        print("| weights, µs a call | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
        for size, figures in record["tensors"].items():
            print(f"| {int(size):,} | " + " | ".join(str(figures[column]) for column in columns) + " |")
        print()
    if "starting" in record:
        print(json.dumps(record["starting"], indent=1))


if __name__ == "__main__":
    sys.exit(main())
