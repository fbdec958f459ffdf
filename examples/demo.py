"""The main job on the embedded base, offline: learn a task three ways, keep the mask, and get the same answers back.

python examples/demo.py [--task probe-sentiment] [--output runs/demo]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import supermask
from supermask import Base, Freezing, Method, Run, Supermask, TaskData, TaskDelta, TrainingConfig
from supermask.analysis import zeros_by_place
from supermask.report.drawing import save_figure
from supermask.report.zeros import zeros_figure
from supermask.tasks.probes import PROBES, load_probe

METHODS: dict[str, Method] = {
    "head only": Freezing.head_only(),
    "supermask": Supermask(),
    "full fine-tuning": Freezing(),
}


def main(arguments: Sequence[str] | None = None) -> int:
    settings = parse(arguments)
    console = Console()
    clock = time.perf_counter()
    data = load_probe(settings.task, train_size=settings.train_size)
    console.print(f"[bold]{data.task.title or data.task.name}[/]: {len(data.train)} examples to learn from, and")
    console.print(f"{len(data['dev'])} to be judged on, whose content words the training examples never show.\n")
    base = load(settings.base, data)
    config = TrainingConfig(epochs=settings.epochs, precision="auto", logging_steps=10)
    runs: dict[str, Run] = {}
    for name, method in METHODS.items():
        console.print(f"learning: {name} ...")
        folder = settings.output / name.replace(" ", "-")
        runs[name] = supermask.train(
            base, task=data, method=method, config=config, output_dir=folder, overwrite=True, quiet=True, draws=3
        )
    console.print(summary(runs, data))
    agrees = prove(runs["supermask"], base, data, settings.base, console)
    figure = settings.output / "zeros.png"
    table = zeros_by_place(runs["supermask"].delta.document.changes)
    save_figure(zeros_figure(table, title=f"{data.task.name}: thresholded zeros by role and block"), figure)
    console.print(f"\nWhere the zeros are: {figure}")
    console.print(f"Look closer: supermask inspect {settings.output / 'supermask' / 'delta'}")
    console.print(f"All of it took {time.perf_counter() - clock:.0f} s.")
    return 0 if agrees else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=[task.name for task in PROBES], default="probe-sentiment")
    parser.add_argument("--base", default="minilm-l6", help="name of an embedded base, or a local folder")
    parser.add_argument("--train-size", type=int, default=1536)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path("runs/demo"))
    return parser.parse_args(arguments)


def load(name: str, data: TaskData) -> Base:
    return supermask.load_base(name, num_labels=data.task.num_labels, regression=data.task.regression)


def summary(runs: dict[str, Run], data: TaskData) -> Table:
    metric = data.task.primary_metric
    table = Table(title=f"\n{data.task.name}, {metric} on dev in percent (thresholded mask)")
    for column in ("method", metric, "zeros", "delta", "training"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for name, run in runs.items():
        delta, record = run.delta, run.record
        table.add_row(
            name,
            f"{100 * record.scores['dev'][metric]:.1f}",
            f"{100 * delta.sparsity:.2f} % of {delta.weights / 1e6:.1f} M" if delta.weights else "none",
            f"{delta.nbytes_on_disk() / 1e3:,.0f} kB",
            f"{record.train_seconds:.0f} s",
        )
    return table


def prove(run: Run, base: Base, data: TaskData, name: str, console: Console) -> bool:
    """Load the stored delta, put it on a base loaded anew, and compare every output bit for bit."""
    assert run.folder is not None
    before = supermask.evaluate(base, task=data, delta=run.delta)
    anew = load(name, data)
    after = supermask.evaluate(anew, task=data, delta=TaskDelta.load(run.folder / "delta"))
    same_logits = torch.equal(before.predictions["dev"].logits, after.predictions["dev"].logits)
    same_scores = after.scores == run.record.scores
    base_tensors, anew_tensors = base.model.state_dict(), anew.model.state_dict()
    restored = all(torch.equal(base_tensors[tensor], anew_tensors[tensor]) for tensor in base_tensors)
    rows = len(before.predictions["dev"].logits)
    for claim, holds in (
        (f"The stored delta on a base loaded anew: the same {rows} outputs, bit for bit", same_logits),
        ("The same scores as in training", same_scores),
        ("Taken off again, the base has every bit it had", restored),
    ):
        console.print(f"{claim}: {'yes' if holds else '[red]NO[/]'}")
    return same_logits and same_scores and restored


if __name__ == "__main__":
    sys.exit(main())
