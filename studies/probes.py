"""What the probes measure: a pretrained base learns them, the same architecture with random weights does not.

    python studies/probes.py run --output runs/probes --results results/probes
    python studies/probes.py table results/probes

Three trainings of every probe: the pretrained base in full and head-only, and the same architecture with random
weights, on few rows for long, until it knows those by heart. A finished run is not repeated.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import supermask
from supermask import Freezing, Method, RunRecord, TrainingConfig
from supermask.tasks.probes import PROBES, load_probe

FEW = 384
RUNS: dict[str, tuple[Method, bool, int, dict[str, Any]]] = {  # method, random weights, training rows, settings
    "pretrained-full": (Freezing(), False, 1536, {"learning_rate": 5e-5, "epochs": 4}),
    "pretrained-head-only": (Freezing.head_only(), False, 1536, {"epochs": 4}),
    "random-by-heart": (Freezing(), True, FEW, {"learning_rate": 1e-4, "epochs": 24}),
}


def run(arguments: argparse.Namespace) -> int:
    for task in PROBES:
        for name, (method, random_init, rows, settings) in RUNS.items():
            target = arguments.results / task.name / f"{name}.json"
            if target.exists():
                continue
            data = load_probe(task.name, train_size=rows)
            # Training rows are scored too, to tell what was not learnt from what was learnt and does not carry over.
            scored = dataclasses.replace(task, report_splits=("dev", "seen"))
            data = supermask.TaskData(scored, {**data.splits, "seen": data.train})
            base = supermask.load_base(
                arguments.base, num_labels=task.num_labels, regression=task.regression, random_init=random_init
            )
            result = supermask.train(
                base,
                task=data,
                method=method,
                config=TrainingConfig(precision="auto", **settings),
                output_dir=arguments.output / task.name / name,
                overwrite=True,
                quiet=True,
            )
            result.record.save(target)
            print(f"{task.name} {name}: {result.record.scores}", flush=True)
    return 0


def table(arguments: argparse.Namespace) -> int:
    print("| probe, metric | run | rows | dev | training rows |")
    print("|---" * 5 + "|")
    for task in PROBES:
        for name, (_, _, rows, _) in RUNS.items():
            path = arguments.results / task.name / f"{name}.json"
            if path.exists():
                scores = RunRecord.load(path).scores
                metric = "accuracy" if "accuracy" in task.metrics else task.primary_metric
                dev, seen = (100 * scores[split][metric] for split in ("dev", "seen"))
                print(f"| {task.name}, {metric} | {name} | {rows} | {dev:.1f} | {seen:.1f} |")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    running = verbs.add_parser("run", help="train what is not recorded yet")
    running.add_argument("--output", type=Path, required=True, help="folder for the runs")
    running.add_argument("--results", type=Path, required=True, help="folder for the records")
    running.add_argument("--base", default="minilm-l6")
    running.set_defaults(do=run)
    showing = verbs.add_parser("table", help="print the records as a Markdown table")
    showing.add_argument("results", type=Path)
    showing.set_defaults(do=table)
    arguments = parser.parse_args()
    code: int = arguments.do(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
