from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from supermask.errors import ConfigurationError
from supermask.methods.sharding import is_sharded, local_part, part_of_whole, sum_over_shards_, whole_tensor


def placement(kind: str, **fields: int) -> Any:
    """One of torch's, which older releases keep elsewhere."""
    return type(kind, (), fields)()


def placed(sizes: tuple[int, ...], place: tuple[int, ...] | None, *placements: Any) -> Any:
    """A tensor that is spread, as far as `part_of_whole` looks."""
    tensor: Any = torch.zeros(0)
    tensor.device_mesh = SimpleNamespace(size=sizes.__getitem__, get_coordinate=lambda: place)
    tensor.placements = placements
    tensor.to_local = tensor.full_tensor = lambda: tensor
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
    parts: list[Tensor] = [part_of_whole(whole, placed((4,), (rank,), placement("Shard", dim=0))) for rank in range(4)]
    assert torch.equal(torch.cat(parts), whole)
    assert [len(part) for part in parts[: len(whole.chunk(4))]] == [len(piece) for piece in whole.chunk(4)]


def test_copies_are_whole_and_other_dimensions_are_cut_too() -> None:
    whole = torch.arange(24).reshape(4, 6)
    part = part_of_whole(whole, placed((2, 3), (1, 2), placement("Replicate"), placement("Shard", dim=1)))
    assert torch.equal(part, whole[:, 4:])
    part.zero_()
    assert not whole[:, 4:].any()  # a view


def test_unknown_placements_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="not known here; shard with fully_shard"):
        part_of_whole(torch.zeros(2), placed((2,), (0,), placement("Partial")))
    with pytest.raises(ConfigurationError, match="not in the mesh"):
        part_of_whole(torch.zeros(2), placed((2,), None, placement("Shard", dim=0)))
