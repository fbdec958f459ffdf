"""Masks on the modules of a model: `torch.nn.utils.parametrize`, with the weight computed where it is used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from supermask.core import threshold_keep_mask
from supermask.core.kernels import kernels_for
from supermask.core.kernels.masked_linear import masked_linear
from supermask.core.kernels.ops import compute_dtype, masked_by_logits
from supermask.core.straight_through import GradientConvention
from supermask.methods.draw_clock import DrawClock

__all__ = ["MaskedWeight", "applied_once", "keeps_logits_in_float32", "mask_", "multiplies_transposed", "unmask_"]


@final
class MaskedWeight(nn.Module):
    """The parametrization on a weight: a sampled mask in training; the thresholded or a numbered draw in evaluation.

    Args:
        mask_logits: ν, float32; stays so when the model is converted.
        name: the weight's name in the model, which keys its draws.
        clock: says which draw is due.
        gradient: the straight-through convention.
        multiplied: whether all modules that hold the weight multiply by it, so that autocast would convert it.
    """

    def __init__(
        self, mask_logits: Tensor, *, name: str, clock: DrawClock, gradient: GradientConvention, multiplied: bool
    ) -> None:
        super().__init__()
        self.mask_logits = nn.Parameter(mask_logits)
        self.name = name
        self.clock = clock
        self.gradient: GradientConvention = gradient
        self.multiplied = multiplied
        self.recompute = True
        self._applied: dict[torch.dtype, Tensor] | None = None

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight, same shape; in the dtype of the computation, if all that use it multiply by it."""
        dtype = compute_dtype(weight) if self.multiplied else weight.dtype
        if self._applied is None or self.training or torch.compiler.is_compiling():
            return self._masked(weight, dtype)
        if dtype not in self._applied:
            self._applied[dtype] = self._masked(weight, dtype)
        return self._applied[dtype]

    def linear(self, inputs: Tensor, weight: Tensor, bias: Tensor | None, *, transposed: bool) -> Tensor:
        """The output of a linear layer over the masked weight, which is drawn again in the backward pass."""
        return masked_linear(
            inputs,
            weight,
            self.mask_logits,
            bias,
            self.clock.mask_key(self.name, training=True),
            through=self.gradient == "through",
            transposed=transposed,
            recompute=self.recompute,
        )

    @property
    def draws_for_backward(self) -> bool:
        """Whether a forward pass now draws a mask, and a backward pass may follow it."""
        return self.training and torch.is_grad_enabled()

    def keep_mask(self) -> Tensor:
        """The mask in force now."""
        key = self.clock.key if self.training else self.clock.evaluation
        if key is None:
            return threshold_keep_mask(self.mask_logits)
        return kernels_for(self.mask_logits.device).draw_keep_mask(self.mask_logits.detach(), key.words(self.name))

    def _masked(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        key = self.clock.mask_key(self.name, training=self.training)
        return masked_by_logits(weight, self.mask_logits, key, dtype=dtype, through=self.gradient == "through")

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> MaskedWeight:
        super()._apply(keeps_logits_in_float32(fn), recurse)  # type: ignore[no-untyped-call]
        return self


def keeps_logits_in_float32(convert: Callable[..., Any]) -> Callable[[Tensor], Tensor]:
    """What `nn.Module._apply` does to mask logits and their gradients: they move between devices and stay float32.

    Near ν = 5 bfloat16 steps by 0.031, so that smaller updates would vanish.
    """

    def kept(tensor: Tensor) -> Tensor:
        moved: Tensor = convert(tensor)
        return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

    return kept


def multiplies_transposed(module: nn.Module) -> bool | None:
    """How a module multiplies by its weight, if that is all that its `forward` does, told by its classes.

    Returns:
        False for x Wᵀ + b as in `nn.Linear`, True for x W + b as in `transformers`' `Conv1D`, None for all others.
    """
    if "forward" in vars(module):
        return None
    forward = type(module).forward
    if isinstance(module, nn.Linear) and forward is nn.Linear.forward:
        return False
    # If transformers was never imported, no module can be its Conv1D.
    pytorch_utils = sys.modules.get("transformers.pytorch_utils")
    if pytorch_utils is not None and isinstance(module, pytorch_utils.Conv1D):
        return True if forward is pytorch_utils.Conv1D.forward else None
    return None


def mask_(module: nn.Module, attribute: str, mask: MaskedWeight) -> list[str]:
    """Put a mask over a weight of a module, in place."""
    order = list(module._parameters)
    transposed = multiplies_transposed(module) if attribute == "weight" else None
    parametrize.register_parametrization(module, attribute, mask, unsafe=True)
    if transposed is not None:
        # parametrize has just made a class for this one module, and takes it away again with the parametrization.
        cast(Any, type(module)).forward = _conv1d_forward if transposed else _linear_forward
    return order


def unmask_(module: nn.Module, attribute: str, order: Iterable[str]) -> None:
    """Take the mask off again: the module holds the parameter that it held before, where it was."""
    parametrize.remove_parametrizations(module, attribute, leave_parametrized=False)
    # The parameter comes back at the end; put all in their old order, which optimizers and checkpoints go by.
    for name in order:
        module._parameters[name] = module._parameters.pop(name)


@contextmanager
def applied_once(masks: Iterable[MaskedWeight]) -> Iterator[None]:
    """Within the block every mask is applied to its weight once, at the first use in evaluation mode.

    The masked weights, a copy in the dtype of the computation, live until the block ends. Compiled graphs apply masks
    anew. Logits and clocks must not change meanwhile.
    """
    before = [(mask, mask._applied) for mask in masks]
    for mask, _ in before:
        mask._applied = {}
    try:
        yield
    finally:
        for mask, applied in before:
            mask._applied = applied


def _drawn(module: Any) -> tuple[MaskedWeight, Tensor] | None:
    """The mask that a forward pass now draws over a module's weight, and the weight, if nothing else is put on it."""
    # As deep as it is, looked up where it is: `nn.Module` would search for each attribute, in every layer and step.
    held = module._modules["parametrizations"]._modules["weight"]
    mask = held._modules["0"]
    if not isinstance(mask, MaskedWeight) or len(held._modules) > 1 or not mask.draws_for_backward:
        return None
    return mask, held._parameters["original"]


def _linear_forward(module: Any, input: Tensor) -> Tensor:
    drawn = _drawn(module)
    if drawn is None:
        return nn.Linear.forward(module, input)
    mask, weight = drawn
    return mask.linear(input, weight, module.bias, transposed=False)


def _conv1d_forward(module: Any, x: Tensor) -> Tensor:
    drawn = _drawn(module)
    if drawn is None:
        return cast(Tensor, sys.modules["transformers.pytorch_utils"].Conv1D.forward(module, x))
    mask, weight = drawn
    return mask.linear(x, weight, module.bias, transposed=True)
