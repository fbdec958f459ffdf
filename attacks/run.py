"""The long run: `PYTHONPATH=src:tests python attacks/run.py --files 200000 --seed 0 --workers 2`, from the root.

File number i of a seed is the same on every machine; `--first i --files 1` judges it alone. A worker that crashes or
hangs is found dead, its file is on record, and another one goes on behind it. Needs Linux.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MIB = 1 << 20
BOUND_MIB = 64  # what a file may take beyond its own size; the bases here have less than a MiB
OTHER_SHARE = 0.03  # of the files are not deltas but what lies beside them
HANG_SECONDS = 20  # of processor time, after which Python's code is interrupted
STUCK_SECONDS = 600  # of time on the clock, after which the process is ended
MOST_CRASHES = 20
MOST_SHOWN = 60
NAMES = (
    r"\b(large|cube|row|scalar|empty|across|odd|bytes|halves|(matrix_)?(float|bfloat|u?int)\d+(_\w+)?"
    r"|(embedding|decoder|head)\.(weight|bias)|transformer\.[\w.]+|classification_head[\w.]+)\b"
)


def normal(message: str) -> str:
    """A message without what is particular to the file."""
    message = re.sub(r"^\S*delta\.safetensors: |^/\S+: ", "", message)
    message = re.sub(r"'[^']*'|\"[^\"]*\"|\([#\d, ]*\)", "#", message)
    message = re.sub(NAMES, "#", message)
    return re.sub(r"#?\d+|\.#(\.\S+)?: ", "#", message).split("; ")[0][:90]


def memory_kib(name: str) -> int:
    """`VmRSS`, or `VmHWM`: the most since 5 was written to `clear_refs`."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def limit_memory(mib: int) -> None:
    """Let allocations fail that would take the process far beyond what it has."""
    size = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + mib * MIB,) * 2)


def work(seed: int, first: int, end: int, step: int, current: str) -> None:
    """Judge every `step`th file in this process, and print what became of each: a line of JSON."""
    from fuzz.judge import Violation, judge
    from fuzz.mutants import mutant
    from fuzz.other_files import judge_other_file, read_intact_ones
    from fuzz.seeds import seeds

    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    for intact in seeds():  # whatever is loaded, compiled or cached once is not the first file's
        judge(intact.data, intact.base, folder, limit_seconds=600)
    read_intact_ones()
    for number in range(20):
        judge_other_file(random.Random(number), folder, limit_seconds=600)
    limit_memory(8 * BOUND_MIB)

    def hang(signal_number: int, frame: Any) -> None:
        raise Violation(f"still at work after {HANG_SECONDS} s of processor time")

    signal.signal(signal.SIGPROF, hang)
    with Path(current).open("r+b", buffering=0) as told:
        for number in range(first, end, step):
            os.pwrite(told.fileno(), struct.pack("<q", number), 0)
            if (number - first) % (50 * step) == 0:  # a thread each time
                faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
            source = random.Random(f"{seed}:{number}")
            Path("/proc/self/clear_refs").write_text("5")
            before = memory_kib("VmRSS")
            signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
            row: dict[str, Any] = {"number": number, "how": "other file", "sealed": False, "decoded": 0, "seconds": 0.0}
            nbytes, fault, message = 0, "", ""
            try:
                if source.random() < OTHER_SHARE:
                    row["how"], verdict = judge_other_file(source, folder)
                else:
                    mutated = mutant(source)
                    row |= {"how": mutated.how, "sealed": mutated.sealed}
                    nbytes = len(mutated.data)
                    verdict = judge(mutated.data, mutated.base, folder, sealed=mutated.sealed)
                message = verdict.message
                row |= {"outcome": verdict.outcome, "decoded": verdict.decoded, "seconds": verdict.cpu_seconds}
            except Violation as violation:
                fault = str(violation)[:300]
                shutil.rmtree(folder)
                folder.mkdir()
            signal.setitimer(signal.ITIMER_PROF, 0)
            row["mib"] = (memory_kib("VmHWM") - before) / 1024
            if not fault and row["mib"] > BOUND_MIB + nbytes / MIB:
                fault = f"took {row['mib']:.0f} MiB"
            print(json.dumps(row | {"message": normal(message), "fault": fault}), flush=True)
    faulthandler.cancel_dump_traceback_later()
    shutil.rmtree(folder)


def run_slice(part: int, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """One worker after another until the slice is done: behind a file at which one died, the next goes on."""
    rows: list[dict[str, Any]] = []
    first, end, crashes = chosen.first + part, chosen.first + chosen.files, 0
    with tempfile.NamedTemporaryFile() as current:
        while first < end:
            Path(current.name).write_bytes(struct.pack("<q", -1))
            order = json.dumps([chosen.seed, first, end, chosen.workers, current.name])
            process = subprocess.Popen([sys.executable, __file__, "--worker", order], stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            for line in process.stdout:
                rows.append(json.loads(line))
                if len(rows) % 5000 == 0:
                    print(
                        f"worker {part}: {len(rows)} files, {sum(bool(row['fault']) for row in rows)} faults",
                        flush=True,
                    )
            if process.wait() == 0:
                break
            (number,) = struct.unpack("<q", Path(current.name).read_bytes())
            crashes += 1
            if number < 0 or crashes > MOST_CRASHES:
                raise SystemExit("workers do not start, or die again and again")
            rows.append({"number": number, "how": "crash", "fault": f"exit status {process.returncode}"})
            first = number + chosen.workers
    return rows


def print_report(rows: list[dict[str, Any]]) -> None:
    share = 100 / max(1, len(rows))
    judged = [row for row in rows if "outcome" in row]
    sealed, loaded = sum(row["sealed"] for row in judged), sum(row["outcome"] != "refused at load" for row in judged)
    print(f"{len(rows)} files, {sum(row['seconds'] for row in judged):.0f} s of processor time in the library")
    print(f"{sealed * share:.1f}% with every hash right, {loaded * share:.1f}% loaded", end=", ")
    print(f"{sum(row['decoded'] for row in judged)} changes decoded")
    for what, unit in (("seconds", "s"), ("mib", "MiB beyond before")):
        most = max(judged, key=lambda row: row[what])
        print(f"most: {most[what]:.2f} {unit}, file {most['number']} ({most['how']})")
    for title, counts in (
        ("what was done → outcome", Counter(f"{row['how']} → {row['outcome']}" for row in judged)),
        ("refusals", Counter(row["message"] for row in judged if row["message"])),
    ):
        print(f"\n{title}: {len(counts)} kinds")
        for name, count in counts.most_common(MOST_SHOWN):
            print(f"  {count:8d}  {name}")
    faults = [row for row in rows if row["fault"]]
    print(f"\n{len(faults)} faults")
    for row in faults[:200]:
        print(f"  file {row['number']} ({row['how']}): {row['fault']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("files", 200_000), ("seed", 0), ("first", 0), ("workers", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        work(*json.loads(chosen.worker))
        return
    start = time.monotonic()
    with ThreadPoolExecutor(chosen.workers) as pool:
        slices = pool.map(lambda part: run_slice(part, chosen), range(min(chosen.workers, chosen.files)))
        rows = [row for rows in slices for row in rows]
    print(f"{time.monotonic() - start:.0f} s on the clock")
    print_report(rows)
    raise SystemExit(1 if any(row["fault"] for row in rows) else 0)


if __name__ == "__main__":
    main()
