"""What a run's delta does to its base, measured once and kept beside the record: distances, zeros, magnitudes, overlap.

A delta of full fine-tuning is as large as its base and is not kept; these files are a few kilobytes and are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from supermask.analysis import (
    MagnitudePruning,
    Magnitudes,
    change_distance,
    compare_with_magnitude_pruning,
    delta_overlap,
    magnitudes,
)
from supermask.deltas import ChangeRecord, DenseValues, TaskDelta, named_tensors
from supermask.deltas.listing import misfits, require_base_tensors
from supermask.errors import BaseMismatchError, ConfigurationError
from supermask.study.measure_records import PairMeasures, PairTensor, RunMeasures, TensorMeasures
from supermask.training.provenance import current_environment

__all__ = [
    "MagnitudePruning",
    "Magnitudes",
    "PairMeasures",
    "PairTensor",
    "RunMeasures",
    "TensorMeasures",
    "measure_pair",
    "measure_run",
]

_SIGNIFICANT_DIGITS = 9


def measure_run(base: nn.Module | Mapping[str, Tensor], delta: TaskDelta, *, verify: bool = True) -> RunMeasures:
    """Measure what a delta does to its base.

    Each change is decoded once; the masks of all tensors are held together, one byte a masked weight, to rank
    magnitudes over all of them.

    Args:
        base: the delta's base with nothing on it, or its tensors by name. Its head may be of any shape.
        delta: of any method.
        verify: check the base's fingerprint first. Pass False only for a base that was checked for another delta of it.

    Returns:
        The measures; floats to 9 significant digits.

    Raises:
        BaseMismatchError: if the base is another one.
        DeltaFormatError: if a payload does not code what the document says.

    Example:
        >>> import torch
        >>> from supermask.deltas import KeepMask, base_fingerprint
        >>> base = nn.Linear(2, 2, bias=False)
        >>> with torch.no_grad():
        ...     _ = base.weight.copy_(torch.tensor([[0.1, 0.2], [0.3, 0.4]]))
        >>> mask = KeepMask(torch.tensor([[True, False], [False, True]]))
        >>> measures = measure_run(base, TaskDelta.create({"weight": mask}, base=base_fingerprint(base)))
        >>> measures.sparsity, measures.zeroed.max, measures.against_magnitude("global").overlap
        (0.5, 0.300000012, 0.5)
    """
    tensors = _base_tensors(base, delta, verify=verify)
    changes = delta.changes_for(tensors)
    measured: list[TensorMeasures] = []
    keep_masks: dict[str, Tensor] = {}
    dropped: dict[str, Tensor] = {}
    for record in _without_head(delta):
        weight, change = tensors[record.name].detach().cpu(), changes[record.name]
        zeroed = None
        if not isinstance(change, DenseValues):
            keep_masks[record.name] = change.keep
            dropped[record.name] = weight[change.keep.logical_not()]
            zeroed = magnitudes([dropped[record.name]])
        distance = change_distance(weight, change, name=record.name)
        measured.append(
            TensorMeasures(
                name=record.name,
                role=record.role,
                block=record.block,
                shape=record.shape,
                changed=distance.changed,
                zeros=None if zeroed is None else zeroed.weights,
                l1=_rounded(distance.l1),
                largest_column_sum=_rounded(distance.largest_column_sum),
                largest_row_sum=_rounded(distance.largest_row_sum),
                angular=_rounded(distance.angular),
                zeroed_max=_rounded(zeroed.max) if zeroed is not None and zeroed.weights else None,
                zeroed_mean=_rounded(zeroed.mean) if zeroed is not None and zeroed.weights else None,
            )
        )
    masked = {name: tensors[name].detach().cpu() for name in keep_masks}
    scopes: tuple[Literal["global", "tensor"], ...] = ("global", "tensor") if masked else ()
    return RunMeasures(
        task=delta.task.name,
        method=delta.method.describe(),
        seed=delta.training.seed,
        delta=delta.digest,
        base_name=delta.document.base.name,
        **_provenance(delta),
        tensors=tuple(measured),
        zeroed=_shortened(magnitudes(dropped.values())) if masked else None,
        masked=_shortened(magnitudes(masked.values())) if masked else None,
        magnitude_pruning=tuple(
            MagnitudePruning(scope=scope, pruned=_shortened(found.pruned), shared=found.shared)
            for scope in scopes
            for found in [compare_with_magnitude_pruning(masked, keep_masks, scope=scope)]
        ),
    )


def measure_pair(
    base: nn.Module | Mapping[str, Tensor],
    first: TaskDelta,
    second: TaskDelta,
    *,
    first_label: str,
    second_label: str,
) -> PairMeasures:
    """Count the zeros that two deltas' masks share.

    Args:
        base: of both, with nothing on it, or its tensors by name.
        first: a delta.
        second: another one.
        first_label, second_label: what to call them, `task/label`.

    Returns:
        The counts of the tensors that both mask; `PairMeasures` says what chance would give and how surprising they
        are.

    Raises:
        BaseMismatchError: if the deltas have different bases, or the base given is not theirs.
        ConfigurationError: if there is no tensor that both mask.
    """
    overlap = delta_overlap(first, second, base=base)
    if not overlap.tensors:
        raise ConfigurationError(
            f"there is no tensor that both {first_label} and {second_label} mask, so they can share no zeros; compare "
            "deltas of supermasks or of pruning"
        )
    return PairMeasures(
        first=first_label,
        second=second_label,
        first_delta=first.digest,
        second_delta=second.digest,
        **_provenance(first),
        tensors=tuple(
            PairTensor(
                name=tensor.name,
                role=tensor.role,
                block=tensor.block,
                weights=tensor.count.weights,
                first_zeros=tensor.count.first_zeros,
                second_zeros=tensor.count.second_zeros,
                shared=tensor.count.shared,
                expected_given_rows_and_columns=_rounded(tensor.count.expected_given_rows_and_columns),
            )
            for tensor in overlap.tensors
        ),
    )


def _base_tensors(base: nn.Module | Mapping[str, Tensor], delta: TaskDelta, *, verify: bool) -> Mapping[str, Tensor]:
    tensors = named_tensors(base) if isinstance(base, nn.Module) else base
    if missing := [record.name for record in _without_head(delta) if record.name not in tensors]:
        raise BaseMismatchError(f"the base has no tensor {missing[0]}, which the delta changes; pass the delta's base")
    for name, what in misfits(delta.document, tensors).items():
        raise BaseMismatchError(f"{name}: the delta {what}")
    if verify:
        require_base_tensors(tensors, delta.document)
    return tensors


def _without_head(delta: TaskDelta) -> list[ChangeRecord]:
    return [record for record in delta.document.changes if record.name not in delta.head]


def _provenance(delta: TaskDelta) -> dict[str, str]:
    environment = current_environment()
    return {"base": delta.base.digest, "supermask": environment.supermask, "source": environment.source}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _rounded(value: Any) -> Any:
    return None if value is None else float(f"{value:.{_SIGNIFICANT_DIGITS}g}")


def _shortened(found: Magnitudes) -> Magnitudes:
    return found.model_copy(update={"max": _rounded(found.max), "mean": _rounded(found.mean)})
