"""Where a delta's zeros are: by role and by block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, final

from supermask.errors import ConfigurationError

__all__ = ["ZeroCount", "ZerosTable", "zeros_by_place"]


class _MaskedTensor(Protocol):
    @property
    def role(self) -> str | None: ...
    @property
    def block(self) -> int | None: ...
    @property
    def zeros(self) -> int | None: ...
    @property
    def weights(self) -> int: ...


@final
@dataclass(frozen=True)
class ZeroCount:
    """Zeros among weights."""

    zeros: int = 0
    weights: int = 0

    @property
    def sparsity(self) -> float:
        """The fraction of zeros, in [0, 1]."""
        return self.zeros / self.weights if self.weights else 0.0

    def __add__(self, other: ZeroCount) -> ZeroCount:
        return ZeroCount(self.zeros + other.zeros, self.weights + other.weights)


@final
@dataclass(frozen=True)
class ZerosTable:
    """Zeros of the masked tensors, role by role and block by block.

    Args:
        roles: the roles that are masked, in model order; a tensor whose role is not known stands under `unnamed`.
        blocks: the blocks, from the input up; None stands for tensors outside all blocks, and comes last.
        cells: zeros and weights of each role in each block, where there are any.
    """

    roles: tuple[str, ...]
    blocks: tuple[int | None, ...]
    cells: Mapping[tuple[str, int | None], ZeroCount]

    def of_role(self, role: str) -> ZeroCount:
        """All blocks of one role together."""
        return sum((count for (name, _), count in self.cells.items() if name == role), ZeroCount())

    def of_block(self, block: int | None) -> ZeroCount:
        """All roles of one block together."""
        return sum((count for (_, index), count in self.cells.items() if index == block), ZeroCount())

    @property
    def total(self) -> ZeroCount:
        """Everything that is masked."""
        return sum(self.cells.values(), ZeroCount())


def zeros_by_place(changes: Iterable[_MaskedTensor]) -> ZerosTable:
    """Count zeros by role and block.

    Args:
        changes: the records of a delta's document; those without a mask are passed over.

    Returns:
        The table.

    Raises:
        ConfigurationError: if no tensor is masked.

    Source: Figure 4 of the paper.
    """
    cells: dict[tuple[str, int | None], ZeroCount] = {}
    for change in changes:
        if change.zeros is not None:
            place = (change.role or "unnamed", change.block)
            cells[place] = cells.get(place, ZeroCount()) + ZeroCount(change.zeros, change.weights)
    if not cells:
        raise ConfigurationError(
            "this delta masks no tensor, so it has no zeros to show; its method trains values alone"
        )
    blocks = sorted({block for _, block in cells if block is not None})
    outside: tuple[int | None, ...] = (None,) if any(block is None for _, block in cells) else ()
    return ZerosTable(roles=tuple(dict.fromkeys(role for role, _ in cells)), blocks=(*blocks, *outside), cells=cells)
