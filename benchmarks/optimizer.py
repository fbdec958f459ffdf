"""The optimizer of mask logits: how long a step takes, and what moments in 8 bits do to a training.

    python benchmarks/optimizer.py speed --threads 2 --output benchmarks/results/optimizer.json
    python benchmarks/optimizer.py replay --task mrpc --data-dir glue --output benchmarks/results/optimizer.json

`speed` goes round all rows, so that a busy machine hits all alike, and reports medians as multiples of copying as many
float32 numbers. `replay` trains once and keeps the gradients of a sample of blocks of 256 mask logits; then it takes
Adam's steps on them again with the moments kept in float32, in the 8 bits of `supermask.core.kernels.adam8`, and in
those of Dettmers et al. (2022), rounded to nearest in a dynamic tree of values.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import supermask
from supermask.core.counter_random import key_words
from supermask.core.kernels import adam8, kernels_for
from supermask.core.kernels.adam8 import BLOCK
from supermask.core.kernels.arguments import AdamStep
from supermask.methods import optimizer as method_optimizer
from supermask.methods.gradient_norms import clip_by_norm_, gradient_norm
from supermask.training.provenance import current_environment

SHAPES = {
    "minilm-l6": [(384, 384)] * 24 + [(1536, 384), (384, 1536)] * 6,
    "bert-base": [(768, 768)] * 48 + [(3072, 768), (768, 3072)] * 12,
}
ADAM: dict[str, Any] = {"learning_rate": 0.2, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    speed = verbs.add_parser("speed")
    speed.add_argument("--model", choices=list(SHAPES), default="minilm-l6")
    speed.add_argument("--threads", type=int, default=2)
    speed.add_argument("--seconds", type=float, default=10.0)
    speed.set_defaults(do=measure_speed)
    replay = verbs.add_parser("replay")
    replay.add_argument("--base", default="minilm-l6")
    replay.add_argument("--task", default="mrpc")
    replay.add_argument("--data-dir", default=None)
    replay.add_argument("--blocks", type=int, default=8, help="of each matrix")
    replay.set_defaults(do=measure_replay)
    for verb in (speed, replay):
        verb.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.do(arguments)
    return 0


def keep(path: Path, section: str, rows: dict[str, Any]) -> None:
    """Put a section into the record, and print it."""
    record = json.loads(path.read_text()) if path.exists() else {}
    record[section] = {"environment": current_environment().model_dump(mode="json"), **rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


# Speed.


def measure_speed(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.full(shape, 5.0)) for shape in SHAPES[arguments.model]]
    for parameter in parameters:
        parameter.grad = 1e-7 * torch.randn(parameter.shape, generator=generator)
    with torch.no_grad():
        rows = speed_rows(parameters)
        for act in rows.values():
            act()
        seconds: dict[str, list[float]] = {name: [] for name in rows}
        end = time.perf_counter() + arguments.seconds
        while time.perf_counter() < end:
            for name, act in rows.items():
                start = time.perf_counter()
                act()
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    found = {
        "weights": sum(parameter.numel() for parameter in parameters),
        "rounds": len(seconds["copy"]),
        "milliseconds": {name: round(1e3 * median, 3) for name, median in medians.items()},
        "copies": {name: round(median / medians["copy"], 2) for name, median in medians.items()},
    }
    keep(arguments.output, f"speed {arguments.model} {arguments.threads} threads", found)


def speed_rows(parameters: list[nn.Parameter]) -> dict[str, Callable[[], Any]]:
    """What is timed, by name."""
    kernels = kernels_for("cpu")
    gradients = [gradient_of(parameter) for parameter in parameters]
    count = sum(parameter.numel() for parameter in parameters)
    source, target = torch.zeros(count), torch.empty(count)
    states = [adam8.EightBitMoments.zeros(parameter.numel()) for parameter in parameters]

    def ours_8bit() -> None:
        for index, (parameter, gradient, state) in enumerate(zip(parameters, gradients, states, strict=True)):
            kernels.adam_step_8bit_(parameter, gradient, state, key=key_words(index), adam=AdamStep(**ADAM, step=10))

    def gradient_alone() -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            kernels.mask_logit_gradient(gradient, parameter, parameter, through=True)

    return {
        "copy": lambda: target.copy_(source),
        "torch fused AdamW": torch.optim.AdamW(parameters, lr=0.2, weight_decay=0.0, fused=True).step,
        "adam_step_8bit_": ours_8bit,
        "torch clip_grad_norm_": lambda: nn.utils.clip_grad_norm_(parameters, 1.0),
        "our clipping": lambda: clip_by_norm_(gradients, gradient_norm(gradients), max_norm=1.0),
        "mask_logit_gradient": gradient_alone,
    }


def gradient_of(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


# What 8 bits do.


def measure_replay(arguments: argparse.Namespace) -> None:
    gradients = recorded_gradients(arguments)
    exact = replayed(gradients, float_step())
    moved = exact - 5.0
    rows = {}
    for name, step in {"ours": coded_step(), "dynamic tree, to nearest": dynamic_step()}.items():
        logits = replayed(gradients, step)
        rows[name] = {
            "error": float((logits - exact).norm() / moved.norm()),
            "largest_error": float((logits - exact).abs().max()),
            "slope": float((logits - 5.0) @ moved / (moved @ moved)),
            "sparsity": float((logits <= 0).float().mean()),
            "masks_that_differ": float(((logits <= 0) != (exact <= 0)).float().mean()),
        }
    found = {
        "steps": len(gradients),
        "weights": gradients.shape[1],
        "movement": float(moved.square().mean().sqrt()),
        "sparsity": float((exact <= 0).float().mean()),
        "rows": rows,
    }
    keep(arguments.output, f"replay {arguments.task}", found)


def recorded_gradients(arguments: argparse.Namespace) -> Tensor:
    """Gradients of the sampled mask logits, (steps, weights), over one training at the default settings."""
    steps: list[Tensor] = []
    init = method_optimizer.MethodOptimizer.__init__

    def recording(optimizer: Any, attachment: Any, *args: Any, **settings: Any) -> None:
        init(optimizer, attachment, *args, **settings)
        logits = [mask.mask_logits for mask in attachment.masks.values()]
        places = [
            (torch.linspace(0, tensor.numel() // BLOCK - 1, arguments.blocks).long()[:, None] * BLOCK)
            + torch.arange(BLOCK)
            for tensor in logits
        ]
        optimizer.register_step_pre_hook(
            lambda *_: steps.append(
                torch.cat([tensor.grad.view(-1)[place.view(-1)] for tensor, place in zip(logits, places, strict=True)])
            )
        )

    method_optimizer.MethodOptimizer.__init__ = recording  # type: ignore[method-assign]
    data = supermask.load_task(arguments.task, data_dir=arguments.data_dir)
    base = supermask.load_base(arguments.base, num_labels=data.task.num_labels, regression=data.task.regression)
    config = supermask.TrainingConfig(precision="auto")
    supermask.train(base, task=data, method=supermask.Supermask(), config=config, draws=0, use_cpu=True)
    return torch.stack(steps)


def replayed(gradients: Tensor, step: Callable[..., None]) -> Tensor:
    """The mask logits after all steps, with the schedule that they were recorded under."""
    logits = torch.full(gradients.shape[1:], 5.0)
    warmup = round(0.1 * len(gradients) + 0.5)
    for index, gradient in enumerate(gradients):
        rate = 0.2 * min(index / warmup, (len(gradients) - index) / (len(gradients) - warmup))
        step(logits, gradient, index + 1, ADAM | {"learning_rate": rate})
    return logits.detach()


def float_step(after: Callable[[list[Tensor]], object] = lambda moments: None) -> Callable[..., None]:
    """torch's own Adam; `after` may change the moments after each step."""
    held: list[torch.optim.Adam] = []

    def step(logits: Tensor, gradient: Tensor, index: int, settings: dict[str, Any]) -> None:
        if not held:
            betas = settings["beta1"], settings["beta2"]
            held.append(torch.optim.Adam([logits.requires_grad_()], betas=betas, eps=settings["eps"]))
        held[0].param_groups[0]["lr"] = settings["learning_rate"]
        logits.grad = gradient
        held[0].step()
        after([held[0].state[logits][name] for name in ("exp_avg", "exp_avg_sq")])

    return step


def coded_step() -> Callable[..., None]:
    held: list[adam8.EightBitMoments] = []

    def step(logits: Tensor, gradient: Tensor, index: int, settings: dict[str, Any]) -> None:
        if not held:
            held.append(adam8.EightBitMoments.zeros(len(logits)))
        adam8.adam_step_8bit_(
            logits, gradient, held[0], key=key_words("replay", index), adam=AdamStep(**settings, step=index)
        )

    return step


def dynamic_step() -> Callable[..., None]:
    """Moments decoded from, and after the step rounded to, the dynamic tree's values times the block's largest."""
    trees = torch.tensor(dynamic_tree(signed=True)), torch.tensor(dynamic_tree(signed=False))

    def round_(moments: list[Tensor]) -> None:
        for moment, tree in zip(moments, trees, strict=True):
            blocks = moment.view(-1, BLOCK)
            scale = blocks.abs().amax(dim=1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)
            nearest = torch.bucketize(blocks / scale, (tree[1:] + tree[:-1]) / 2)
            blocks.copy_(tree[nearest] * scale)

    return float_step(round_)


def dynamic_tree(*, signed: bool) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The 256 values of Dettmers et al. (2022), section 1.3: a decimal exponent in unary, then a linear fraction."""
    values = [0.0, 1.0]
    for exponent in range(7):
        bounds = np.linspace(0.1, 1.0, 2 ** (exponent + (0 if signed else 1)) + 1)
        means = 10.0 ** (exponent - 6) * (bounds[:-1] + bounds[1:]) / 2
        values += [*means, *(-means if signed else ())]
    return np.sort(np.array(values, dtype=np.float32))


if __name__ == "__main__":
    sys.exit(main())
