"""How far a fine-tuned model is from its base, tensor by tensor, and summed up by role and by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

import torch
from torch import Tensor, nn

from supermask.core import angular_distance, l0_distance, l1_distance
from supermask.deltas import Change, ChangePlace, DenseValues, KeepMask, TaskDelta, named_tensors
from supermask.deltas.fingerprint import require_base
from supermask.errors import BaseMismatchError, ConfigurationError
from supermask.models import map_parameters

__all__ = [
    "DistanceRange",
    "TensorDistance",
    "change_distance",
    "delta_distances",
    "distances",
    "iterate_distances",
    "summarise_distances",
    "tensor_distance",
]

_PlaceT = TypeVar("_PlaceT", bound=Hashable)

_WEIGHTS_AT_A_TIME = 1 << 18


@final
@dataclass(frozen=True, kw_only=True)
class TensorDistance:
    """How far one tensor is from the base's.

    Args:
        name: of the tensor.
        role: what it does; None if not known.
        block: which block it is in; None outside the blocks.
        shape: as stored: (out, in) for a linear layer.
        changed: components that differ (L0).
        zeroed: components that are zero and were not.
        l1: ‖θ - θ̃‖₁ / √n over all n components; for a square H x H matrix ‖θ - θ̃‖₁ / H.
        largest_column_sum: max over columns of Σ|θ - θ̃|: the matrix norm ‖θ - θ̃‖₁, as `numpy.linalg.norm(..., 1)` has
            it. It is the distance that the paper's Table 2 prints; see `random_initialisation`. None for a vector.
        largest_row_sum: the same over rows, which is that norm of the transposed matrix, (in, out) as TensorFlow stores
            it.
        angular: the angle between θ and θ̃ as vectors, in units of π; None if one of them is all zeros.
    """

    name: str
    role: str | None = None
    block: int | None = None
    shape: tuple[int, ...]
    changed: int
    zeroed: int
    l1: float
    largest_column_sum: float | None
    largest_row_sum: float | None
    angular: float | None

    @property
    def weights(self) -> int:
        """Components of the tensor."""
        return math.prod(self.shape)


@final
@dataclass(frozen=True, kw_only=True)
class DistanceRange:
    """Distances of several tensors: how many, what changed in all, and the range of each distance over the tensors.

    Args:
        tensors: how many.
        weights: components of all of them.
        changed: components that differ, of all of them.
        zeroed: components that are zero and were not, of all of them.
        l1: the smallest, mean and largest `l1`.
        largest_column_sum: of the matrices among them; None if there are none.
        angular: of those that have a direction; None if none has.
    """

    tensors: int
    weights: int
    changed: int
    zeroed: int
    l1: tuple[float, float, float]
    largest_column_sum: tuple[float, float, float] | None
    angular: tuple[float, float, float] | None


def tensor_distance(
    base: Tensor, changed: Tensor, *, name: str = "", role: str | None = None, block: int | None = None
) -> TensorDistance:
    """Every distance of one tensor from the base's.

    Args:
        base: any shape; a dtype narrower than float32 is widened, which is exact.
        changed: same shape. Where its dtype is another than the base's, rounding to the narrower one counts as change.
        name, role, block: are passed on.

    Raises:
        ConfigurationError: if the shapes differ, or a value is not finite.

    Example:
        >>> base = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> found = tensor_distance(base, base + torch.tensor([[1.0, -1.0], [0.0, -2.0]]))
        >>> found.changed, found.l1, found.largest_column_sum, found.largest_row_sum
        (3, 2.0, 3.0, 2.0)

    Source: section 4.1, Table 2 and Figure 2 of the paper.
    """
    base, changed = _comparable(base), _comparable(changed)
    l1 = l1_distance(base, changed)
    if not math.isfinite(l1):
        raise ConfigurationError(f"{name or 'the tensor'} has values that are not finite, so it has no distance")
    columns, rows = _largest_sums(base, changed) if l1 else (0.0, 0.0)
    matrix = base.ndim > 1
    return TensorDistance(
        name=name,
        role=role,
        block=block,
        shape=tuple(base.shape),
        changed=l0_distance(base, changed) if l1 else 0,
        zeroed=int(((changed == 0) & (base != 0)).count_nonzero()) if l1 else 0,
        l1=l1,
        largest_column_sum=columns if matrix else None,
        largest_row_sum=rows if matrix else None,
        angular=_angle(base, changed, equal=not l1),
    )


def iterate_distances(
    base: Mapping[str, Tensor], changed: Mapping[str, Tensor], *, places: Mapping[str, ChangePlace] | None = None
) -> Iterator[TensorDistance]:
    """As `distances` of named tensors, one after the other, so that a lazy mapping never holds two of a kind."""
    for name in base:
        if name not in changed:
            continue
        first, second = base[name], changed[name]
        if not (first.is_floating_point() and second.is_floating_point()):
            continue
        if first.shape != second.shape:
            raise BaseMismatchError(
                f"{name} has shape {tuple(first.shape)} in the base and {tuple(second.shape)} in the other model; "
                "compare models of one architecture"
            )
        place = (places or {}).get(name, ChangePlace())
        yield tensor_distance(first, second, name=name, role=place.role, block=place.block)


def distances(
    base: nn.Module | Mapping[str, Tensor], changed: nn.Module | Mapping[str, Tensor]
) -> tuple[TensorDistance, ...]:
    """Compare two models, or two sets of named tensors.

    Args:
        base: a model, whose map gives roles and blocks, or named tensors.
        changed: another one. What only one of them has is passed over, as heads are; what both call a head is compared.

    Returns:
        The distances, in the base's order.

    Raises:
        ConfigurationError: if they have no floating-point tensor in common.
        BaseMismatchError: if a tensor has another shape.

    Example:
        >>> base, tuned = nn.Linear(3, 2), nn.Linear(3, 2)
        >>> tuned.load_state_dict({"weight": base.weight.detach(), "bias": base.bias.detach() + 1.0})
        <All keys matched successfully>
        >>> [(found.name, found.changed) for found in distances(base, tuned)]
        [('weight', 0), ('bias', 2)]
    """
    places: dict[str, ChangePlace] = {}
    for model in (changed, base):
        if isinstance(model, nn.Module):
            places |= {info.name: _place(info.role, info.block) for info in map_parameters(model).infos}
    found = tuple(iterate_distances(_distinct(base), _tensors(changed), places=places))
    if not found:
        raise ConfigurationError("the two models have no floating-point tensor of one name; compare like with like")
    return found


def delta_distances(
    base: nn.Module | Mapping[str, Tensor], delta: TaskDelta, *, verify: bool = True
) -> tuple[TensorDistance, ...]:
    """How far a delta moves the tensors of its base; the head, which has no pretrained values, is left out.

    Args:
        base: the delta's base, with nothing on it.
        delta: what was learnt.
        verify: check the base's fingerprint first.

    Returns:
        The distances of the tensors that the delta changes, in its order; all others are 0.

    Raises:
        BaseMismatchError: if the base is another one.
    """
    tensors = _tensors(base)
    if verify:
        require_base(tensors, delta.base)
    changes = delta.changes_for(tensors)
    return tuple(
        change_distance(
            tensors[record.name], changes[record.name], name=record.name, role=record.role, block=record.block
        )
        for record in delta.document.changes
        if record.name not in delta.head
    )


def change_distance(
    base: Tensor, change: Change, *, name: str = "", role: str | None = None, block: int | None = None
) -> TensorDistance:
    """How far one change moves its tensor, the base's; arguments and errors are those of `tensor_distance`.

    Example:
        >>> mask = KeepMask(torch.tensor([[True, False], [True, True]]))
        >>> change_distance(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), mask).l1
        1.0
    """
    tensor = base.detach()
    if isinstance(change, KeepMask) and tensor.ndim == 2 and 4 * change.zeros < tensor.numel():
        return _masked_distance(tensor, change, name=name, role=role, block=block)
    changed = change.values if isinstance(change, DenseValues) else change.apply(tensor)
    return tensor_distance(tensor, changed, name=name, role=role, block=block)


def summarise_distances(
    found: Iterable[TensorDistance], by: Callable[[TensorDistance], _PlaceT]
) -> dict[_PlaceT, DistanceRange]:
    """Ranges of the distances of tensors that belong together.

    Args:
        found: distances.
        by: what a tensor belongs to: `lambda tensor: tensor.role`, or (role, block) for the paper's Figure 2.

    Returns:
        A range for each group, in the order in which the groups first appear.

    Example:
        >>> ones, zeros = torch.ones(2, 2), torch.zeros(2, 2)
        >>> both = [tensor_distance(zeros, ones, role="key"), tensor_distance(zeros, 3 * ones, role="key")]
        >>> summarise_distances(both, by=lambda tensor: tensor.role)["key"].l1
        (2.0, 4.0, 6.0)
    """
    groups: dict[_PlaceT, list[TensorDistance]] = {}
    for tensor in found:
        groups.setdefault(by(tensor), []).append(tensor)
    return {
        place: DistanceRange(
            tensors=len(group),
            weights=sum(tensor.weights for tensor in group),
            changed=sum(tensor.changed for tensor in group),
            zeroed=sum(tensor.zeroed for tensor in group),
            l1=_range([tensor.l1 for tensor in group]) or (0.0, 0.0, 0.0),
            largest_column_sum=_range([tensor.largest_column_sum for tensor in group]),
            angular=_range([tensor.angular for tensor in group]),
        )
        for place, group in groups.items()
    }


def _range(values: Sequence[float | None]) -> tuple[float, float, float] | None:
    known = [value for value in values if value is not None]
    return (min(known), math.fsum(known) / len(known), max(known)) if known else None


def _masked_distance(
    base: Tensor, change: KeepMask, *, name: str, role: str | None, block: int | None
) -> TensorDistance:
    """The distances of a matrix from itself with a few zeros, from these few weights alone.

    The difference is θ̃ where it is dropped. Kept and dropped part are orthogonal, so the angle is atan(‖dropped‖ /
    ‖kept‖).
    """
    flat = base.reshape(-1)
    at = torch.from_numpy(change.positions.positions.astype("int64")).to(flat.device)
    dropped = flat[at].double().abs()
    if not bool(dropped.isfinite().all()):
        raise ConfigurationError(f"{name} has values that are not finite, so it has no distance")
    width = base.shape[1]
    columns = torch.zeros(width, dtype=torch.float64, device=flat.device).index_add_(0, at % width, dropped)
    rows = torch.zeros(base.shape[0], dtype=torch.float64, device=flat.device).index_add_(0, at // width, dropped)
    off = float(dropped.square().sum())
    total = float(torch.linalg.vector_norm(flat, dtype=torch.float64)) ** 2
    return TensorDistance(
        name=name,
        role=role,
        block=block,
        shape=tuple(base.shape),
        changed=int(dropped.count_nonzero()),
        zeroed=int(dropped.count_nonzero()),
        l1=float(dropped.sum()) / math.sqrt(max(flat.numel(), 1)),
        largest_column_sum=float(columns.max()),
        largest_row_sum=float(rows.max()),
        angular=math.atan2(math.sqrt(off), math.sqrt(max(total - off, 0.0))) / math.pi if total > off else None,
    )


def _largest_sums(base: Tensor, changed: Tensor) -> tuple[float, float]:
    """The largest sum of |changed - base| over a column and over a row, in slices of rows."""
    if base.ndim < 2:
        return 0.0, 0.0
    first, second = base.flatten(1), changed.flatten(1)
    columns = torch.zeros(first.shape[1], dtype=torch.float64, device=first.device)
    largest_row = 0.0
    step = max(_WEIGHTS_AT_A_TIME // max(first.shape[1], 1), 1)
    for start in range(0, first.shape[0], step):
        difference = (second[start : start + step].double() - first[start : start + step].double()).abs_()
        columns += difference.sum(0)
        largest_row = max(largest_row, float(difference.sum(1).max()))
    return float(columns.max()), largest_row


def _angle(base: Tensor, changed: Tensor, *, equal: bool) -> float | None:
    if not (bool(base.any()) and bool(changed.any())):
        return None
    return 0.0 if equal else angular_distance(base, changed)


def _comparable(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _tensors(model: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return named_tensors(model) if isinstance(model, nn.Module) else model


def _distinct(model: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Each tensor under its first name: a tied one is one tensor."""
    if not isinstance(model, nn.Module):
        return model
    tensors = named_tensors(model)
    first = {id(tensor): name for name, tensor in reversed(tensors.items())}
    return {name: tensor for name, tensor in tensors.items() if first[id(tensor)] == name}


def _place(role: object | None, block: int | None) -> ChangePlace:
    return ChangePlace(role=None if role is None else str(role), block=block)
