"""Measures of what is recorded already: of deltas that lie beside their records, or that are given."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from supermask.deltas import TaskDelta
from supermask.errors import DataError, SupermaskError
from supermask.methods import method_from_description
from supermask.study.measures import measure_pair, measure_run
from supermask.study.planning import KeepDeltas, masks_alone
from supermask.study.records import RecordStore, StoredRecord, delta_path, measures_path, pair_path

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Measured", "copy_file", "measure_deltas", "measure_store", "pairs_to_measure"]


@final
@dataclass(frozen=True)
class Measured:
    """What was measured.

    Args:
        runs: paths of the records, relative to the store.
        pairs: paths of the pairs' measures, relative to the store.
        faults: what could not be measured, and why.
    """

    runs: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def measure_store(
    store: RecordStore, base: Callable[[str], nn.Module], *, pairs_of: Iterable[Sequence[StoredRecord]] = ()
) -> Measured:
    """Measure what has a delta beside it and no measures yet, and pairs that have not been compared.

    Args:
        store: the records.
        base: from the name of a base to its model; called once a base, and only if there is something to measure.
        pairs_of: groups of records whose masks are to be compared, each with each; see `pairs_to_measure`.
    """
    due = [stored for stored in store.records if store.delta_path(stored.path) and not _is_measured(store, stored)]
    pairs = [
        (first, second)
        for group in pairs_of
        for first, second in itertools.combinations(sorted(group, key=lambda stored: stored.path), 2)
        if store.delta_path(first.path) and store.delta_path(second.path)
        if not (store.folder / pair_path(first.path, second.path)).exists()
    ]
    models: dict[str, nn.Module] = {}

    def model_of(stored: StoredRecord) -> nn.Module:
        info = stored.record.inputs.base
        if info.fingerprint not in models:
            models[info.fingerprint] = base(info.name or "")
        return models[info.fingerprint]

    runs, compared, faults = [], [], []
    for stored in due:
        try:
            measure_run(model_of(stored), _delta_beside(store, stored)).save(measures_path(store.folder / stored.path))
            runs.append(stored.path)
        except SupermaskError as error:
            faults.append(f"{stored.path}: {error}")
    for first, second in pairs:
        try:
            measures = measure_pair(
                model_of(first),
                _delta_beside(store, first),
                _delta_beside(store, second),
                first_label=first.path.removesuffix(".json"),
                second_label=second.path.removesuffix(".json"),
            )
            name = pair_path(first.path, second.path)
            measures.save(store.folder / name)
            compared.append(name)
        except SupermaskError as error:
            faults.append(f"{first.path} with {second.path}: {error}")
    return Measured(tuple(runs), tuple(compared), tuple(faults))


def measure_deltas(
    store: RecordStore,
    deltas: Iterable[Path],
    base: Callable[[str], nn.Module],
    *,
    keep_deltas: KeepDeltas = "masks",
    again: bool = False,
) -> Measured:
    """Measure deltas that were kept elsewhere, each for the record that it belongs to.

    Args:
        store: the records.
        deltas: folders or files of deltas; each is matched with its record by what both say of the run.
        base: from the name of a base to its model.
        keep_deltas: which of them are copied beside their records.
        again: measure also what is measured already.
    """
    models: dict[str, nn.Module] = {}
    runs, faults = [], []
    for path in deltas:
        try:
            delta = TaskDelta.load(path)
            stored = _record_of(store, delta, path)
            place = store.folder / stored.path
            if again or not _is_measured(store, stored):
                info = stored.record.inputs.base
                if info.fingerprint not in models:
                    models[info.fingerprint] = base(info.name or "")
                measure_run(models[info.fingerprint], delta).save(measures_path(place))
                runs.append(stored.path)
            if keep_deltas == "all" or (keep_deltas == "masks" and masks_alone(stored.record.inputs.method)):
                source = path / "delta.safetensors" if path.is_dir() else path
                if not delta_path(place).exists():
                    copy_file(source, delta_path(place))
        except SupermaskError as error:
            faults.append(f"{path}: {error}")
    return Measured(tuple(runs), (), tuple(faults))


def pairs_to_measure(stored: Iterable[StoredRecord]) -> list[list[StoredRecord]]:
    """Records whose masks are worth comparing: of one method and base, the tasks with each other, seed by seed.

    Args:
        stored: records of runs that learnt masks.
    """
    groups: dict[str, dict[str, StoredRecord]] = {}
    for one in stored:
        inputs = one.record.inputs
        name = json.dumps([inputs.base.fingerprint, inputs.method, inputs.config.seed], sort_keys=True)
        groups.setdefault(name, {})[inputs.task] = one
    return [list(group.values()) for group in groups.values() if len(group) > 1]


def copy_file(source: Path, target: Path) -> None:
    """Copy a file so that it appears whole or not at all.

    Raises:
        DataError: if it cannot be copied.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, partial)
        partial.replace(target)
    except OSError as error:
        raise DataError(f"{source}: cannot be copied to {target}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _record_of(store: RecordStore, delta: TaskDelta, path: Path) -> StoredRecord:
    method = method_from_description(delta.method.describe()).describe() if delta.method.kind else None
    found = [
        stored
        for stored in store.records
        if stored.record.status == "completed"
        and stored.record.inputs.task == delta.task.name
        and stored.record.inputs.base.fingerprint == delta.base.digest
        and stored.method == method
        and stored.record.inputs.config.model_dump(mode="json") == _config(delta.training.config)
        and stored.record.scores == delta.training.scores
    ]
    if len(found) != 1:
        how_many = "none of" if not found else f"{len(found)} of"
        raise DataError(
            f"{how_many} the {len(store.records)} records in {store.folder} say the same of the run as this delta; "
            "give the deltas of these runs, and one results folder"
        )
    return found[0]


def _config(stored: Any) -> Any:
    """The settings that a delta names, with settings of today that it does not know of at their defaults."""
    from supermask.training import TrainingConfig

    try:
        return TrainingConfig(**stored).model_dump(mode="json")
    except (SupermaskError, TypeError):
        return None


def _is_measured(store: RecordStore, stored: StoredRecord) -> bool:
    return measures_path(store.folder / stored.path).exists()


def _delta_beside(store: RecordStore, stored: StoredRecord) -> TaskDelta:
    return TaskDelta.load(delta_path(store.folder / stored.path))
