"""Two saved models compared, tensor by tensor off the disk: what moved, how far, and what became zero."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

from supermask.analysis.distances import TensorDistance, tensor_distance
from supermask.errors import BaseMismatchError
from supermask.models.checkpoint import BackboneNames, Checkpoint, backbone_names, model_type
from supermask.models.roles import Role

__all__ = ["CheckpointComparison", "compare_checkpoints"]

_NAMED_IN_ERRORS = 3
_FLOATING = ("float", "bfloat", "f8")
_IN_A_BLOCK = re.compile(r"(?:^|\.)(\d+)\.")


@final
@dataclass(frozen=True, kw_only=True)
class CheckpointComparison:
    """What two checkpoints have in common and how far it is apart.

    Args:
        tensors: distances of the backbone's tensors, in model order, under the backbone's own names.
        heads: distances of tensors outside the backbone that both have in one shape, such as a language model's head.
        base_heads, other_heads: tensors outside the backbone that only one of them has, or in another shape.
        only_base, only_other: tensors of the backbone that only one of them has, such as a pooler.
        resized: word embeddings with another number of rows, compared on the rows that both have.
        not_compared: tensors of whole numbers that are no buffers, as quantised checkpoints have them.
        base_dtypes, other_dtypes: of the compared tensors. They are compared as stored, narrower ones widened, which is
            exact: where dtypes differ, rounding to the narrower one counts as change.
        names: what the tensors are; None if the architecture is not known, and then tensors have no roles, and heads
            cannot be told from the backbone but by their shape or name.
    """

    tensors: tuple[TensorDistance, ...]
    heads: tuple[TensorDistance, ...]
    base_heads: tuple[str, ...]
    other_heads: tuple[str, ...]
    only_base: tuple[str, ...]
    only_other: tuple[str, ...]
    resized: tuple[str, ...]
    not_compared: tuple[str, ...]
    base_dtypes: tuple[str, ...]
    other_dtypes: tuple[str, ...]
    names: BackboneNames | None


@final
@dataclass(frozen=True)
class _Side:
    """One checkpoint sorted out: its name of each tensor of the backbone, and of what is outside."""

    checkpoint: Checkpoint
    backbone: Mapping[str, str]
    outside: tuple[str, ...]
    whole_numbers: tuple[str, ...]

    def shape(self, name: str) -> tuple[int, ...]:
        return self.checkpoint.shapes[self.backbone.get(name, name)]


def compare_checkpoints(base: Checkpoint, other: Checkpoint) -> CheckpointComparison:
    """Compare two saved models of one architecture.

    Names are matched whatever head the models were saved with, tied weights under any of their names, shards or no. At
    any time one tensor of each checkpoint is in memory.

    Args:
        base: the model before, as `supermask.models.checkpoint.open_checkpoint` gives it.
        other: the model after.

    Returns:
        Distances and what could not be compared.

    Raises:
        BaseMismatchError: if they are of two architectures or sizes, share too little, or a file is damaged.
        MissingDependencyError: if transformers is not installed.
    """
    names = _names_of_both(base, other)
    ours, theirs = _sort_out(base, names), _sort_out(other, names)
    common, resized = _common(ours, theirs, names)
    outside = {name for name in ours.outside if name in theirs.outside and ours.shape(name) == theirs.shape(name)}
    return CheckpointComparison(
        tensors=tuple(_distances(ours, theirs, names, common)),
        heads=tuple(_distances(ours, theirs, None, [name for name in ours.outside if name in outside])),
        base_heads=_rest(ours, names, outside | set(common)),
        other_heads=_rest(theirs, names, outside | set(common)),
        only_base=tuple(name for name in ours.backbone if name not in theirs.backbone) if names else (),
        only_other=tuple(name for name in theirs.backbone if name not in ours.backbone) if names else (),
        resized=resized,
        not_compared=tuple(dict.fromkeys((*ours.whole_numbers, *theirs.whole_numbers))),
        base_dtypes=_dtypes(ours, common),
        other_dtypes=_dtypes(theirs, common),
        names=names,
    )


def _names_of_both(base: Checkpoint, other: Checkpoint) -> BackboneNames | None:
    kinds = [model_type(one.config) if one.config is not None else None for one in (base, other)]
    if None not in kinds and kinds[0] != kinds[1]:
        raise BaseMismatchError(
            f"{base.name} is a model of type {kinds[0]} and {other.name} of type {kinds[1]}; compare models of one "
            "architecture"
        )
    config = next((one.config for one in (base, other) if one.config is not None), None)
    return backbone_names(config) if config is not None else None


def _sort_out(checkpoint: Checkpoint, names: BackboneNames | None) -> _Side:
    backbone: dict[str, str] = {}
    outside, whole_numbers = [], []
    for name in checkpoint:
        if names is not None and names.is_buffer(name):
            continue
        if not checkpoint.dtypes[name].startswith(_FLOATING):
            whole_numbers.append(name)
            continue
        canonical = name if names is None else names.canonical(name)
        if canonical is None:
            outside.append(name)
        else:
            backbone.setdefault(canonical, name)
    if names is not None:
        backbone = {info.name: backbone[info.name] for info in names.parameters.infos if info.name in backbone}
    return _Side(checkpoint, backbone, tuple(outside), tuple(whole_numbers))


def _common(ours: _Side, theirs: _Side, names: BackboneNames | None) -> tuple[list[str], tuple[str, ...]]:
    """The tensors of the backbone to compare, and which of them have rows that the other lacks."""
    both = [name for name in ours.backbone if name in theirs.backbone]
    unlike = [name for name in both if ours.shape(name) != theirs.shape(name)]
    embedding = {info.name for info in names.parameters.infos if info.role is Role.WORD_EMBEDDING} if names else set()
    resized = tuple(name for name in unlike if name in embedding and ours.shape(name)[1:] == theirs.shape(name)[1:])
    faults = [name for name in unlike if name not in resized] if names else []
    first, second = ours.checkpoint.name, theirs.checkpoint.name
    if faults:
        listed = "; ".join(f"{name} {ours.shape(name)} and {theirs.shape(name)}" for name in faults[:_NAMED_IN_ERRORS])
        more = f" and {len(faults) - _NAMED_IN_ERRORS} more" if len(faults) > _NAMED_IN_ERRORS else ""
        raise BaseMismatchError(
            f"{first} and {second} are models of other sizes: {listed}{more}; compare a model with what was made of it"
        )
    common = [name for name in both if name not in unlike or name in resized]
    smaller = min(len(ours.backbone), len(theirs.backbone))
    if 2 * len(common) < smaller or not common:
        example = f"{next(iter(ours.checkpoint))} and {next(iter(theirs.checkpoint))}"
        remedy = "compare models of one architecture" if names else "pass folders with their config.json"
        raise BaseMismatchError(
            f"{first} and {second} have {len(common)} of {smaller} tensors in common (their first: {example}); {remedy}"
        )
    return common, resized


def _distances(ours: _Side, theirs: _Side, names: BackboneNames | None, which: list[str]) -> Iterator[TensorDistance]:
    known = {info.name: info for info in names.parameters.infos} if names is not None else {}
    for name in which:
        first, second = (side.checkpoint[side.backbone.get(name, name)] for side in (ours, theirs))
        rows = min(first.shape[0], second.shape[0]) if first.ndim else 0
        if first.shape != second.shape:
            first, second = first[:rows], second[:rows]
        info = known.get(name)
        role = str(info.role) if info is not None and info.role is not None else None
        yield tensor_distance(first, second, name=name, role=role, block=info.block if info else _numbered(name))


def _numbered(name: str) -> int | None:
    """The block that a name speaks of, where the architecture is not known: its first number."""
    found = _IN_A_BLOCK.search(name)
    return int(found[1]) if found else None


def _rest(side: _Side, names: BackboneNames | None, compared: set[str]) -> tuple[str, ...]:
    """What stands outside the backbone, or has no counterpart where nobody knows what the backbone is."""
    return tuple(name for name in (side.outside if names else side.backbone) if name not in compared)


def _dtypes(side: _Side, names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(side.checkpoint.dtypes[side.backbone[name]] for name in names))
