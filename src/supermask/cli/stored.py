"""What a stored delta says it belongs to: its file, its task and its base, made ready for a verb."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from supermask.cli.options import DEFAULT_LABEL, DEFAULT_TEXT
from supermask.deltas import DeltaDocument
from supermask.errors import ConfigurationError, UnknownNameError
from supermask.hub import resolve_delta
from supermask.models import Base, load_base
from supermask.tasks import Examples, Task, TaskData, find_task, load_files, load_task, load_texts

__all__ = ["delta_path", "file_data", "file_texts", "known_data", "known_task", "stored_base", "stored_task"]


def delta_path(given: str) -> Path:
    """The delta's own folder or file, where the folder of a run or a place on the hub may be given instead.

    Raises:
        SupermaskError: if there is none, or it cannot be fetched from the hub.
    """
    folder = Path(given)
    inside = folder / "delta"
    if inside.is_dir() and not (folder / "delta.safetensors").exists():
        return inside
    return resolve_delta(given)


def stored_task(document: DeltaDocument) -> Task:
    """The task that a delta was learnt on, as it says itself.

    Raises:
        ConfigurationError: if it does not say.
    """
    stored = document.task
    missing = [name for name in ("name", "kind", "metrics") if not getattr(stored, name)]
    if missing:
        raise ConfigurationError(
            f"the delta does not say its task's {', '.join(missing)}; use it from Python, where the task can be given"
        )
    return Task(
        name=str(stored.name),
        kind=cast(Any, stored.kind),  # Task refuses what it does not know
        label_names=stored.label_names,
        metrics=stored.metrics,
        paired=bool(stored.paired),
        test_splits=("test",),
    )


def stored_base(
    document: DeltaDocument, base: str | None, revision: str | None, allow_new: Sequence[str] | None
) -> Base:
    """Load the base of a delta, with a head of the size that the delta brings.

    Args:
        document: what the delta says about itself.
        base: where the base is, if not where the delta says.
        revision: of a base on the hub.
        allow_new: tensors that may be drawn at random, as when the delta was learnt.

    Raises:
        SupermaskError: of the kind that fits; a base that is not found names the option that says where it is.
    """
    task = stored_task(document)
    name = base or document.base.name
    if name is None:
        raise ConfigurationError("the delta does not name its base; say where it is with --base")
    try:
        return load_base(
            name,
            num_labels=task.num_labels,
            regression=task.regression,
            revision=revision if base is not None or revision is not None else document.base.revision,
            seed=document.training.seed or 0,  # what allow_new lets be drawn must be drawn as it was
            dtype=document.base.dtype,
            allow_new=allow_new or (),
        )
    except UnknownNameError as error:
        if base is not None:
            raise
        raise UnknownNameError(f"{error}; the delta names this base, say where it is now with --base") from None


def known_task(document: DeltaDocument, name: str | None) -> Task:
    """The known task that is asked for, by default the one that the delta names.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    if name is not None:
        return find_task(name)
    learnt = stored_task(document).name
    try:
        return find_task(learnt)
    except UnknownNameError:
        raise UnknownNameError(
            f"the delta was learnt on {learnt!r}, which is no task known by name; give the examples with --file FILE "
            "--text COLUMN"
        ) from None


def known_data(task: Task, data_dir: Path | None, splits: Sequence[str]) -> TaskData:
    """The splits of a known task; each must be there."""
    return load_task(task.name, data_dir=data_dir, splits=tuple(splits))


def file_data(
    document: DeltaDocument, file: Path, *, text: str | None, text_pair: str | None, label: str | None
) -> TaskData:
    """Labelled examples of one's own for the task of a delta; its classes hold, in its order.

    Raises:
        SupermaskError: of the kind that fits.
    """
    task = _checked_task(document, text_pair)
    return load_files(
        dev=file,
        text=text or DEFAULT_TEXT,
        text_pair=text_pair,
        label=label or DEFAULT_LABEL,
        regression=task.regression,
        name=task.name,
        metrics=task.metrics,
        label_names=None if task.regression else task.label_names,
    )


def file_texts(document: DeltaDocument, file: Path, *, text: str | None, text_pair: str | None) -> Examples:
    """Texts of one's own for the task of a delta.

    Raises:
        SupermaskError: of the kind that fits.
    """
    _checked_task(document, text_pair)
    return load_texts(file, text=text or DEFAULT_TEXT, text_pair=text_pair)


def _checked_task(document: DeltaDocument, text_pair: str | None) -> Task:
    task = stored_task(document)
    if task.paired and text_pair is None:
        raise ConfigurationError(
            f"the delta's task {task.name!r} is of pairs; name the column of the second text with --text-pair"
        )
    if text_pair is not None and not task.paired:
        raise ConfigurationError(f"the delta's task {task.name!r} is of single texts; leave --text-pair out")
    return task
