"""Full fine-tuning, head-only, supermask, freezing and pruning on four GLUE tasks; records and a table.

    python studies/first_results.py run --data-dir GLUE --output runs/minilm-l6 --results results/minilm-l6
    python studies/first_results.py table results/minilm-l6

With `--holdout 0.125` the report splits are not read: an eighth of the train file is held out and scored instead. This
is how defaults are chosen, among the variants that `--methods` names.

A run that was cut off goes on where it stopped when the command is given again; a finished one is not repeated.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import supermask
from supermask import Freezing, Method, Pruning, RunRecord, Supermask, TrainingConfig
from supermask.tasks import find_task

TASKS = ("rte", "mrpc", "stsb", "cola")
MORE_TASKS = ("sst2", "mnli", "qqp")  # MNLI and QQP also on subsets of their files; the record says how many rows
METHODS: dict[str, tuple[Method, dict[str, Any]]] = {
    "supermask": (Supermask(), {}),
    "full": (Freezing(), {}),
    "head-only": (Freezing.head_only(), {}),
    "freezing-1-2-3": (Freezing(exclude=("key", "top-2-blocks", "word_embedding")), {}),
    "pruning-50": (Pruning(sparsity=0.5), {}),
    "full-lr1e-4": (Freezing(), {"learning_rate": 1e-4}),
}
VARIANTS: dict[str, tuple[Method, dict[str, Any]]] = {
    **METHODS,
    "full-lr5e-5": (Freezing(), {"learning_rate": 5e-5}),
    "full-bias-as-loaded": (Freezing(), {"head_bias": "as_loaded"}),
    "supermask-bias-as-loaded": (Supermask(), {"head_bias": "as_loaded"}),
    "supermask-stop-eps1e-6": (Supermask(gradient="stop", eps=1e-6), {}),
    "supermask-eps1e-7": (Supermask(eps=1e-7), {}),
    "supermask-stop-eps1e-5": (Supermask(gradient="stop", eps=1e-5), {}),
    "supermask-head-lr2e-5": (Supermask(), {"head_learning_rate": 2e-5}),
    "supermask-lr5e-2": (Supermask(learning_rate=0.05), {}),
}
KEEP_DELTA = ("supermask",)  # small enough to commit, and wanted by the benchmarks of the format


def run(arguments: argparse.Namespace) -> int:
    failed = 0
    for seed in arguments.seeds:
        for name in arguments.methods:
            for task in arguments.tasks:
                failed += not one_run(task, name, seed, arguments)
    return int(failed > 0)


def one_run(task: str, name: str, seed: int, arguments: argparse.Namespace) -> bool:
    label = f"{task}/{name}-seed{seed}"
    target = arguments.results / f"{label}.json"
    if target.exists():
        print(f"{label}: recorded already", flush=True)
        return True
    method, settings = VARIANTS[name]
    known = find_task(task)
    splits = (known.train_split, *known.report_splits) if arguments.holdout is None else (known.train_split,)
    data = supermask.load_task(task, data_dir=arguments.data_dir, splits=splits)
    if arguments.holdout is not None:
        data = data.holdout(fraction=arguments.holdout)
    base = supermask.load_base(
        arguments.base, num_labels=data.task.num_labels, regression=data.task.regression, seed=seed
    )
    config = TrainingConfig(seed=seed, precision="auto", checkpoint_steps=100, **settings)
    try:
        result = supermask.train(
            base,
            task=data,
            method=method,
            config=config,
            output_dir=arguments.output / label,
            resume=(arguments.output / label / "inputs.json").exists(),
            quiet=True,
        )
    except Exception as error:  # one failed run must not cost the others
        print(f"{label}: FAILED: {type(error).__name__}: {error}", flush=True)
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    result.record.save(target)
    if name in KEEP_DELTA and arguments.holdout is None:
        stored = arguments.output / label / "delta" / "delta.safetensors"
        shutil.copyfile(stored, target.with_suffix(".delta.safetensors"))
    print(f"{label}: {result.record.scores} in {result.record.train_seconds:.0f} s", flush=True)
    return True


def table(arguments: argparse.Namespace) -> int:
    records: dict[tuple[str, str], list[RunRecord]] = {}
    for path in sorted(arguments.results.glob("*/*.json")):
        name = path.stem.rsplit("-seed", 1)[0]
        records.setdefault((path.parent.name, name), []).append(RunRecord.load(path))
    if not records:
        print(f"{arguments.results}: holds no records", file=sys.stderr)
        return 2
    print("| task, metric | method | seeds | score | sampled (10 draws) | zeros | sampled zeros | delta | train |")
    print("|---" * 9 + "|")
    for task in (*TASKS, *MORE_TASKS):
        for name in VARIANTS:
            if (task, name) in records:
                print(row(task, name, records[task, name]))
    return 0


def row(task: str, name: str, records: list[RunRecord]) -> str:
    metric = find_task(task).primary_metric
    split = next(iter(records[0].scores))
    scores = [100 * record.scores[split][metric] for record in records]
    draws = [record.sampled_scores[split][metric] for record in records if record.sampled_scores]
    deltas = [record.delta for record in records if record.delta is not None]
    expected = [100 * record.sampled_sparsity for record in records if record.sampled_sparsity is not None]
    sampled = (
        f"{100 * statistics.fmean(d.mean for d in draws):.1f} ± {100 * statistics.fmean(d.sd for d in draws):.1f}"
        if draws
        else ""
    )
    zeros = f"{100 * statistics.fmean(d.sparsity for d in deltas):.2f}%" if deltas[0].constrained_weights else ""
    size = statistics.fmean(d.bytes for d in deltas)
    seconds = statistics.fmean(record.train_seconds for record in records)
    cells = [
        f"{task}, {metric}" + ("" if split == "dev" else f" ({split})"),
        name,
        str(len(records)),
        f"{statistics.fmean(scores):.1f}" + (f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""),
        sampled,
        zeros,
        f"{statistics.fmean(expected):.2f}%" if expected else "",
        f"{size / 1e6:.2f} MB",
        f"{seconds:.0f} s",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    running = verbs.add_parser("run", help="train what is not recorded yet")
    running.add_argument("--data-dir", type=Path, required=True, help="folder with the official GLUE files")
    running.add_argument("--output", type=Path, required=True, help="folder for checkpoints and deltas")
    running.add_argument("--results", type=Path, required=True, help="folder for the records")
    running.add_argument("--base", default="minilm-l6")
    running.add_argument("--tasks", nargs="+", choices=(*TASKS, *MORE_TASKS), default=TASKS)
    running.add_argument("--methods", nargs="+", choices=VARIANTS, default=list(METHODS))
    running.add_argument("--holdout", type=float, help="fraction of the train file to hold out and score")
    running.add_argument("--seeds", nargs="+", type=int, default=[0])
    running.set_defaults(do=run)
    showing = verbs.add_parser("table", help="print the records as a Markdown table")
    showing.add_argument("results", type=Path)
    showing.set_defaults(do=table)
    arguments = parser.parse_args()
    code: int = arguments.do(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
