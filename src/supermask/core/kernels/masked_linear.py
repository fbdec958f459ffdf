"""A linear layer over a masked weight, which it draws again in the backward pass instead of keeping it."""

from __future__ import annotations

import threading
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from supermask.core.counter_random import KeyWords
from supermask.core.kernels.backend import Kernels, kernels_for
from supermask.core.kernels.ops import (
    MaskKey,
    TracedKey,
    compute_dtype,
    draw_masked_weight,
    mask_logit_gradient,
    masked_by_logits,
    redraw_masked_weight,
)

__all__ = ["masked_linear"]


def masked_linear(
    inputs: Tensor,
    weight: Tensor,
    mask_logits: Tensor,
    bias: Tensor | None,
    key: MaskKey,
    *,
    through: bool,
    transposed: bool = False,
    recompute: bool = True,
) -> Tensor:
    """x θᵀ + b with θ = θ̃ ⊙ μ: the same numbers as `functional.linear` on the masked weight gives.

    Plain fine-tuning keeps its weight for the backward pass by reference. θ has no other owner, so that keeping it
    holds a copy of every weight from the forward to the backward pass. With `recompute` it is drawn again there, by the
    same key and to the same bits, and only what exists anyway is kept: x, θ̃ and ν.

    Args:
        inputs: x, shape (..., in).
        weight: θ̃, frozen, shape (out, in).
        mask_logits: ν, same shape, float32.
        bias: b, shape (out,), or None.
        key: which draw; None for the thresholded mask.
        through: whether the gradient goes through the sigmoid.
        transposed: the weight's shape is (in, out) instead, as in `transformers`' `Conv1D`.
        recompute: draw θ again in the backward pass instead of keeping it.

    Returns:
        Shape (..., out), in autocast's dtype where it is on.

    Raises:
        ConfigurationError: if shapes, devices or dtypes do not fit.

    Example:
        >>> weight, logits = torch.tensor([[2.0, -3.0]]), torch.tensor([[5.0, -5.0]], requires_grad=True)
        >>> masked_linear(torch.ones(1, 2), weight, logits, None, None, through=False)
        tensor([[2.]], grad_fn=<ViewBackward0>)
    """
    dtype = compute_dtype(weight)
    if dtype != weight.dtype:  # as autocast does for every matrix product
        inputs = inputs if inputs.dtype == torch.float64 else inputs.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    in_graph = torch.compiler.is_compiling() if key is None else isinstance(key, TracedKey)
    if in_graph and (key is None or not recompute):
        masked = masked_by_logits(weight, mask_logits, key, dtype=dtype, through=through)
        return functional.linear(inputs, masked.t() if transposed else masked, bias)
    # In rows: the output of a function of one's own must not be a view, or models could not write to it in place.
    tensors = (inputs.reshape(-1, inputs.shape[-1]), weight, mask_logits, bias)
    if isinstance(key, TracedKey):
        traced: Any = _TracedMaskedLinear.apply
        rows = cast(Tensor, traced(*tensors, key.draw, key.seed, key.name, dtype, through, transposed))
    else:
        eager: Any = _MaskedLinear.apply
        rows = cast(Tensor, eager(*tensors, key, dtype, through, transposed, recompute))
    return rows.view(*inputs.shape[:-1], rows.shape[-1])


@final
class _MaskedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        mask_logits: Tensor,
        bias: Tensor | None,
        key: KeyWords | None,
        dtype: torch.dtype,
        through: bool,
        transposed: bool,
        recompute: bool,
    ) -> Tensor:
        # Looked up once: a thread of autograd's would not see what was forced here.
        ctx.kernels = kernels_for(weight.device)
        room = _rooms.room_for(weight, dtype) if recompute else None
        masked = _masked(ctx.kernels, weight, mask_logits, key, dtype, room)
        ctx.save_for_backward(inputs, weight, mask_logits, None if recompute else masked)
        ctx.key, ctx.dtype, ctx.through, ctx.transposed = key, dtype, through, transposed
        return functional.linear(inputs, masked.t() if transposed else masked, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        inputs, weight, mask_logits, masked = ctx.saved_tensors
        of_inputs = of_logits = None
        if ctx.needs_input_grad[0]:
            if masked is None:
                room = _rooms.room_for(weight, ctx.dtype)
                masked = _masked(ctx.kernels, weight, mask_logits, ctx.key, ctx.dtype, room)
            of_inputs = gradient @ (masked.t() if ctx.transposed else masked)
        if ctx.needs_input_grad[2]:
            of_weight = _weight_gradient(gradient, inputs, transposed=ctx.transposed)
            # Into the same memory, if it has the form: nobody else knows it.
            in_place = of_weight.dtype == mask_logits.dtype and of_weight.is_contiguous()
            of_logits = ctx.kernels.mask_logit_gradient(
                of_weight, weight, mask_logits, through=ctx.through, out=of_weight if in_place else None
            )
        of_bias = gradient.sum(0) if ctx.needs_input_grad[3] else None
        return of_inputs, None, of_logits, of_bias, None, None, None, None, None


def _masked(
    kernels: Kernels,
    weight: Tensor,
    mask_logits: Tensor,
    key: KeyWords | None,
    dtype: torch.dtype,
    room: Tensor | None,
) -> Tensor:
    if key is None:
        return kernels.threshold_masked_weight(weight, mask_logits, dtype=dtype, out=room)
    return kernels.draw_masked_weight(weight, mask_logits, key, dtype=dtype, out=room)


@final
class _Rooms(threading.local):
    """Memory for masked weights that are used up by the next product, the same for all layers of a thread.

    On a CPU fresh memory costs more than what is written to it, and this stays in its cache. CUDA has an allocator of
    its own, which knows when a product is through.
    """

    def __init__(self) -> None:
        self.memory: dict[torch.dtype, Tensor] = {}
        self.views: dict[tuple[torch.dtype, torch.Size], Tensor] = {}

    def room_for(self, weight: Tensor, dtype: torch.dtype) -> Tensor | None:
        """A tensor of the weight's shape to write to, if there is one to lend."""
        if weight.device.type != "cpu" or type(weight) not in (Tensor, nn.Parameter):
            return None
        room = self.views.get((dtype, weight.shape))
        if room is not None:
            return room
        if dtype not in self.memory or self.memory[dtype].numel() < weight.numel():
            self.memory[dtype] = torch.empty(weight.numel(), dtype=dtype, device=weight.device)
            self.views.clear()
        room = self.memory[dtype][: weight.numel()].view(weight.shape)
        self.views[dtype, weight.shape] = room
        return room


_rooms = _Rooms()


@final
class _TracedMaskedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        mask_logits: Tensor,
        bias: Tensor | None,
        draw: Tensor,
        seed: int,
        name: str,
        dtype: torch.dtype,
        through: bool,
        transposed: bool,
    ) -> Tensor:
        masked = draw_masked_weight(weight, mask_logits, draw, seed, name, dtype, through)
        ctx.save_for_backward(inputs, weight, mask_logits, draw)
        ctx.seed, ctx.name, ctx.dtype, ctx.through, ctx.transposed = seed, name, dtype, through, transposed
        return functional.linear(inputs, masked.t() if transposed else masked, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        inputs, weight, mask_logits, draw = ctx.saved_tensors
        of_inputs = of_logits = None
        if ctx.needs_input_grad[0]:
            masked = redraw_masked_weight(weight, mask_logits, draw, ctx.seed, ctx.name, ctx.dtype, gradient)
            of_inputs = gradient @ (masked.t() if ctx.transposed else masked)
        if ctx.needs_input_grad[2]:
            of_weight = _weight_gradient(gradient, inputs, transposed=ctx.transposed)
            of_logits = mask_logit_gradient(of_weight, weight, mask_logits, ctx.through)
        of_bias = gradient.sum(0) if ctx.needs_input_grad[3] else None
        return of_inputs, None, of_logits, of_bias, None, None, None, None, None, None


def _weight_gradient(gradient: Tensor, inputs: Tensor, *, transposed: bool) -> Tensor:
    return inputs.t() @ gradient if transposed else gradient.t() @ inputs
