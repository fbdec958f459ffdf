"""What stands on the two sides of `supermask compare`: checkpoints, or deltas of one base."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from supermask.analysis import DeltaOverlap, TensorDistance, delta_distances, delta_overlap
from supermask.analysis.checkpoints import CheckpointComparison, compare_checkpoints
from supermask.cli.stored import delta_path
from supermask.deltas import TaskDelta
from supermask.hub import parse_address
from supermask.models.checkpoint import open_checkpoint
from supermask.prediction import stored_base

__all__ = ["ComparedDelta", "ComparedDeltas", "compared_checkpoints", "compared_deltas", "is_delta"]


@final
@dataclass(frozen=True, kw_only=True)
class ComparedDelta:
    """One delta and how far it moves its base.

    Args:
        label: as it was given.
        delta: as loaded.
        distances: from the base, of the tensors that it changes but for the head.
    """

    label: str
    delta: TaskDelta
    distances: tuple[TensorDistance, ...]


@final
@dataclass(frozen=True, kw_only=True)
class ComparedDeltas:
    """One or two deltas of one base.

    Args:
        base: its name or place.
        deltas: one or two.
        overlap: what two of them share; None for one.
    """

    base: str
    deltas: tuple[ComparedDelta, ...]
    overlap: DeltaOverlap | None


def is_delta(given: str) -> bool:
    """Whether an argument is a delta; otherwise it is taken for a model.

    On this machine the files tell. On the hub, `OWNER/NAME` is a model, and a delta is named with its revision or with
    `hf://` before it.
    """
    path = Path(os.path.expanduser(given))  # noqa: PTH111 (Path.expanduser raises for an unknown user)
    if path.is_dir():
        return any((folder / "delta.safetensors").is_file() for folder in (path, path / "delta"))
    if path.is_file():
        return _holds_a_delta(path)
    return ("@" in given or given.startswith("hf://")) and parse_address(given) is not None


def compared_checkpoints(
    base: str, revision: str | None, finetuned: str, finetuned_revision: str | None
) -> CheckpointComparison:
    """Compare two checkpoints.

    Raises:
        SupermaskError: of the kind that fits.
    """
    return compare_checkpoints(
        open_checkpoint(base, revision=revision), open_checkpoint(finetuned, revision=finetuned_revision)
    )


def compared_deltas(
    given: Sequence[str], base: str | None, revision: str | None, allow_new: Sequence[str] | None
) -> ComparedDeltas:
    """Load one or two deltas and their base, and measure them.

    Args:
        given: where the deltas are.
        base: where their base is, if not where the first delta says.
        revision: of a base on the hub.
        allow_new: tensors that may be drawn at random, as when the deltas were learnt.

    Raises:
        SupermaskError: of the kind that fits.
    """
    loaded = [TaskDelta.load(delta_path(place)) for place in given]
    model = stored_base(loaded[0].document, base, revision, allow_new).model
    # The overlap checks that both have this base; alone, a delta's own check does.
    overlap = delta_overlap(loaded[0], loaded[1], base=model) if len(loaded) == 2 else None
    return ComparedDeltas(
        base=base or loaded[0].document.base.name or "the base",
        deltas=tuple(
            ComparedDelta(label=place, delta=delta, distances=delta_distances(model, delta, verify=overlap is None))
            for place, delta in zip(given, loaded, strict=True)
        ),
        overlap=overlap,
    )


def _holds_a_delta(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    from supermask.deltas.document import FORMAT_NAME

    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT_NAME
    except (SafetensorError, OSError):
        return False
