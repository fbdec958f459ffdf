"""How long it takes until something happens: import, help, the first training step.

    python benchmarks/startup.py --output benchmarks/results/startup.json

Each command is a process of its own; commands take turns, and medians of one run are reported. The first step is taken
by minilm-l6 on a generated task (offline), batch 32, inputs as long as they are; once with compiled kernels on disk,
and once without.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TASK = "probe-paraphrase"
COMMANDS = {
    "python": ["-c", "pass"],
    "import supermask": ["-c", "import supermask"],
    "supermask --help": ["-m", "supermask", "--help"],
    "supermask train --help": ["-m", "supermask", "train", "--help"],
    "import torch": ["-c", "import torch"],
    "from transformers import Trainer": ["-c", "from transformers import Trainer"],
}
FIRST_STEP = {"first step, kernels on disk": False, "first step, nothing on disk": True}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="minilm-l6", help="name or folder of a base")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    given = parser.parse_args(arguments)
    if given.child:
        print(json.dumps(first_step(given.model)))
        return 0
    record = measure(given)
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))
    return 0


def measure(given: argparse.Namespace) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    parts: dict[str, list[dict[str, float]]] = {name: [] for name in FIRST_STEP}
    first_step_of(given, cold=False)  # whatever is to be compiled is, from here on
    for _ in range(given.rounds):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
        for name, cold in FIRST_STEP.items():
            parts[name].append(first_step_of(given, cold=cold))
    from supermask.training.provenance import current_environment

    return {
        "environment": current_environment().model_dump(),
        "rounds": given.rounds,
        "seconds": {name: median(times) for name, times in seconds.items()},
        "parts": {
            name: {part: median([one[part] for one in times]) for part in times[0]} for name, times in parts.items()
        },
    }


def median(times: list[float]) -> float:
    return round(statistics.median(times), 4)


def first_step_of(given: argparse.Namespace, *, cold: bool) -> dict[str, float]:
    """The parts of a first step in a process of its own; a cold one finds no compiled kernel."""
    command = [sys.executable, "-W", "ignore", __file__, "--child", "--model", given.model]
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "NUMBA_CACHE_DIR": empty} if cold else dict(os.environ)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    parts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return parts


def first_step(model: str) -> dict[str, float]:
    parts: dict[str, float] = {}
    clock = time.perf_counter()

    def passed(name: str) -> None:
        nonlocal clock
        parts[name] = time.perf_counter() - clock
        clock = time.perf_counter()

    import torch  # noqa: F401

    passed("import torch")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer  # noqa: F401

    passed("import transformers")
    from supermask import Supermask, load_base, load_task, make_optimizer
    from supermask.prediction.encoding import encode, pad
    from supermask.training import trainer  # noqa: F401

    passed("import supermask's parts")
    base = load_base(model, num_labels=2)
    passed("load the base")
    data = load_task(TASK)
    passed("make the examples")
    examples = encode(data.train, data.task, base.tokenizer, max_length=128)
    passed("tokenise")
    attachment = Supermask().attach_(base.model)
    optimizer = make_optimizer(attachment)
    attachment.begin_training(total_steps=100)
    base.model.train()
    passed("attach")
    for name in ("first step", "second step"):
        attachment.begin_step(0)
        base.model(**pad(base.tokenizer, [examples[index] for index in range(32)])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        passed(name)
    return parts


def table(record: dict[str, Any]) -> str:
    """Markdown: seconds of the commands, and of the parts of a first step."""
    seconds, parts = record["seconds"], record["parts"]
    lines = ["| command | s | beyond Python, s |", "|---|---:|---:|"]
    lines += [f"| {name} | {value:.2f} | {value - seconds['python']:.2f} |" for name, value in seconds.items()]
    warm, cold = (parts[name] for name in FIRST_STEP)
    lines += ["", "| until the first step is done | kernels on disk, s | nothing on disk, s |", "|---|---:|---:|"]
    lines += [f"| {part} | {warm[part]:.2f} | {cold[part]:.2f} |" for part in warm if part != "second step"]
    totals = [sum(value for part, value in one.items() if part != "second step") for one in (warm, cold)]
    lines.append(f"| **all** | {totals[0]:.2f} | {totals[1]:.2f} |")
    lines.append(f"| for comparison, the second step | {warm['second step']:.2f} | {cold['second step']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
