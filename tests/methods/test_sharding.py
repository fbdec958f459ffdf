"""Parts and wholes of tensors; over two processes they are tested with FSDP2 itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from supermask.errors import ConfigurationError
from supermask.methods.sharding import is_sharded, local_part, part_of_whole, sum_over_shards_, whole_tensor


class Shard:
    def __init__(self, dim: int) -> None:
        self.dim = dim


class Replicate:
    pass


class Partial:
    pass


class Mesh:
    """A device mesh, as far as it is asked."""

    def __init__(self, sizes: tuple[int, ...], place: tuple[int, ...] | None) -> None:
        self.sizes, self.place = sizes, place

    def size(self, dimension: int) -> int:
        return self.sizes[dimension]

    def get_coordinate(self) -> Any:
        return self.place


def placed(sizes: tuple[int, ...], place: tuple[int, ...] | None, *placements: Any) -> Any:
    """A tensor that is spread, as far as `part_of_whole` looks."""
    tensor = torch.zeros(0)
    tensor.device_mesh, tensor.placements = Mesh(sizes, place), placements  # type: ignore[attr-defined]
    tensor.to_local = tensor.full_tensor = lambda: tensor  # type: ignore[attr-defined]
    return tensor


def test_a_plain_tensor_is_its_own_part() -> None:
    tensor = torch.ones(3)
    assert not is_sharded(tensor)
    for same in (local_part(tensor), whole_tensor(tensor), part_of_whole(tensor, tensor)):
        assert same is tensor
    assert sum_over_shards_(tensor, tensor) is tensor


@pytest.mark.parametrize("rows", [1, 5, 8])
def test_parts_are_cut_as_torch_cuts_them(rows: int) -> None:
    whole = torch.arange(rows * 3).reshape(rows, 3)
    parts: list[Tensor] = [part_of_whole(whole, placed((4,), (rank,), Shard(0))) for rank in range(4)]
    assert torch.equal(torch.cat(parts), whole)
    assert [len(part) for part in parts[: len(whole.chunk(4))]] == [len(piece) for piece in whole.chunk(4)]


def test_copies_are_whole_and_other_dimensions_are_cut_too() -> None:
    whole = torch.arange(24).reshape(4, 6)
    part = part_of_whole(whole, placed((2, 3), (1, 2), Replicate(), Shard(1)))
    assert torch.equal(part, whole[:, 4:])
    part.zero_()
    assert not whole[:, 4:].any()  # a view


def test_unknown_placements_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="not known here; shard with fully_shard"):
        part_of_whole(torch.zeros(2), placed((2,), (0,), Partial()))
    with pytest.raises(ConfigurationError, match="not in the mesh"):
        part_of_whole(torch.zeros(2), placed((2,), None, Shard(0)))
