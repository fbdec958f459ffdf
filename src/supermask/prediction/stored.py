"""What a stored delta says it belongs to, made ready: its task and its base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from supermask.deltas import DeltaDocument
from supermask.errors import ConfigurationError, UnknownNameError
from supermask.models import Base, load_base
from supermask.prediction.kinds import kind_of
from supermask.tasks import Task

__all__ = ["stored_base", "stored_task"]


def stored_task(document: DeltaDocument) -> Task:
    """The task that a delta was learnt on, as it says itself.

    Args:
        document: `delta.document`.

    Raises:
        ConfigurationError: if it does not say.
    """
    stored = document.task
    if not (stored.name and stored.kind and stored.metrics):
        missing = [name for name in ("name", "kind", "metrics") if not getattr(stored, name)]
        raise ConfigurationError(
            f"the delta does not say its task's {', '.join(missing)}; use it from Python, where the task can be given"
        )
    return Task(
        name=stored.name,
        kind=stored.kind,
        label_names=stored.label_names,
        metrics=stored.metrics,
        paired=bool(stored.paired),
        test_splits=("test",),
    )


def stored_base(
    document: DeltaDocument,
    base: str | Path | None = None,
    revision: str | None = None,
    allow_new: Sequence[str] | None = None,
) -> Base:
    """Load the base of a delta, with a head of the size that the delta brings.

    Args:
        document: `delta.document`.
        base: where the base is, if not where the delta says.
        revision: of a base on the hub.
        allow_new: tensors that may be drawn at random, as when the delta was learnt.

    Raises:
        SupermaskError: of the kind that fits; a base that is not found names the option that says where it is.
    """
    task = stored_task(document)
    if base is None and document.base.name is None:
        raise ConfigurationError("the delta does not name its base; say where it is with --base (in Python: base=...)")
    try:
        return load_base(
            base or document.base.name or "",
            **kind_of(task).head(task),
            revision=document.base.revision if base is None and revision is None else revision,
            seed=document.training.seed or 0,  # what allow_new lets be drawn must be drawn as it was
            dtype=document.base.dtype,
            allow_new=allow_new or (),
        )
    except UnknownNameError as error:
        if base is not None:
            raise
        raise UnknownNameError(
            f"{error}; the delta names this base, say where it is now with --base (in Python: base=...)"
        ) from None
