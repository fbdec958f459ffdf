"""Time and memory of training steps: supermask, pruning and freezing beside fine-tuning and LoRA.

    python benchmarks/training.py time --model minilm-l6 --length 64 --output benchmarks/results/training.json
    python benchmarks/training.py memory --model minilm-l6 --length 128 --output benchmarks/results/training.json
    python benchmarks/training.py all --output benchmarks/results/training.json      # both, all models and lengths
    python benchmarks/training.py table benchmarks/results/training.json

A step is forward, backward, clipping, optimizer and zero_grad, on batches that are prepared. `time` builds all rows in
one process and goes round them, so that a busy machine hits all alike, and takes a step again that other processes have
disturbed; what it reports are ratios of medians within that one run. A second run of the same section is kept beside
the first, and the median of their ratios is reported. For models of which so many copies do not fit into memory,
`--rebuild` builds each row anew in every round.

Before it begins, `time` has the C library (glibc) keep freed memory, as it comes to do by itself in a training whose
batches differ in length. With batches of one length it goes on fetching and returning some tensors' memory in every
step, page by page, and which row pays for that hangs on what the others have left behind. `--allocator default` leaves
it as it is.

`memory` gives each row a process of its own. On the CPU it counts bytes of tensors: those that are alive before a step
(parameters, optimizer state, copies), and the most that the step has allocated at once beside them, as torch's
allocator reports it; on a GPU it asks the allocator. Bytes saved for backward are those of the tensors that autograd
keeps in a forward pass, parameters and buffers apart; what fine-tuning the same matrices keeps, the activations, is
subtracted.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from training_rows import MODELS, ROWS, Step, build, make_batches, masked_weights, saved_bytes

from supermask.training.provenance import current_environment

# The share of the processors that others may take during a step; the system counts in hundredths of a second.
DISTURBED = 0.04

# Bytes from which glibc fetches memory apart, and which it returns at once: more than any tensor here has.
KEEPING = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000"}
KEPT, DEFAULT = "keeps freed memory", "default"

# What `all` measures. LoRA stands in runs of few rows, as in one with nine other models it took up to 1.6 times as long
# as by itself; and of BERT-base no more rows fit into memory side by side.
LORA = "LoRA r=8"
FOUR_ROWS = ("full fine-tuning", "same matrices", "supermask, fused", LORA)
SIX_ROWS = (*FOUR_ROWS[:3], "pruning", "freezing", LORA)
OTHER_ROWS = tuple(row for row in ROWS if row != LORA)
EVERYTHING = (
    *(
        ("time", *settings, "--rows", *rows)
        for settings in (
            ("--length", "64", "--rounds", "11"),
            ("--length", "128", "--rounds", "9"),
            ("--length", "128", "--rounds", "11", "--precision", "bf16"),
        )
        for rows in (OTHER_ROWS, FOUR_ROWS)
    ),
    ("time", "--model", "bert-base", "--rounds", "4", "--warmup", "1", "--retries", "1", "--rows", *SIX_ROWS),
    ("memory", "--length", "128"),
    ("memory", "--model", "bert-base", "--rows", *SIX_ROWS, "supermask, fused, 8-bit state"),
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for name, do in (("time", measure_time), ("memory", measure_memory), ("memory-row", print_memory_of_row)):
        verb = verbs.add_parser(name)
        verb.set_defaults(do=do)
        verb.add_argument("--model", choices=list(MODELS), default="minilm-l6")
        verb.add_argument("--length", type=int, default=128, help="tokens")
        verb.add_argument("--batch", type=int, default=32)
        verb.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16 is autocast")
        verb.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
        verb.add_argument("--threads", type=int, default=torch.get_num_threads())
        verb.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
        if name != "memory-row":
            verb.add_argument("--smoke", action="store_true", help="a tiny model, to see that the benchmark runs")
            verb.add_argument("--output", type=Path, help="JSON file that the section is added to")
            verb.add_argument("--fresh", action="store_true", help="drop earlier runs of this section from it")
        if name == "time":
            verb.add_argument("--rounds", type=int, default=7)
            verb.add_argument("--warmup", type=int, default=2, help="steps before the first round")
            verb.add_argument("--retries", type=int, default=5, help="of a step that other processes disturb")
            verb.add_argument("--rebuild", action="store_true", help="build each row anew in every round")
            verb.add_argument("--allocator", choices=["keeping", "default"], default="keeping")
    everything = verbs.add_parser("all", help="time and memory of all models and lengths, on this CPU")
    everything.set_defaults(do=measure_everything)
    everything.add_argument("--output", type=Path, required=True)
    everything.add_argument("--fresh", action="store_true", help="drop what is in the file")
    table = verbs.add_parser("table", help="print what a JSON file holds")
    table.add_argument("file", type=Path)
    table.set_defaults(do=lambda given: print_tables(json.loads(given.file.read_text())))
    given = parser.parse_args(arguments)
    if getattr(given, "smoke", False):
        given.model, given.length, given.batch = "tiny", 8, 2
    given.do(given)
    return 0


def measure_everything(given: argparse.Namespace) -> None:
    """Every section, each in a process of its own."""
    if given.fresh:
        given.output.unlink(missing_ok=True)
    for arguments in EVERYTHING:
        subprocess.run([sys.executable, __file__, *arguments, "--output", str(given.output)], check=True)


# Time


def allocator() -> str:
    """What the C library does with freed memory, as far as this process was told to tell it."""
    return KEPT if sys.platform == "linux" and KEEPING.items() <= os.environ.items() else DEFAULT


def measure_time(given: argparse.Namespace) -> None:
    """One run of a section: seconds of every row's steps, by phase."""
    if given.allocator == "keeping" and sys.platform == "linux" and allocator() == DEFAULT and not given.smoke:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **KEEPING})
    torch.set_num_threads(given.threads)
    times: dict[str, list[dict[str, float]]] = {row: [] for row in given.rows}
    gc.disable()
    try:
        steps = {} if given.rebuild else {row: warmed_up(row, given) for row in given.rows}
        for turn in range(given.rounds):
            print(f"round {turn + 1} of {given.rounds}", file=sys.stderr)
            for row in rotated(given.rows, turn):
                times[row].append(timed(steps.get(row) or warmed_up(row, given), given, turn))
                gc.collect()
    finally:
        gc.enable()
    medians = {
        row: {name: statistics.median(taken[name] for taken in runs) for name in runs[0]} for row, runs in times.items()
    }
    run = {
        "rounds": given.rounds,
        "seconds": {row: round(phases.pop("step"), 6) for row, phases in medians.items()},
        "phases": {row: {name: round(value, 6) for name, value in phases.items()} for row, phases in medians.items()},
    }
    write(given, "time", run)


def rotated(rows: list[str], turn: int) -> list[str]:
    """Another row first in every round, so that no row always follows the same one."""
    cut = turn % len(rows)
    return rows[cut:] + rows[:cut]


def warmed_up(row: str, given: argparse.Namespace) -> Step:
    step = build(given.model, row, device=given.device, precision=given.precision)
    # With `rebuild`, a warm-up is for optimizer state and compiled kernels, and two short inputs do for these.
    size, length = (2, 8) if given.rebuild else (given.batch, given.length)
    for batch in make_batches(step.model, size=size, length=length, count=given.warmup):
        step(batch)
    return step


def timed(step: Step, given: argparse.Namespace, turn: int) -> dict[str, float]:
    """Seconds of one step and of its phases; a step that other processes have disturbed is taken again."""
    batch = make_batches(step.model, size=given.batch, length=given.length)[turn % 4]
    for _ in range(given.retries):
        others = OtherProcesses()
        taken = timed_once(step, batch, given)
        if others.share() <= DISTURBED:
            return taken
    return taken


def timed_once(step: Step, batch: Any, given: argparse.Namespace) -> dict[str, float]:
    if given.device == "cuda":
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        step(batch)
        stop.record()
        torch.cuda.synchronize()
        phases: dict[str, float] = {}
        whole = start.elapsed_time(stop) / 1e3
    else:
        phases = step(batch)
        whole = sum(phases.values())
    return {**phases, "step": whole + step.amortised_seconds()}


class OtherProcesses:
    """How much of this machine's processors others have used since."""

    def __init__(self) -> None:
        self.start, self.busy, self.own = time.perf_counter(), busy_seconds(), time.process_time()

    def share(self) -> float:
        spent = (busy_seconds() - self.busy) - (time.process_time() - self.own)
        return spent / (time.perf_counter() - self.start) / (os.cpu_count() or 1)


def busy_seconds() -> float:
    """Processor seconds that this machine has worked; 0 where the system does not say."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, path.read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


# Memory


def measure_memory(given: argparse.Namespace) -> None:
    """One run of a section: bytes of every row, each in a process of its own."""
    settings = ("model", "length", "batch", "precision", "device", "threads")
    options = [word for name in settings for word in (f"--{name}", str(getattr(given, name)))]
    rows = {}
    for row in given.rows:
        print(row, file=sys.stderr)
        command = [sys.executable, __file__, "memory-row", *options, "--rows", row]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{row}: {done.stderr}")
        rows[row] = json.loads(done.stdout.splitlines()[-1])
    write(given, "memory", {"rows": rows, "masked_weights": masked_weights(MODELS[given.model]())})


def print_memory_of_row(given: argparse.Namespace) -> None:
    torch.set_num_threads(given.threads)
    before = resident_bytes()
    step = build(given.model, given.rows[0], device=given.device, precision=given.precision)
    batches = make_batches(step.model, size=given.batch, length=given.length)
    for batch in batches[:2]:
        step(batch)
    gc.collect()
    found = peak_on_cuda(step, batches[2]) if given.device == "cuda" else peak_on_cpu(step, batches[2])
    found["resident_growth"] = resident_bytes(peak=True) - before
    with saved_bytes(step.model) as saved:
        step(batches[3])
    print(json.dumps({**found, "saved_for_backward": saved["bytes"]}))


def peak_on_cuda(step: Step, batch: Any) -> dict[str, int]:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    alive = torch.cuda.memory_allocated()
    step(batch)
    torch.cuda.synchronize()
    return {"alive": alive, "peak": torch.cuda.max_memory_allocated()}


def peak_on_cpu(step: Step, batch: Any) -> dict[str, int]:
    alive = {
        found.untyped_storage().data_ptr(): found.untyped_storage().nbytes()
        for found in gc.get_objects()
        if isinstance(found, torch.Tensor)
    }
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step(batch)
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return {"alive": sum(alive.values()), "peak": sum(alive.values()) + most}


def resident_bytes(*, peak: bool = False) -> int:
    """Memory of this process, now or at most so far; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    name = "VmHWM:" if peak else "VmRSS:"
    return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith(name))


# The record


def write(given: argparse.Namespace, what: str, run: dict[str, Any]) -> None:
    """Add a run to its section of the file, and print that section."""
    section = {name: getattr(given, name) for name in ("model", "device", "precision", "batch", "length")}
    key = {"what": what, **section, **({"allocator": allocator()} if what == "time" else {})}
    environment = current_environment(given.device).model_dump() | {"threads": given.threads, "peft": version("peft")}
    record = json.loads(given.output.read_text()) if given.output and given.output.exists() else {"sections": []}
    found = next((one for one in record["sections"] if all(one.get(name) == key[name] for name in key)), None)
    if found is not None and not given.fresh and found["environment"] != environment:
        sys.exit("the file has this section from another machine or other code; drop that with --fresh")
    if found is None or given.fresh:
        record["sections"] = [one for one in record["sections"] if one is not found]
        found = {**key, "environment": environment, "runs": []}
        record["sections"].append(found)
    found["runs"].append(run)
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(record, indent=1) + "\n")
    print_tables({"sections": [found]})


def version(package: str) -> str:
    from importlib import metadata

    return metadata.version(package)


def print_tables(record: dict[str, Any]) -> None:
    from training_tables import section_tables

    for section in record["sections"]:
        for table in section_tables(section):
            print(table, end="\n\n")


if __name__ == "__main__":
    sys.exit(main())
