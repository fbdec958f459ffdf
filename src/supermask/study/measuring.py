"""What a delta does to its base: distances, zeros, magnitudes, overlap, measured once and kept beside the record."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from torch import Tensor, nn

from supermask.analysis import (
    MagnitudePruning,
    Magnitudes,
    change_distance,
    compare_with_magnitude_pruning,
    delta_overlap,
    magnitudes,
)
from supermask.atomic import write_atomically
from supermask.deltas import ChangeRecord, DenseValues, TaskDelta, named_tensors
from supermask.deltas.fingerprint import require_base
from supermask.errors import BaseMismatchError, ConfigurationError, DataError, SupermaskError
from supermask.methods import method_from_description
from supermask.study.measures import PairMeasures, PairTensor, RunMeasures, TensorMeasures
from supermask.study.records import (
    KeepDeltas,
    RecordStore,
    StoredRecord,
    delta_path,
    keeps_delta,
    measures_path,
    pair_path,
)
from supermask.training import TrainingConfig
from supermask.training.provenance import current_environment

__all__ = ["Measured", "load_base_model", "measure_pair", "measure_run", "measure_store", "pairs_to_measure"]


@final
@dataclass(frozen=True)
class Measured:
    """What was measured: paths of records and of pairs' measures, relative to the store; and what could not be."""

    runs: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def measure_run(base: nn.Module | Mapping[str, Tensor], delta: TaskDelta, *, verify: bool = True) -> RunMeasures:
    """Measure what a delta does to its base; floats to 9 significant digits.

    The masks of all tensors are held together, one byte a masked weight, to rank magnitudes over all of them.

    Args:
        base: the delta's base with nothing on it, or its tensors by name. Its head may be of any shape.
        delta: of any method.
        verify: check the base's fingerprint first. Pass False only for a base that was checked for another delta of it.

    Raises:
        BaseMismatchError: if the base is another one.

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
        zeroed = magnitudes([])
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
                zeros=zeroed.weights if record.name in keep_masks else None,
                l1=_rounded(distance.l1),
                largest_column_sum=_rounded(distance.largest_column_sum),
                largest_row_sum=_rounded(distance.largest_row_sum),
                angular=_rounded(distance.angular),
                zeroed_max=_rounded(zeroed.max) if zeroed.weights else None,
                zeroed_mean=_rounded(zeroed.mean) if zeroed.weights else None,
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
    """Count the zeros that the masks of two deltas of one base share; `PairMeasures` says what chance would give.

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
                expected_given_rows_and_columns=_rounded(tensor.count.expected_given_rows_and_columns),
                **{name: getattr(tensor.count, name) for name in ("weights", "first_zeros", "second_zeros", "shared")},
            )
            for tensor in overlap.tensors
        ),
    )


def load_base_model(name: str) -> nn.Module:
    """The model of a base; the size of its head plays no part."""
    from supermask.models import load_base

    model: nn.Module = load_base(name, num_labels=2).model
    return model


def measure_store(
    store: RecordStore,
    base: Callable[[str], nn.Module] = load_base_model,
    *,
    deltas: Iterable[Path] = (),
    keep_deltas: KeepDeltas = "masks",
    again: bool = False,
    compare: Iterable[StoredRecord] = (),
) -> Measured:
    """Measure deltas that are given, those that lie beside their records, and pairs of these.

    Args:
        store: the records.
        base: from the name of a base to its model; called once a name, and only if there is something to measure.
        deltas: folders or files of deltas; each is matched with its record by what both say of the run.
        keep_deltas, again: which of these are copied beside their records, and whether they are measured a second time.
        compare: records whose masks are to be compared, if that was not done before; see `pairs_to_measure`.
    """
    model = functools.cache(base)
    runs, compared, faults = list[str](), list[str](), list[str]()

    @contextmanager
    def attempt(what: object) -> Iterator[None]:
        try:
            yield
        except SupermaskError as error:
            faults.append(f"{what}: {error}")

    def measure(stored: StoredRecord, delta: TaskDelta) -> None:
        found = measure_run(model(stored.record.inputs.base.name or ""), delta)
        found.save(measures_path(store.folder / stored.path))
        runs.append(stored.path)

    for path in deltas:
        with attempt(path):
            delta = TaskDelta.load(path)
            stored = _record_of(store, delta)
            place = store.folder / stored.path
            if again or not measures_path(place).exists():
                measure(stored, delta)
            if keeps_delta(keep_deltas, stored.method) and not delta_path(place).exists():
                copy_delta(path, place)
    for stored in store.records:
        place = store.folder / stored.path
        if delta_path(place).exists() and not measures_path(place).exists():
            with attempt(stored.path):
                measure(stored, TaskDelta.load(delta_path(place)))
    for pair in pairs_to_measure(compare):
        beside = [delta_path(store.folder / stored.path) for stored in pair]
        name = pair_path(pair[0].path, pair[1].path)
        if all(path.exists() for path in beside) and not (store.folder / name).exists():
            with attempt(f"{pair[0].path} with {pair[1].path}"):
                first, second = (TaskDelta.load(path) for path in beside)
                labels = [stored.path.removesuffix(".json") for stored in pair]
                both = model(pair[0].record.inputs.base.name or "")
                found = measure_pair(both, first, second, first_label=labels[0], second_label=labels[1])
                found.save(store.folder / name)
                compared.append(name)
    return Measured(tuple(runs), tuple(compared), tuple(faults))


def pairs_to_measure(stored: Iterable[StoredRecord]) -> list[tuple[StoredRecord, StoredRecord]]:
    """Records of runs whose masks are worth comparing: of one method, seed and base, the tasks with each other."""
    groups: dict[str, dict[str, StoredRecord]] = {}
    for one in stored:
        inputs = one.record.inputs
        name = json.dumps([inputs.base.fingerprint, inputs.method, inputs.config.seed], sort_keys=True)
        groups.setdefault(name, {})[inputs.task] = one
    ordered = (sorted(group.values(), key=lambda stored: stored.path) for group in groups.values())
    return [pair for group in ordered for pair in itertools.combinations(group, 2)]


def copy_delta(source: Path, record: Path) -> None:
    """Copy the file of a delta beside a record, whole or not at all."""
    write_atomically(delta_path(record), (source / "delta.safetensors" if source.is_dir() else source).read_bytes())


def _record_of(store: RecordStore, delta: TaskDelta) -> StoredRecord:
    """The record that says the same of its run as a delta does."""
    # Settings of today that the delta does not know of have their defaults.
    method = method_from_description(delta.method.describe()).describe() if delta.method.kind else None
    wanted = (
        delta.task.name,
        delta.base.digest,
        method,
        TrainingConfig(**delta.training.config),
        delta.training.scores,
    )
    found = []
    for stored in store.records:
        inputs = stored.record.inputs
        said = (inputs.task, inputs.base.fingerprint, stored.method, inputs.config, stored.record.scores)
        if stored.record.status == "completed" and said == wanted:
            found.append(stored)
    if len(found) != 1:
        how_many = "none of" if not found else f"{len(found)} of"
        raise DataError(
            f"{how_many} the {len(store.records)} records in {store.folder} say the same of the run as this delta; "
            "give the deltas of these runs, and one results folder"
        )
    return found[0]


def _base_tensors(base: nn.Module | Mapping[str, Tensor], delta: TaskDelta, *, verify: bool) -> Mapping[str, Tensor]:
    tensors = named_tensors(base) if isinstance(base, nn.Module) else base
    if missing := [record.name for record in _without_head(delta) if record.name not in tensors]:
        raise BaseMismatchError(f"the base has no tensor {missing[0]}, which the delta changes; pass the delta's base")
    if verify:
        require_base(tensors, delta.base)
    return tensors


def _without_head(delta: TaskDelta) -> list[ChangeRecord]:
    return [record for record in delta.document.changes if record.name not in delta.head]


def _provenance(delta: TaskDelta) -> dict[str, str]:
    environment = current_environment()
    return {"base": delta.base.digest, "supermask": environment.supermask, "source": environment.source}


def _rounded(value: Any) -> Any:
    return None if value is None else float(f"{value:.9g}")


def _shortened(found: Magnitudes) -> Magnitudes:
    return found.model_copy(update={"max": _rounded(found.max), "mean": _rounded(found.mean)})
