"""What two deltas of one base have in common: zeros against chance, and how far their values are apart."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar, final

import torch
from torch import Tensor, nn

from supermask.analysis.overlap import OverlapCount, count_overlap
from supermask.core import angular_distance, l1_distance
from supermask.deltas import Change, ChangeRecord, KeepMask, SparseValues, TaskDelta, named_tensors
from supermask.deltas.fingerprint import require_base
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError

__all__ = ["DeltaOverlap", "TensorOverlap", "ValueDistance", "delta_overlap"]

_PlaceT = TypeVar("_PlaceT", bound=Hashable)

# Without the base at hand nothing else bounds what a delta claims, and a mask of few zeros is a few bytes of file.
_MOST_WEIGHTS_WITHOUT_BASE = 1 << 30


@final
@dataclass(frozen=True, kw_only=True)
class TensorOverlap:
    """The shared zeros of one tensor.

    Args:
        name: of the tensor.
        role: what it does, as far as the deltas say.
        block: which block it is in.
        count: its zeros.
    """

    name: str
    role: str | None
    block: int | None
    count: OverlapCount


@final
@dataclass(frozen=True, kw_only=True)
class ValueDistance:
    """How far a tensor's values in two deltas are apart; what a mask drops counts as 0.

    Args:
        name: of the tensor.
        role: what it does, as far as the deltas say.
        block: which block it is in.
        l1: ‖a - b‖₁ / √n; see `l1_distance`.
        angle: between them, in units of π; None if one is all zeros.
    """

    name: str
    role: str | None
    block: int | None
    l1: float
    angle: float | None


@final
@dataclass(frozen=True, kw_only=True)
class DeltaOverlap:
    """Two deltas compared tensor by tensor; the task heads are left out, since each task has its own.

    Args:
        tensors: those that both mask, in model order.
        values: those that both give new values.
        only_first: tensors that only the first delta changes.
        only_second: tensors that only the second changes.
        unlike: tensors that both change, but one by a mask alone and the other by new values alone.
    """

    tensors: tuple[TensorOverlap, ...]
    values: tuple[ValueDistance, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    unlike: tuple[str, ...]

    @property
    def total(self) -> OverlapCount:
        """All tensors that both mask."""
        return sum((tensor.count for tensor in self.tensors), OverlapCount())

    def by_role(self) -> Mapping[str, OverlapCount]:
        """Summed by role, in model order; a tensor whose role is not known stands under `unnamed`."""
        return self._summed(lambda tensor: tensor.role or "unnamed")

    def by_block(self) -> Mapping[int | None, OverlapCount]:
        """Summed by block, from the input up; None stands for tensors outside all blocks, and comes last."""
        found = self._summed(lambda tensor: tensor.block)
        return {block: found[block] for block in sorted(found, key=lambda block: (block is None, block or 0))}

    def _summed(self, place: Callable[[TensorOverlap], _PlaceT]) -> dict[_PlaceT, OverlapCount]:
        summed: dict[_PlaceT, OverlapCount] = {}
        for tensor in self.tensors:
            summed[place(tensor)] = summed.get(place(tensor), OverlapCount()) + tensor.count
        return summed


def delta_overlap(
    first: TaskDelta, second: TaskDelta, *, base: nn.Module | Mapping[str, Tensor] | None = None
) -> DeltaOverlap:
    """Compare what two deltas of one base change.

    Args:
        first: a delta.
        second: another one, or the same.
        base: the base, or its tensors by name; needed if the deltas are coded against it, and checked if it is given.

    Returns:
        Shared zeros of the tensors that both mask, distances of those that both give values, and what only one of them
        changes.

    Raises:
        ConfigurationError: if the base is needed and not given.
        BaseMismatchError: if the deltas have different bases, or the base given is not theirs.
        DeltaFormatError: if a payload does not code what its document says.

    Example:
        >>> from supermask.deltas import base_fingerprint
        >>> base = nn.Linear(2, 2, bias=False)
        >>> one, other = (
        ...     TaskDelta.create({"weight": KeepMask(torch.tensor(keep))}, base=base_fingerprint(base))
        ...     for keep in ([[False, False], [True, True]], [[False, True], [True, False]])
        ... )
        >>> total = delta_overlap(one, other, base=base).total
        >>> total.shared, total.expected, total.ratio
        (1, 1.0, 1.0)
    """
    ours, theirs = _decoded(first, second, base)
    first_records, second_records = _without_head(first), _without_head(second)
    tensors, values, unlike = [], [], []
    for name, record in first_records.items():
        if name not in second_records:
            continue
        one, other = ours[name], theirs[name]
        masks = _keep_mask(one), _keep_mask(other)
        results = _values(one), _values(other)
        if masks[0] is not None and masks[1] is not None:
            count = count_overlap(masks[0], masks[1])
            tensors.append(TensorOverlap(name=name, role=record.role, block=record.block, count=count))
        if results[0] is not None and results[1] is not None:
            values.append(_distance(record, results[0], results[1]))
        if None in (masks[0], masks[1]) and None in (results[0], results[1]):
            unlike.append(name)
    return DeltaOverlap(
        tensors=tuple(tensors),
        values=tuple(values),
        only_first=tuple(name for name in first_records if name not in second_records),
        only_second=tuple(name for name in second_records if name not in first_records),
        unlike=tuple(unlike),
    )


def _decoded(
    first: TaskDelta, second: TaskDelta, base: nn.Module | Mapping[str, Tensor] | None
) -> tuple[Mapping[str, Change], Mapping[str, Change]]:
    if first.base.digest != second.base.digest:
        raise BaseMismatchError(
            f"{first!r} and {second!r} were learnt on different bases ({first.base.digest[:16]} and "
            f"{second.base.digest[:16]}), so their tensors cannot be compared"
        )
    tensors: Mapping[str, Tensor] = {}
    if base is not None:
        tensors = named_tensors(base)
        require_base(tensors, first.base)
    elif first.needs_base or second.needs_base:
        raise ConfigurationError("these deltas are coded against their base's weights; pass base=, the base's model")
    for record in () if base is not None else (*first.document.changes, *second.document.changes):
        if record.weights > _MOST_WEIGHTS_WITHOUT_BASE:
            raise DeltaFormatError(
                f"{record.name}: claims {record.weights} weights, which only the base can confirm; pass base="
            )
    return first.changes_for(tensors), second.changes_for(tensors)


def _without_head(delta: TaskDelta) -> dict[str, ChangeRecord]:
    return {record.name: record for record in delta.document.changes if record.name not in delta.head}


def _keep_mask(change: Change) -> Tensor | None:
    return change.keep if isinstance(change, KeepMask | SparseValues) else None


def _values(change: Change) -> Tensor | None:
    """The tensor as the delta leaves it, where it says so without the base."""
    if isinstance(change, KeepMask):
        return None
    if isinstance(change, SparseValues):
        return change.apply(torch.zeros(change.shape, dtype=change.values.dtype))
    return change.values


def _distance(record: ChangeRecord, first: Tensor, second: Tensor) -> ValueDistance:
    try:
        angle = angular_distance(first, second)
    except ConfigurationError:  # one is all zeros, and so has no direction
        angle = None
    return ValueDistance(
        name=record.name,
        role=record.role,
        block=record.block,
        l1=l1_distance(first, second),
        angle=angle,
    )
