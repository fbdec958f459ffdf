"""Which draw is due: the bookkeeping that keys every mask over a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from supermask.core import DrawKey
from supermask.core.kernels.ops import MaskKey, TracedKey, key_tensor

__all__ = ["DrawClock"]


@final
class DrawClock:
    """One object shared by all masks over a model.

    `begin_step` keys the next forward pass by step and micro-batch.

    A gradient checkpoint computes parts of the forward pass again during the backward pass. The gradient comes in
    through the outputs of the model, so a hook there brings back the draw that made them, even if other forward passes,
    of other steps, came in between. `watch_` puts it on the model. What does not come out of the model's own `forward`,
    as where only a part of it is called, is replayed with the draw that is due.

    Args:
        seed: the run's seed.
        numbers_passes: number forward passes that follow without `begin_step`, so that each has a draw of its own;
            otherwise all passes of a step and micro-batch share theirs. Compiled graphs are not numbered.

    Example:
        >>> clock = DrawClock(seed=5)
        >>> clock.begin_step(7, micro_batch=1)
        >>> clock.key
        DrawKey(seed=5, step=7, micro_batch=1, rank=0, stream='training')
    """

    def __init__(self, *, seed: int = 0, numbers_passes: bool = False) -> None:
        self.seed = seed
        self.numbers_passes = numbers_passes
        self.key = self._due = DrawKey(seed=seed)
        self.evaluation: DrawKey | None = None
        self._passes = 0
        self._traced = self._traced_evaluation = key_tensor(self.key)
        self._evaluation_draws = False

    def begin_step(self, step: int, micro_batch: int = 0) -> None:
        """Say which optimizer step, counted from 0, and which of its micro-batches comes next."""
        self._due = self._due.at(step=step, micro_batch=micro_batch)
        self._passes = 0
        self._put(self._due)

    @property
    def rank(self) -> int:
        """The process, where processes are to draw different masks; 0 where they are to agree."""
        return self._due.rank

    @rank.setter
    def rank(self, rank: int) -> None:
        self._due = replace(self._due, rank=rank)
        self._put(replace(self.key, rank=rank))

    def mask_key(self, name: str, *, training: bool, seed: int | None = None) -> MaskKey:
        """The mask that is due for one tensor in training or evaluation, as `core.kernels.ops` takes it.

        None is the thresholded mask. A seed stands in for the clock's.
        """
        if torch.compiler.is_compiling():
            # Keys change from step to step, and a graph is compiled for every Python value that it reads.
            if not training and not self._evaluation_draws:
                return None
            draw = self._traced if training else self._traced_evaluation
            return TracedKey(draw, self.seed if seed is None else seed, name)
        key = self.key if training else self.evaluation
        if key is None:
            return None
        return (key if seed is None else replace(key, seed=seed)).words(name)

    def evaluate_with(self, key: DrawKey | None) -> None:
        """Set the draw of evaluation, None for the thresholded mask."""
        self.evaluation, self._evaluation_draws = key, key is not None
        if key is not None:
            self._traced_evaluation = key_tensor(key)

    # Hooks.

    def watch_(self, model: nn.Module) -> list[RemovableHandle]:
        """Put the hooks on a model that replays need; the handles take them off again."""
        return [
            model.register_forward_pre_hook(self.before_forward),
            model.register_forward_hook(self.after_forward),
        ]

    def before_forward(self, module: nn.Module, args: Any) -> None:
        """A forward pre-hook of the model: the next draw is due, unless a backward pass computes it again."""
        if torch.compiler.is_compiling() or not module.training or _in_backward():
            return
        numbered = self.numbers_passes and self._passes > 0
        self._put(replace(self._due, stream=f"training/{self._passes}") if numbered else self._due)
        self._passes += 1

    def after_forward(self, module: nn.Module, args: Any, output: Any) -> None:
        """A forward hook of the model: replays during the backward pass of this output repeat its draw."""
        if torch.compiler.is_compiling() or not module.training or not torch.is_grad_enabled():
            return
        drawn = (self.key, self._traced)
        for tensor in _tensors(output):
            if tensor.requires_grad:
                tensor.register_hook(lambda _gradient: self._replay(*drawn))  # type: ignore[no-untyped-call]

    def _put(self, key: DrawKey) -> None:
        if key != self.key:
            # A new tensor each time: what backward passes still hold must not change.
            self._replay(key, key_tensor(key))

    def _replay(self, key: DrawKey, traced: Tensor) -> None:
        self.key, self._traced = key, traced


def _in_backward() -> bool:
    return bool(torch._C._current_graph_task_id() != -1)


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from _tensors(tuple(output.values()))
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)
