"""The Triton kernels on a CUDA device: their share of copy bandwidth, and that they draw the CPU's masks.

    python benchmarks/kernels_gpu.py --output benchmarks/results/kernels-gpu.json
    python benchmarks/kernels_gpu.py --sweep

Every time is a median over launches that are told apart by CUDA events. Before each launch a buffer four times the
second-level cache is written, so that no operand is found there, and so that the host, which takes longer to launch
than small kernels to run, is ahead of the device. Bandwidth is that of the bytes that an operation must move, each read
or written once; copying is measured in the same run, on the same number of bytes as the kernel moves, and the share of
it is what counts. Rounds go over all rows, so that a change of clocks meets all alike. `--sweep` also tries other block
sizes. Ends with 1 if a mask differs, and with 2 if there is no CUDA device.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supermask.core.kernels.adam8 import BLOCK, EightBitMoments
from supermask.core.kernels.arguments import AdamStep

BERT_BASE = 12 * (4 * 768 * 768 + 2 * 768 * 3072)
FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# A learning rate of 0, or hundreds of steps would carry ν away.
ADAM = {"learning_rate": 0.0, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "step": 10}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=int, default=BERT_BASE, help="by default those masked in BERT-base, 85M")
    parser.add_argument("--matrix", type=int, default=768 * 768, help="weights of a matrix, for the host's time")
    parser.add_argument("--dtype", choices=list(FLOATS), default="bfloat16", help="of weights and of their gradients")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--sweep", action="store_true", help="try other block sizes and numbers of warps as well")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("kernels_gpu: torch sees no CUDA device; this benchmark measures nothing else", file=sys.stderr)
        return 2
    from supermask.core.kernels import triton_kernels

    device = torch.device("cuda", torch.cuda.current_device())
    different = differing_results(triton_kernels, device)
    with torch.no_grad():
        operands = make_operands(given.weights, FLOATS[given.dtype], device)
        rows = measured_rows(operations(triton_kernels, operands), operands, given.rounds)
        record: dict[str, Any] = {
            "environment": environment(device),
            "weights": given.weights,
            "dtype": given.dtype,
            "rounds": given.rounds,
            "different": different,
            "rows": rows,
            "host microseconds a launch": host_time(triton_kernels, given.matrix, FLOATS[given.dtype], device),
        }
        if given.sweep:
            record["sweep"] = swept(triton_kernels, operands, given.rounds)
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(record, indent=1) + "\n")
    print_record(record)
    return 1 if different else 0


def environment(device: torch.device) -> dict[str, Any]:
    import triton

    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "memory": properties.total_memory,
        "second-level cache": cache_bytes(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": triton.__version__,
        "python": platform.python_version(),
    }


def cache_bytes(device: torch.device) -> int:
    return int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 64 << 20))


# What is measured


@dataclass(frozen=True)
class Operands:
    """Tensors as a training step has them, most ν near 5; and what copying is measured with."""

    weight: Tensor
    gradient: Tensor
    mask_logits: Tensor
    logit_gradient: Tensor
    eight_bit: EightBitMoments
    key: Tensor
    scale: Tensor


@dataclass(frozen=True)
class Operation:
    """One row: the bytes that it must move for a weight, and how it is done."""

    name: str
    bytes_per_weight: float
    do: Callable[[], object]


def make_operands(count: int, dtype: torch.dtype, device: torch.device) -> Operands:
    generator = torch.Generator(device).manual_seed(0)

    def normal() -> Tensor:
        return torch.randn(count, generator=generator, device=device)

    blocks = -(-count // BLOCK)
    codes = [torch.randint(0, 255, (count,), generator=generator, device=device).to(torch.uint8) for _ in range(2)]
    scales = [torch.rand(blocks, generator=generator, device=device) * 1e-3 for _ in range(2)]
    return Operands(
        weight=normal().mul_(0.03).to(dtype),
        gradient=normal().mul_(1e-3).to(dtype),
        mask_logits=normal().add_(5.0),
        logit_gradient=normal().mul_(1e-6),
        eight_bit=EightBitMoments(codes[0], scales[0], codes[1], scales[1]),
        key=torch.tensor([0x12345678, 0x9ABCDEF0], device=device),
        scale=torch.tensor(0.5, device=device),
    )


def operations(kernels: Any, at: Operands) -> list[Operation]:
    """The operations of a backend."""
    size = at.weight.element_size()

    def draw() -> Tensor:
        return kernels.draw_masked_weight(at.weight, at.mask_logits, at.key, dtype=at.weight.dtype)

    def draw_mask() -> Tensor:
        return kernels.draw_keep_mask(at.mask_logits, at.key)

    def threshold() -> Tensor:
        return kernels.threshold_masked_weight(at.weight, at.mask_logits, dtype=at.weight.dtype)

    def gradient(through: bool) -> Callable[[], Tensor]:
        return lambda: kernels.mask_logit_gradient(at.gradient, at.weight, at.mask_logits, through=through)

    def adam8() -> None:
        kernels.adam_step_8bit_(
            at.mask_logits, at.logit_gradient, at.eight_bit, AdamStep(**ADAM, gradient_scale=at.scale), key=at.key
        )

    return [
        Operation("draw_masked_weight", 4 + 2 * size, draw),
        Operation("draw_keep_mask", 4 + 1, draw_mask),
        Operation("threshold_masked_weight", 4 + 2 * size, threshold),
        Operation("mask_logit_gradient, stop", 2 * size + 4, gradient(False)),
        Operation("mask_logit_gradient, through", 2 * size + 8, gradient(True)),
        Operation("adam_step_8bit_", 3 * 4 + 4 + 16 / 256, adam8),
    ]


# Measuring


def measured_rows(todo: list[Operation], at: Operands, rounds: int) -> list[dict[str, Any]]:
    """Medians of each operation, and of copying as many bytes."""
    count, device = at.weight.numel(), at.weight.device
    flush = torch.empty(4 * cache_bytes(device), dtype=torch.uint8, device=device)
    moved = {one.name: int(one.bytes_per_weight * count) for one in todo}
    store = torch.empty((2, max(moved.values()) // 32 * 16 + 16), dtype=torch.uint8, device=device)
    tasks: dict[str, Callable[[], object]] = {one.name: one.do for one in todo}
    tasks |= {f"copy {one}": copying(store, size // 2) for one, size in moved.items()}
    for task in tasks.values():  # compiles, and lets the allocator settle
        for _ in range(3):
            task()
    events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            flush.fill_(1)
            begin.record()
            task()
            end.record()
            events[name].append((begin, end))
        torch.cuda.synchronize(device)
    seconds = {
        name: statistics.median(begin.elapsed_time(end) for begin, end in taken) / 1e3 for name, taken in events.items()
    }
    return [
        {
            "operation": one.name,
            "bytes a weight": round(one.bytes_per_weight, 3),
            "microseconds": round(1e6 * seconds[one.name], 2),
            "GB/s": round(moved[one.name] / seconds[one.name] / 1e9, 1),
            "copy, GB/s": round(moved[one.name] / seconds[f"copy {one.name}"] / 1e9, 1),
            "share of copy": round(seconds[f"copy {one.name}"] / seconds[one.name], 3),
        }
        for one in todo
    ]


def copying(store: Tensor, size: int) -> Callable[[], object]:
    """Copy `size` bytes, in 16-byte words where they allow it: reads and writes as many."""
    source, target = (half[: size // 16 * 16].view(torch.float32) for half in store)
    return lambda: target.copy_(source)


def host_time(kernels: Any, count: int, dtype: torch.dtype, device: torch.device) -> dict[str, float]:
    """What a launch takes of the host, on a matrix; beside it, torch's own copy of it to another dtype."""
    at = make_operands(count, dtype, device)
    tasks: dict[str, Callable[[], object]] = {one.name: one.do for one in operations(kernels, at)}
    tasks["torch: to another dtype"] = lambda: at.mask_logits.to(torch.bfloat16)
    taken = {}
    for name, task in tasks.items():
        runs = []
        for _ in range(7):
            torch.cuda.synchronize(device)
            start = time.perf_counter()
            for _ in range(100):  # fewer than the launch queue holds
                task()
            runs.append((time.perf_counter() - start) / 100)
        taken[name] = round(1e6 * statistics.median(runs), 1)
    return taken


# Other block sizes


def swept(kernels: Any, at: Operands, rounds: int) -> list[dict[str, Any]]:
    """The share of copy bandwidth by block size and warps, of kernels that leave both free."""
    todo = [one for one in operations(kernels, at) if "8bit" not in one.name]
    found = []
    for block in (512, 1024, 2048, 4096):
        for warps in (2, 4, 8):
            if 2 <= block // (32 * warps) <= 32:
                with launched_with(block, warps):
                    rows = measured_rows(todo, at, max(5, rounds // 5))
                shares = {row["operation"]: row["share of copy"] for row in rows}
                found.append({"block": block, "warps": warps, **shares})
    return found


@contextlib.contextmanager
def launched_with(block: int, warps: int) -> Iterator[None]:
    from supermask.core.kernels import triton_kernels, triton_launch

    before, options = triton_launch.BLOCK, dict(triton_launch.LAUNCH)
    try:
        triton_kernels.BLOCK = block
        triton_launch.LAUNCH["num_warps"] = warps
        yield
    finally:
        triton_kernels.BLOCK = before
        triton_launch.LAUNCH.update(options)


# That they are right


def differing_results(kernels: Any, device: torch.device) -> list[str]:
    """What differs from the CPU's kernels, bit for bit, or from eager torch on the device by more than rounding."""
    from supermask.core.counter_random import key_words
    from supermask.core.kernels import cpu
    from supermask.core.kernels.agreement import disagreement

    found = [name for name in (disagreement("triton", device),) if name]
    generator = torch.Generator().manual_seed(1)
    for count, spread in ((1, 5.0), (4099, 5.0), (3_000_001, 4.0), (1 << 22, 12.0)):
        mask_logits = torch.randn(count, generator=generator) * spread
        weight = torch.randn(count, generator=generator)
        for step in range(3):
            key = key_words("kernels_gpu", count, step)
            drawn = kernels.draw_keep_mask(mask_logits.to(device), torch.tensor(key, device=device))
            if not torch.equal(drawn.cpu(), cpu.draw_keep_mask(mask_logits, key)):
                found.append(f"keep mask of {count} weights at step {step}")
            for name, dtype in FLOATS.items():
                masked = kernels.draw_masked_weight(weight.to(device), mask_logits.to(device), key, dtype=dtype)
                expected = cpu.draw_masked_weight(weight, mask_logits, key, dtype=dtype)
                if not torch.equal(masked.cpu().view(torch.uint8), expected.view(torch.uint8)):
                    found.append(f"masked {name} of {count} weights at step {step}")
    return found


# Printing


def print_record(record: dict[str, Any]) -> None:
    named = record["environment"]
    print(
        f"{named['device']}, torch {named['torch']}, triton {named['triton']}, CUDA {named['cuda']}: "
        f"{record['weights']} weights, {record['dtype']}, medians of {record['rounds']} rounds\n"
    )
    print_table(record["rows"])
    host = record["host microseconds a launch"]
    print()
    print_table([{"launch": name, "host, microseconds": taken} for name, taken in host.items()])
    if "sweep" in record:
        print("\nshare of copy bandwidth by block size\n")
        print_table(record["sweep"])
    print("\n" + ("DIFFERENT: " + "; ".join(record["different"]) if record["different"] else "masks: as the CPU's"))


def print_table(rows: list[dict[str, Any]]) -> None:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    for line in lines:
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    sys.exit(main())
