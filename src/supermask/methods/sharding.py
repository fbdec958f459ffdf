"""Tensors that several processes hold a part of each, as FSDP leaves parameters, and plain ones, alike.

A sharded tensor is torch's `DTensor`. It is known here by what it can do, because importing its class would load
torch's distributed machinery for everybody.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from supermask.errors import ConfigurationError

__all__ = ["is_sharded", "local_part", "part_of_whole", "sum_over_shards_", "whole_tensor"]


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is spread over processes."""
    return hasattr(tensor, "full_tensor") and hasattr(tensor, "to_local")


def local_part(tensor: Tensor) -> Tensor:
    """The part that this process holds, sharing its memory; a plain tensor is its own part.

    Example:
        >>> local_part(torch.ones(2))
        tensor([1., 1.])
    """
    if not is_sharded(tensor):
        return tensor
    part: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return part


def whole_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor, the same on every process; a plain tensor is whole already.

    Of a sharded tensor every process must ask, or those that do wait for the others.

    Example:
        >>> whole_tensor(torch.ones(2))
        tensor([1., 1.])
    """
    if not is_sharded(tensor):
        return tensor
    whole: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return whole


def part_of_whole(whole: Tensor, like: Tensor) -> Tensor:
    """The part, a view, of a whole tensor where this process's part of another tensor lies. Nothing is sent.

    Example:
        >>> part_of_whole(torch.ones(2), torch.zeros(2))
        tensor([1., 1.])
    """
    if not is_sharded(like):
        return whole
    mesh, place = _mesh(like), _place(like)
    part = whole
    for dimension, placement in enumerate(_placements(like)):
        if type(placement).__name__ == "Shard":
            # As FSDP and `distribute_tensor` cut: torch.chunk, and nothing for processes beyond the last piece.
            pieces = part.chunk(mesh.size(dimension), dim=placement.dim)
            index = place[dimension]
            part = pieces[index] if index < len(pieces) else part.narrow(placement.dim, 0, 0)
        elif type(placement).__name__ != "Replicate":
            raise ConfigurationError(
                f"a tensor is placed as {placement}, which is not known here; shard with fully_shard over a mesh of "
                "one dimension, or of two (replicate, shard)"
            )
    return part


def sum_over_shards_(value: Tensor, like: Tensor) -> Tensor:
    """Add up, in place, what each process has computed from its part of a sharded tensor.

    Example:
        >>> sum_over_shards_(torch.tensor(3.0), torch.ones(3))
        tensor(3.)
    """
    if is_sharded(like):
        mesh = _mesh(like)
        for dimension, placement in enumerate(_placements(like)):
            if type(placement).__name__ != "Replicate":
                torch.distributed.all_reduce(value, group=mesh.get_group(dimension))
    return value


def _mesh(tensor: Any) -> Any:
    return tensor.device_mesh


def _placements(tensor: Any) -> Any:
    return tensor.placements


def _place(tensor: Any) -> Any:
    """This process's coordinates in the mesh."""
    place = tensor.device_mesh.get_coordinate()
    if place is None:
        raise ConfigurationError(
            "this process is not in the mesh that a tensor is spread over; ask only those that are"
        )
    return place
