"""The long run: `PYTHONPATH=tests python -m fuzz.run --files 200000 --seed 0 --workers 2`, from the root.

File number i of a seed is the same on every machine; `--first i --files 1` judges it alone. A worker that crashes or
hangs is found dead, its file is on record, and another one goes on behind it.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MIB = 1 << 20
BOUND_MIB = 64
"""What a file may take beyond its own size; the bases here have less than a MiB."""

OTHER_SHARE = 0.03  # of the files are not deltas but what lies beside them
HANG_SECONDS = 20  # of processor time, after which Python's code is interrupted
STUCK_SECONDS = 600  # of time on the clock, after which the process is ended
REPORT_EVERY = 200
CRASHED = "the process died"
MOST_SHOWN = 60
NAMES = (
    r"\b(large|cube|row|scalar|empty|across|odd|bytes|halves|(matrix_)?(float|bfloat|u?int)\d+(_\w+)?"
    r"|(embedding|decoder|head)\.(weight|bias)|transformer\.[\w.]+|classification_head[\w.]+)\b"
)


@dataclass
class Report:
    """What became of many files."""

    files: int = 0
    sealed: int = 0
    reached: int = 0
    decoded: int = 0
    cpu_seconds: float = 0.0
    slowest: tuple[float, int, str] = (0.0, -1, "")
    largest_mib: tuple[float, int, str] = (0.0, -1, "")
    outcomes: Counter[str] = field(default_factory=Counter)
    ways: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, other: Report) -> None:
        for name in ("files", "sealed", "reached", "decoded", "cpu_seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.slowest, self.largest_mib = max(self.slowest, other.slowest), max(self.largest_mib, other.largest_mib)
        for name in ("outcomes", "ways", "messages"):
            getattr(self, name).update(getattr(other, name))
        self.violations += other.violations


def normal(message: str) -> str:
    """A message without what is particular to the file."""
    message = re.sub(r"^\S*delta\.safetensors: |^/\S+: ", "", message)
    message = re.sub(r"'[^']*'|\"[^\"]*\"|\([#\d, ]*\)", "#", message)
    message = re.sub(NAMES, "#", message)
    return re.sub(r"#?\d+|\.#(\.\S+)?: ", "#", message).split("; ")[0][:90]


def judge_files(numbers: Sequence[int], seed: int, current: Path, bound_mib: int) -> Iterator[Report]:
    """Judge files in this process, a report now and then."""
    from fuzz.judge import Violation, judge
    from fuzz.memory import current_kib, peak_kib, reset_peak
    from fuzz.mutants import mutant
    from fuzz.other_files import judge_other_file, read_intact_ones
    from fuzz.seeds import seeds

    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    for intact in seeds():  # whatever is loaded, compiled or cached once is not the first file's
        judge(intact.data, intact.base, folder, limit_seconds=600)
    read_intact_ones()
    for number in range(20):
        judge_other_file(random.Random(number), folder, limit_seconds=600)
    limit_memory(8 * bound_mib)

    def hang(signal_number: int, frame: Any) -> None:
        raise Violation(f"still at work after {HANG_SECONDS} s of processor time")

    signal.signal(signal.SIGPROF, hang)
    report = Report()
    with current.open("r+b", buffering=0) as told:
        for number in numbers:
            os.pwrite(told.fileno(), struct.pack("<q", number), 0)
            if number % 50 == 0:
                faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
            source = random.Random(f"{seed}:{number}")
            reset_peak()
            before = current_kib()
            signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
            how, nbytes = "", 0
            try:
                if source.random() < OTHER_SHARE:
                    how = "other file"
                    how, verdict = judge_other_file(source, folder)
                else:
                    mutated = mutant(source)
                    how, nbytes = mutated.how, len(mutated.data)
                    report.sealed += mutated.sealed
                    verdict = judge(mutated.data, mutated.base, folder, sealed=mutated.sealed)
                    report.reached += verdict.outcome != "refused at load"
                report.outcomes[verdict.outcome] += 1
                report.ways[f"{how} → {verdict.outcome}"] += 1
                if verdict.message:
                    report.messages[normal(verdict.message)] += 1
                report.decoded += verdict.decoded
                report.cpu_seconds += verdict.cpu_seconds
                report.slowest = max(report.slowest, (verdict.cpu_seconds, number, how))
            except Violation as violation:
                report.outcomes["VIOLATION"] += 1
                report.violations.append((number, how, str(violation)[:300]))
                shutil.rmtree(folder)
                folder.mkdir()
            signal.setitimer(signal.ITIMER_PROF, 0)
            grown = (peak_kib() - before) / 1024
            report.largest_mib = max(report.largest_mib, (grown, number, how))
            if grown > bound_mib + nbytes / MIB:
                report.violations.append((number, how, f"took {grown:.0f} MiB"))
            report.files += 1
            if report.files == REPORT_EVERY:
                yield report
                report = Report()
    faulthandler.cancel_dump_traceback_later()
    shutil.rmtree(folder)
    yield report


def limit_memory(mib: int) -> None:
    """Let allocations fail that would take the process far beyond what it has."""
    size = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + mib * MIB,) * 2)


def worker(seed: int, first: int, end: int, step: int, current: Path, bound_mib: int) -> None:
    """Judge every `step`th file and print reports, a line each."""
    for report in judge_files(range(first, end, step), seed, current, bound_mib):
        print(json.dumps(report.__dict__), flush=True)


def run(files: int, *, seed: int, first: int, workers: int, bound_mib: int) -> Report:
    """Judge files in processes of their own."""
    total, started = Report(), time.monotonic()
    folder = Path(tempfile.mkdtemp())
    running: list[tuple[subprocess.Popen[str], int, Path]] = []

    def start(part: int, begin: int) -> None:
        current = folder / f"{part}"
        current.write_bytes(struct.pack("<q", -1))
        arguments = ["--worker", json.dumps([seed, begin, first + files, workers, str(current), bound_mib])]
        command = [sys.executable, "-m", "fuzz.run", *arguments]
        running.append((subprocess.Popen(command, stdout=subprocess.PIPE, text=True), part, current))

    for part in range(min(workers, files)):
        start(part, first + part)
    while running:
        process, part, current = running.pop(0)
        assert process.stdout is not None
        line = process.stdout.readline()
        if line:
            report = Report(**json.loads(line))
            report.slowest, report.largest_mib = tuple(report.slowest), tuple(report.largest_mib)  # type: ignore[assignment]
            report.violations = [tuple(violation) for violation in report.violations]  # type: ignore[misc]
            for name in ("outcomes", "ways", "messages"):
                setattr(report, name, Counter(getattr(report, name)))
            total.add(report)
            running.append((process, part, current))
            if total.files % (25 * REPORT_EVERY) < REPORT_EVERY:
                pace = total.files / (time.monotonic() - started)
                print(f"{total.files} files, {pace:.0f} a second, {len(total.violations)} violations", file=sys.stderr)
        elif process.wait() != 0:
            (number,) = struct.unpack("<q", current.read_bytes())
            total.violations.append((number, CRASHED, f"exit status {process.returncode}"))
            if number < 0 or total.outcomes[CRASHED] > 20:
                raise SystemExit("a worker does not even start")
            total.outcomes[CRASHED] += 1
            start(part, number + workers)
    shutil.rmtree(folder)
    return total


def print_report(report: Report) -> None:
    share = 100 / max(1, report.files)
    print(f"{report.files} files, {report.cpu_seconds:.0f} s of processor time in the library")
    print(f"{report.sealed * share:.1f}% with every checksum right, {report.reached * share:.1f}% loaded", end=", ")
    print(f"{report.decoded} changes decoded")
    seconds, number, how = report.slowest
    print(f"slowest: {seconds:.3f} s, file {number} ({how})")
    grown, number, how = report.largest_mib
    print(f"largest: {grown:.1f} MiB more than before, file {number} ({how})")
    for title, counts in (("outcome", report.outcomes), ("what was done → outcome", report.ways)):
        print(f"\n{title}")
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            print(f"  {count:8d}  {name}")
    print(f"\n{len(report.messages)} kinds of refusal")
    for name, count in report.messages.most_common(MOST_SHOWN):
        print(f"  {count:8d}  {name}")
    print(f"\n{len(report.violations)} violations")
    for number, how, what in report.violations[:200]:
        print(f"  file {number} ({how}): {what}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--bound-mib", type=int, default=BOUND_MIB)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        seed, first, end, step, current, bound_mib = json.loads(chosen.worker)
        worker(seed, first, end, step, Path(current), bound_mib)
        return
    found = run(chosen.files, seed=chosen.seed, first=chosen.first, workers=chosen.workers, bound_mib=chosen.bound_mib)
    print_report(found)
    raise SystemExit(1 if found.violations else 0)


if __name__ == "__main__":
    main()
