"""Which draw is due: the bookkeeping that keys every mask of a PEFT model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, final

from torch import Tensor, nn

from supermask.core import DrawKey

__all__ = ["DrawClock"]


@final
class DrawClock:
    """One object shared by all masks over a base: each forward pass in training gets a draw of its own.

    `begin_step` keys the next forward pass by step and micro-batch, as the native method does; forward passes that
    follow without it are numbered on. So masks are fresh without any bookkeeping, and with it a run that resumes goes
    on with the draws it would have had.

    A gradient checkpoint computes parts of the forward pass again during the backward pass. The gradient comes in
    through the outputs of the model, so a hook there brings back the draw that made them, even if other forward passes
    came in between.

    Example:
        >>> clock = DrawClock()
        >>> clock.begin_step(7, micro_batch=1)
        >>> clock.key
        DrawKey(seed=0, step=7, micro_batch=1, rank=0, stream='training')
    """

    def __init__(self) -> None:
        self.key = DrawKey()
        self.saves_logits = False
        self._due = DrawKey()
        self._passes = 0

    def begin_step(self, step: int, micro_batch: int = 0) -> None:
        """Say which optimizer step, counted from 0, and which of its micro-batches comes next."""
        self.key = self._due = DrawKey(step=step, micro_batch=micro_batch)
        self._passes = 0

    def before_forward(self, module: nn.Module, args: Any) -> None:
        """A forward pre-hook of the model: the next draw is due."""
        if module.training:
            stream = f"training/{self._passes}" if self._passes else "training"
            self.key = replace(self._due, stream=stream)
            self._passes += 1

    def after_forward(self, module: nn.Module, args: Any, output: Any) -> None:
        """A forward hook of the model: replays during the backward pass of this output repeat its draw."""
        if module.training:
            key = self.key
            for tensor in _tensors(output):
                if tensor.requires_grad:
                    tensor.register_hook(lambda _gradient: self._replay(key))  # type: ignore[no-untyped-call]

    def _replay(self, key: DrawKey) -> None:
        self.key = key


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from _tensors(tuple(output.values()))
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)
