"""The L2 norm of gradients and clipping by it, with no more passes over memory than needed.

`torch.nn.utils.clip_grad_norm_` reads all gradients for the norm and then reads and writes them all, even where the
factor is 1, as it is in nearly every step. Here that second pass is left out on the CPU. On an accelerator it stays:
to know the factor, the host would have to wait for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from supermask.methods.sharding import is_sharded, local_part, sum_over_shards_

__all__ = ["clip_by_norm_", "gradient_norm"]


@torch.no_grad()
def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """√(Σ g²) over all gradients, of whole tensors also where processes hold parts of them.

    Args:
        gradients: any shapes, sharded or plain; if any is sharded, every process of its mesh must call this.

    Returns:
        float32 tensor without dimensions, on the gradients' device; 0 for none.

    Example:
        >>> gradient_norm([torch.tensor([3.0]), torch.tensor([[4.0]])])
        tensor(5.)
    """
    plain = [gradient for gradient in gradients if not is_sharded(gradient)]
    norms = [_norm_of_plain(plain)] if plain else []
    # One sum for all tensors of a mesh and placement, not one for each.
    shards: dict[object, list[Tensor]] = {}
    for gradient in gradients:
        if is_sharded(gradient):
            shards.setdefault((gradient.device_mesh, tuple(gradient.placements)), []).append(gradient)  # type: ignore[attr-defined]
    for sharded in shards.values():
        square = _norm_of_plain([local_part(gradient) for gradient in sharded]).square()
        norms.append(sum_over_shards_(square, sharded[0]).sqrt())
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())


@torch.no_grad()
def clip_by_norm_(gradients: Sequence[Tensor], norm: Tensor, *, max_norm: float) -> None:
    """Shrink gradients, in place, so that their norm is at most `max_norm`: g ← g · min(1, max_norm / (norm + 1e-6)).

    Example:
        >>> gradient = torch.tensor([3.0, 4.0])
        >>> clip_by_norm_([gradient], gradient_norm([gradient]), max_norm=1.0)
        >>> gradient
        tensor([0.6000, 0.8000])

    Source: Pascanu et al. (2013), algorithm 1, in the form of `torch.nn.utils.clip_grad_norm_`.
    """
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    if factor.device.type == "cpu" and factor == 1.0:
        return
    for gradient in gradients:
        local_part(gradient).mul_(factor.to(gradient.device))


def _norm_of_plain(gradients: list[Tensor]) -> Tensor:
    if gradients[0].is_cuda and hasattr(nn.utils, "get_total_norm"):  # torch 2.6 on: few launches for many tensors
        total: Tensor = nn.utils.get_total_norm(gradients)
        return total.to(dtype=torch.float32)
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm
