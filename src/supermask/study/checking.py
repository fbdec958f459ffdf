"""Everything that can be wrong with the inputs of a study, found before a minute of compute is spent, all together."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

from supermask.errors import ConfigurationError, SupermaskError
from supermask.methods import method_from_description
from supermask.models import MATRICES_IF_PRESENT, ParameterMap, select_parameters
from supermask.study.expansion import RunSpec
from supermask.study.run_data import load_run_data
from supermask.tasks import find_task
from supermask.training.record import BaseInfo, DataInfo

__all__ = ["CheckedInputs", "check_inputs"]

_T = TypeVar("_T")


@final
@dataclass(frozen=True)
class CheckedInputs:
    """What runs start from, seen with our own eyes.

    Args:
        bases: name of a task to the base with a head for it.
        data: name of a task to its splits.
        notes: what a reader of the scores must know, such as that a split is a part of the official one.
    """

    bases: Mapping[str, BaseInfo]
    data: Mapping[str, Mapping[str, DataInfo]]
    notes: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """The base's."""
        return next(iter(self.bases.values())).fingerprint

    def hashes(self, task: str) -> dict[str, str]:
        """Split to content hash."""
        return {split: info.content_hash for split, info in self.data[task].items()}


def check_inputs(
    runs: Sequence[RunSpec],
    *,
    base: str,
    data_dir: str | None = None,
    limit: int | None = None,
    dev_limit: int | None = None,
    work: Path | None = None,
    store: Path | None = None,
    jobs: int = 1,
) -> CheckedInputs:
    """Load the base and all data once, and try every selector and every folder.

    Args:
        runs: what is to be run.
        base: the model to start from.
        data_dir: folder with the GLUE files; None for the hub.
        limit: train on the first so many examples.
        dev_limit: score on the first so many examples.
        work: where runs will keep what they resume from.
        store: where records will go.
        jobs: runs at a time.

    Raises:
        ConfigurationError: naming all faults, one a line.
    """
    faults: list[str] = []
    tasks = list(dict.fromkeys(run.task for run in runs))
    data: dict[str, dict[str, DataInfo]] = {}
    notes: list[str] = []
    for task in tasks:
        loaded = _attempt(lambda: load_run_data(task, data_dir, limit=limit, dev_limit=dev_limit), faults)  # noqa: B023
        if loaded is not None:
            notes += loaded.notes
            data[task] = {
                split: DataInfo(
                    examples=len(examples),
                    source=examples.source,
                    content_hash=examples.content_hash,
                    official_size=loaded.task.expected_sizes.get(split),
                )
                for split, examples in loaded.splits.items()
            }
    described = _attempt(lambda: _describe_base(base, tasks), faults)
    if described is not None:
        bases, parameters = described
        faults += _selector_faults(runs, parameters)
        if work is not None:
            # A delta holds every value at most; two checkpoints hold the model and Adam's two moments each.
            needed = jobs * 4 * max(info.parameters for info in bases.values()) * 7
            faults += _space_faults(work, needed)
    if store is not None:
        faults += _folder_faults(store)
    if faults or described is None:
        there = (
            f"the data of {', '.join(data)} are there: --tasks {','.join(data)}" if 0 < len(data) < len(tasks) else ""
        )
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigurationError(
            "\n  ".join([f"{count} before anything was run:", *faults, *([there] if there else [])])
        )
    return CheckedInputs(bases, data, tuple(notes))


def _describe_base(base: str, tasks: Iterable[str]) -> tuple[dict[str, BaseInfo], ParameterMap]:
    from supermask.deltas import base_fingerprint
    from supermask.models import load_base, map_parameters

    loaded = load_base(base, num_labels=2)
    parameters = map_parameters(loaded.model)
    head = {info.name: info for info in parameters.infos if info.name in parameters.head}
    # The head's last layer has a row a class; all else is the same for every task.
    per_class = sum(info.numel // 2 for info in head.values() if info.shape[0] == 2)
    info = BaseInfo(
        name=loaded.name,
        revision=loaded.revision,
        architecture=parameters.architecture,
        fingerprint=base_fingerprint(loaded.model, head=parameters.head).digest,
        parameters=sum(info.numel for info in parameters.infos),
    )
    bases = {
        task: info.model_copy(update={"parameters": info.parameters + (find_task(task).num_labels - 2) * per_class})
        for task in tasks
    }
    return bases, parameters


def _selector_faults(runs: Sequence[RunSpec], parameters: ParameterMap) -> list[str]:
    faults: dict[str, None] = {}
    for run in runs:
        method: Any = method_from_description(run.method)
        for name in ("select", "exclude", "train"):
            selectors = getattr(method, name, ())
            if selectors:
                try:
                    select_parameters(selectors, parameters, optional=MATRICES_IF_PRESENT)
                except SupermaskError as error:
                    faults.setdefault(f"arm {run.arm}: {name}: {error}")
    return list(faults)


def _space_faults(folder: Path, needed: int) -> list[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return [f"{folder}: cannot be made: {error.strerror}; choose another place for the work (--work)"]
    if free < needed:
        return [
            f"{folder}: {free / 2**20:,.0f} MiB are free and the runs need about {needed / 2**20:,.0f} MiB; free some "
            "space, or choose another disk (--work)"
        ]
    return []


def _folder_faults(folder: Path) -> list[str]:
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        return [f"{folder}: cannot be written to: {error.strerror}; choose another folder (--results)"]
    return []


def _attempt(make: Callable[[], _T], faults: list[str]) -> _T | None:
    try:
        return make()
    except SupermaskError as error:
        faults.append(str(error))
        return None
