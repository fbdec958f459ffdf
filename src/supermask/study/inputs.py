"""What runs start from: base, data and disk, and all that can be wrong with them, found before compute is spent."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from supermask.errors import ConfigurationError, SupermaskError
from supermask.models import MATRICES_IF_PRESENT, ParameterMap, select_parameters
from supermask.settings import RunSettings
from supermask.study.expansion import RunSpec
from supermask.tasks import TaskData, find_task, load_task
from supermask.tasks.glue import GLUE_TASKS
from supermask.training.record import BaseInfo, DataInfo

__all__ = ["check_inputs", "load_run_data", "slots_of"]


def check_inputs(
    runs: Sequence[RunSpec], base: str, settings: RunSettings
) -> tuple[BaseInfo, dict[str, dict[str, DataInfo]], list[str]]:
    """Load the base and all data once, and try every selector and every folder.

    Returns:
        The base, the splits of each task, and what a reader of the scores must know, such as that a split is cut.

    Raises:
        ConfigurationError: naming all faults, one a line.
    """
    from supermask.deltas import base_fingerprint
    from supermask.models import load_base, map_parameters

    faults: list[str] = []
    tasks = list(dict.fromkeys(run.task for run in runs))
    data: dict[str, dict[str, DataInfo]] = {}
    notes: list[str] = []
    for task in tasks:
        try:
            loaded = load_run_data(task, settings.data_dir, limit=settings.limit, dev_limit=settings.dev_limit)
        except SupermaskError as error:
            faults.append(str(error))
            continue
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
    try:
        loaded_base = load_base(base, num_labels=2)
        parameters = map_parameters(loaded_base.model)
        info = BaseInfo(
            name=loaded_base.name,
            revision=loaded_base.revision,
            architecture=parameters.architecture,
            fingerprint=base_fingerprint(loaded_base.model, head=parameters.head).digest,
            parameters=sum(info.numel for info in parameters.infos),
        )
    except SupermaskError as error:
        faults.append(str(error))
    else:
        faults += _selector_faults(runs, parameters)
        # A delta holds every value at most; two checkpoints hold the model and Adam's two moments each.
        needed = len(slots_of(settings)) * 4 * info.parameters * 7
        faults += _folder_faults(settings.work_folder, "--work", needed)
    faults += _folder_faults(settings.results, "--results")
    if faults:
        title = f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
        if 0 < len(data) < len(tasks):
            faults.append(f"the data of {', '.join(data)} are there: --tasks {','.join(data)}")
        raise ConfigurationError("\n  ".join([f"{title} before anything was run:", *faults]))
    return info, data, notes


def load_run_data(
    task: str, data_dir: str | None = None, *, limit: int | None = None, dev_limit: int | None = None
) -> TaskData:
    """Load what a run of a study reads, and nothing else.

    Args:
        task: name of the task.
        data_dir: folder with the GLUE files; None for the hub. Probes are generated and need none.
        limit, dev_limit: train, and score each split, on the first so many examples; a split that was cut says so in
            its source.

    Example:
        >>> data = load_run_data("probe-sentiment", limit=100)
        >>> len(data.train), data.train.source.endswith("first 100 of 1536")
        (100, True)
    """
    known = find_task(task)
    data = load_task(
        known.name, data_dir if known in GLUE_TASKS else None, splits=(known.train_split, *known.report_splits)
    )
    for split, most in ((known.train_split, limit), *((split, dev_limit) for split in known.report_splits)):
        whole = data[split]
        if most is not None and most < len(whole):
            source = f"{whole.source}, first {most} of {len(whole)}"
            data = data.with_split(split, dataclasses.replace(whole.take(most), source=source))
    return data


def slots_of(settings: RunSettings) -> tuple[str | None, ...]:
    """What each run at a time of this machine has for its CUDA_VISIBLE_DEVICES; None leaves that as it is."""
    devices = settings.devices.replace(",", " ").split() or ([] if settings.use_cpu else _cuda_devices())
    if settings.launch or settings.ray or not devices:
        return (None,) * (settings.jobs or 1)
    return tuple(devices[index % len(devices)] for index in range(settings.jobs or len(devices)))


def _cuda_devices() -> list[str]:
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip()] if torch.cuda.is_available() else []
    return [str(index) for index in range(torch.cuda.device_count())]


def _selector_faults(runs: Sequence[RunSpec], parameters: ParameterMap) -> list[str]:
    faults: dict[str, None] = {}
    for run in runs:
        for name in ("select", "exclude", "train"):
            if selectors := run.method.get(name):
                try:
                    select_parameters(selectors, parameters, optional=MATRICES_IF_PRESENT)
                except SupermaskError as error:
                    faults[f"arm {run.arm}: {name}: {error}"] = None
    return list(faults)


def _folder_faults(folder: Path, option: str, needed: int = 0) -> list[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return [f"{folder}: cannot be written to: {error.strerror}; choose another folder ({option})"]
    if free < needed:
        return [
            f"{folder}: {free / 2**20:,.0f} MiB are free and the runs need about {needed / 2**20:,.0f} MiB; free some "
            f"space, or choose another disk ({option})"
        ]
    return []
