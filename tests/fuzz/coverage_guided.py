"""A coverage-guided run: `PYTHONPATH=tests python -m fuzz.coverage_guided -max_total_time=300`, from the root.

Needs atheris (the extra `fuzz`). libFuzzer keeps the files that reach new code and mutates them on; mostly by edits of
`mutants`, which put hashes right again, since decoders are not reached otherwise. Arguments are libFuzzer's own; a
folder among them is the corpus, to which the seeds are added first.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

# Compiled to machine code by numba, which cannot read instrumented bytecode.
COMPILED = ["supermask.deltas.mask_kernels", "supermask.deltas.coding.loops"]
SLOWEST_SECONDS = 5.0  # instrumented code takes several times as long


def main() -> None:
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with atheris.instrument_imports(include=["supermask"], exclude=COMPILED):
        from fuzz.judge import Verdict, judge
        from fuzz.mutants import sealed_mutant
        from fuzz.seeds import seeds_of

    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    corpus = next((Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")), None)
    arguments = list(sys.argv)
    if corpus is None:
        corpus = Path(tempfile.mkdtemp())
        arguments.append(str(corpus))
    for number, seed in enumerate(seeds_of("every")):
        (corpus / f"seed-{number:02d}").write_bytes(seed.data)
        judge(seed.data, "every", folder, limit_seconds=600)

    counts: Counter[str] = Counter()
    slowest = 0.0
    started = time.monotonic()

    def report() -> None:
        told: dict[str, Any] = {"files": sum(counts.values()), "seconds": round(time.monotonic() - started)}
        told |= {"slowest": round(slowest, 3), **counts}
        print(json.dumps(told), flush=True)

    def test_one_input(data: bytes) -> None:
        nonlocal slowest
        # What libFuzzer made has hashes that are right or wrong, which cannot be told apart here.
        verdict: Verdict = judge(data, "every", folder, sealed=True, limit_seconds=SLOWEST_SECONDS)
        counts[verdict.outcome] += 1
        slowest = max(slowest, verdict.cpu_seconds)
        if sum(counts.values()) % 5000 == 0:
            report()

    def mutate(data: bytes, most: int, number: int) -> bytes:
        source = random.Random(number)
        if source.random() < 0.8:
            found = sealed_mutant(source, data)
            if found is not None and len(found) <= most:
                return found
        return bytes(atheris.Mutate(data, most))

    atheris.Setup(arguments, test_one_input, custom_mutator=mutate)
    try:
        atheris.Fuzz()
    finally:
        report()
        folder.rmdir()


if __name__ == "__main__":
    main()
