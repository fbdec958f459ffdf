"""The masked weight as one operation that autograd and torch.compile know.

Outside a compiled graph a plain `torch.autograd.Function` goes straight to the kernels. Inside one, the same kernels
stand behind custom operators, which the compiler takes as they are: it sees their shapes and gradients and looks no
further, so that nothing breaks the graph. Custom operators cost some 50 µs more a matrix and step, and their first call
loads the compiler, so that only compiled graphs go through them.

In a graph, the key of a draw is a tensor: as a constant it would have the graph compiled again at every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from supermask.core.bernoulli import DrawKey
from supermask.core.counter_random import KeyWords
from supermask.core.kernels.backend import kernels_for
from supermask.errors import ConfigurationError

__all__ = [
    "MaskKey",
    "TracedKey",
    "compute_dtype",
    "draw_masked_weight",
    "key_tensor",
    "mask_logit_gradient",
    "masked_by_logits",
    "redraw_masked_weight",
    "threshold_masked_weight",
]

_STREAM_WORDS = 4
_STREAM_BYTES = 8 * _STREAM_WORDS


@final
@dataclass(frozen=True)
class TracedKey:
    """The key of a draw in a compiled graph.

    Args:
        draw: what changes from draw to draw, as `key_tensor` gives it: an input of the graph.
        seed: the run's seed, a constant of the graph; it stands in for the key's own.
        name: the tensor's name, a constant of the graph.
    """

    draw: Tensor
    seed: int
    name: str


MaskKey = KeyWords | TracedKey | None
"""Which mask: the draw of these words; in a compiled graph, of this key; or the thresholded one, by None."""


def key_tensor(key: DrawKey) -> Tensor:
    """A draw's key without its seed, as a small tensor on the CPU: an input of compiled graphs.

    Returns:
        int64 of shape (7,): step, micro-batch, rank, and the stream's name in 32 bytes.

    Raises:
        ConfigurationError: if the stream's name is longer than 32 bytes.

    Example:
        >>> key_tensor(DrawKey(step=3))[:3]
        tensor([3, 0, 0])
    """
    stream = key.stream.encode()
    if len(stream) > _STREAM_BYTES:
        raise ConfigurationError(f"a stream's name has up to {_STREAM_BYTES} bytes, received {key.stream!r}")
    padded = stream.ljust(_STREAM_BYTES, b"\0")
    words = [int.from_bytes(padded[at : at + 8], "little", signed=True) for at in range(0, _STREAM_BYTES, 8)]
    return torch.tensor([key.step, key.micro_batch, key.rank, *words], dtype=torch.int64, device="cpu")


def _words(draw: Tensor, seed: int, name: str) -> KeyWords:
    step, micro_batch, rank, *words = cast(list[int], draw.tolist())
    stream = b"".join(word.to_bytes(8, "little", signed=True) for word in words).rstrip(b"\0").decode()
    return DrawKey(seed=int(seed), step=step, micro_batch=micro_batch, rank=rank, stream=stream).words(name)


def compute_dtype(weight: Tensor) -> torch.dtype:
    """The dtype that a matrix product takes this weight in: autocast's where it is on and has a say, else its own."""
    device = weight.device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return weight.dtype
    return torch.float64 if weight.dtype == torch.float64 else torch.get_autocast_dtype(device)


def masked_by_logits(weight: Tensor, mask_logits: Tensor, key: MaskKey, *, dtype: torch.dtype, through: bool) -> Tensor:
    """The masked weight, θ = θ̃ ⊙ μ, differentiable in the mask logits; θ alone is written to memory.

    Backward needs neither mask nor θ: the gradient is `core.masked_weight`'s, computed from θ̃ and ν, which autograd
    keeps by reference.

    Args:
        weight: θ̃, frozen.
        mask_logits: ν, same shape, float32.
        key: which draw; None for the thresholded mask.
        dtype: of θ.
        through: whether the gradient goes through the sigmoid, as `gradient="through"`.

    Returns:
        θ in `dtype`, contiguous.

    Raises:
        ConfigurationError: if shapes, devices or dtypes do not fit.

    Example:
        >>> weight, logits = torch.tensor([2.0, -3.0]), torch.tensor([5.0, -5.0], requires_grad=True)
        >>> masked = masked_by_logits(weight, logits, None, dtype=torch.bfloat16, through=False)
        >>> masked.detach()
        tensor([2., 0.], dtype=torch.bfloat16)
        >>> masked.sum().backward()
        >>> logits.grad
        tensor([ 2., -3.])
    """
    if isinstance(key, TracedKey):
        return cast(Tensor, draw_masked_weight(weight, mask_logits, key.draw, key.seed, key.name, dtype, through))
    if key is None and torch.compiler.is_compiling():
        return cast(Tensor, threshold_masked_weight(weight, mask_logits, dtype, through))
    return cast(Tensor, _MaskedByLogits.apply(weight, mask_logits, key, dtype, through))  # type: ignore[no-untyped-call]


@final
class _MaskedByLogits(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, mask_logits: Tensor, key: KeyWords | None, dtype: torch.dtype, through: bool
    ) -> Tensor:
        ctx.save_for_backward(weight, mask_logits)
        ctx.through = through
        # Looked up once: a thread of autograd's would not see what was forced here.
        kernels = ctx.kernels = kernels_for(weight.device)
        if key is None:
            return kernels.threshold_masked_weight(weight, mask_logits, dtype=dtype)
        return kernels.draw_masked_weight(weight, mask_logits, key, dtype=dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        weight, mask_logits = ctx.saved_tensors
        of_logits = ctx.kernels.mask_logit_gradient(gradient, weight, mask_logits, through=ctx.through)
        return None, of_logits, None, None, None


# What compiled graphs hold. Schemas are spelt out, because older versions of torch cannot read postponed annotations.


def _draw(
    weight: Tensor, mask_logits: Tensor, draw: Tensor, seed: int, name: str, dtype: torch.dtype, _: bool | Tensor
) -> Tensor:
    words = _words(draw, seed, name)
    return kernels_for(weight.device).draw_masked_weight(weight, mask_logits, words, dtype=dtype)


def _threshold(weight: Tensor, mask_logits: Tensor, dtype: torch.dtype, through: bool) -> Tensor:
    return kernels_for(weight.device).threshold_masked_weight(weight, mask_logits, dtype=dtype)


def _gradient(gradient: Tensor, weight: Tensor, mask_logits: Tensor, through: bool) -> Tensor:
    return kernels_for(weight.device).mask_logit_gradient(gradient, weight, mask_logits, through=through)


draw_masked_weight = torch.library.custom_op(
    "supermask::draw_masked_weight",
    _draw,
    mutates_args=(),
    schema="(Tensor weight, Tensor mask_logits, Tensor draw, SymInt seed, str name, ScalarType dtype, bool through)"
    " -> Tensor",
)
"""The masked weight of one draw, for compiled graphs."""

threshold_masked_weight = torch.library.custom_op(
    "supermask::threshold_masked_weight",
    _threshold,
    mutates_args=(),
    schema="(Tensor weight, Tensor mask_logits, ScalarType dtype, bool through) -> Tensor",
)
"""The thresholded masked weight, for compiled graphs."""

redraw_masked_weight = torch.library.custom_op(
    "supermask::redraw_masked_weight",
    _draw,
    mutates_args=(),
    schema="(Tensor weight, Tensor mask_logits, Tensor draw, SymInt seed, str name, ScalarType dtype, Tensor gradient)"
    " -> Tensor",
)
"""The masked weight of one draw again, in a backward pass. It does not read the gradient: it depends on it, so that the
compiler can neither do it ahead in the forward pass nor take the forward pass's own and keep that for so long."""

mask_logit_gradient = torch.library.custom_op(
    "supermask::mask_logit_gradient",
    _gradient,
    mutates_args=(),
    schema="(Tensor gradient, Tensor weight, Tensor mask_logits, bool through) -> Tensor",
)
"""∂L/∂ν from ∂L/∂θ, for compiled graphs."""


@draw_masked_weight.register_fake
@redraw_masked_weight.register_fake
def _fake_draw(weight: Tensor, mask_logits: Tensor, draw: Tensor, seed: int, name: str, dtype: Any, _: Any) -> Tensor:
    return weight.new_empty(weight.shape, dtype=dtype)


@threshold_masked_weight.register_fake
def _fake_threshold(weight: Tensor, mask_logits: Tensor, dtype: torch.dtype, through: bool) -> Tensor:
    return weight.new_empty(weight.shape, dtype=dtype)


@mask_logit_gradient.register_fake
def _fake_gradient(gradient: Tensor, weight: Tensor, mask_logits: Tensor, through: bool) -> Tensor:
    return mask_logits.new_empty(mask_logits.shape)


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], inputs[1])
    ctx.through, ctx.others = inputs[-1], len(inputs) - 2


def _backward(ctx: Any, gradient: Tensor) -> Any:
    weight, mask_logits = ctx.saved_tensors
    return None, mask_logit_gradient(gradient, weight, mask_logits, ctx.through), *(None,) * ctx.others


draw_masked_weight.register_autograd(_backward, setup_context=_keep_for_backward)
threshold_masked_weight.register_autograd(_backward, setup_context=_keep_for_backward)
