"""What lies in a store's folder: deltas, things that are none, and rows about them from their headers alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from supermask.deltas.document import DeltaDocument
from supermask.deltas.file import CONFIG_FILE, DELTA_FILE, read_document
from supermask.deltas.store.card import StoreBase, require_base_of_store
from supermask.deltas.store.names import BESIDE, name_fault
from supermask.errors import BaseMismatchError, DeltaFormatError

__all__ = ["StoreFault", "StoreListing", "StoredDelta", "StoredScore", "list_deltas", "scan_store", "twins"]


@final
@dataclass(frozen=True, kw_only=True)
class StoredScore:
    """A score that a delta recorded when it was learnt.

    Args:
        split: the split that was scored.
        metric: the name of the score.
        value: as a fraction.
    """

    split: str
    metric: str
    value: float


@final
@dataclass(frozen=True, kw_only=True)
class StoredDelta:
    """A row of a store: what a delta's header says.

    Args:
        name: in the store.
        path: its folder.
        nbytes: of its safetensors file.
        document: all that it says about itself.
    """

    name: str
    path: Path
    nbytes: int
    document: DeltaDocument

    @property
    def task(self) -> str | None:
        """The name of the task; None if the delta does not say."""
        return self.document.task.name

    @property
    def method(self) -> str | None:
        """The kind of method that learnt it; None if the delta does not say."""
        return self.document.method.kind

    @property
    def base_name(self) -> str | None:
        """What it calls its base."""
        return self.document.base.name

    @property
    def zeros(self) -> int:
        """How many of the masked weights are dropped."""
        return self.document.zeros

    @property
    def weights(self) -> int:
        """How many weights have a keep mask."""
        return self.document.weights

    @property
    def sparsity(self) -> float:
        """Zeros among the masked weights, in [0, 1]; 0 if none is masked."""
        return self.document.sparsity

    @property
    def digest(self) -> str:
        """The identity of the delta."""
        return self.document.digest

    @property
    def scores(self) -> tuple[StoredScore, ...]:
        """The first of the task's metrics that was recorded, on each split that was scored."""
        found = []
        for split, told in sorted(self.document.training.scores.items()):
            for metric in (*self.document.task.metrics, *sorted(told)):
                if metric in told:
                    found.append(StoredScore(split=split, metric=metric, value=told[metric]))
                    break
        return tuple(found)


@final
@dataclass(frozen=True, kw_only=True)
class StoreFault:
    """What is wrong with one thing in a store's folder.

    Args:
        name: of the delta, file or folder.
        what: the fault, in words.
    """

    name: str
    what: str


@final
@dataclass(frozen=True, kw_only=True)
class StoreListing:
    """What is in a store.

    Args:
        deltas: by name, in alphabetical order; those whose header can be read.
        faults: deltas that cannot be read or do not belong here.
        strangers: what is no delta at all, and is left alone.
    """

    deltas: tuple[StoredDelta, ...]
    faults: tuple[StoreFault, ...]
    strangers: tuple[StoreFault, ...]


def scan_store(folder: Path) -> tuple[tuple[str, ...], tuple[StoreFault, ...]]:
    """Tell deltas from other things by looking at names alone.

    Hidden files, `store.json`, `README.md` and `LICENSE` are passed over.

    Args:
        folder: the store.

    Returns:
        The names of the deltas, and the strangers.

    Raises:
        DeltaFormatError: if the folder cannot be read.
    """
    names, strangers = [], []
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_symlink(), entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError as error:
        raise DeltaFormatError(f"{folder}: cannot be read: {error.strerror}; check its permissions") from None
    for name, linked, is_folder in found:
        if name.startswith(".") or (name.lower() in BESIDE and not is_folder):
            continue
        what = "is a link, which a store does not follow" if linked else _stranger(folder, name, is_folder)
        if what is None:
            names.append(name)
        else:
            strangers.append(StoreFault(name=name, what=what))
    return tuple(names), tuple(strangers)


def list_deltas(folder: Path, base: StoreBase) -> StoreListing:
    """Read the header of each delta in a store, and nothing else of it.

    Args:
        folder: the store.
        base: its base.

    Returns:
        The deltas, and what is wrong; a damaged delta does not keep the others from being listed.
    """
    names, strangers = scan_store(folder)
    deltas, faults = [], list(twins(names))
    for name in names:
        file = folder / name / DELTA_FILE
        try:
            # The file alone: beside it, an overwrite may just be taking `delta_config.json` away.
            document = read_document(file)
            require_base_of_store(document.base, base, delta=name, store=folder)
            deltas.append(StoredDelta(name=name, path=folder / name, nbytes=file.stat().st_size, document=document))
        except (DeltaFormatError, BaseMismatchError, FileNotFoundError) as error:
            if file.parent.is_dir():  # else it was removed a moment ago
                faults.append(StoreFault(name=name, what=str(error)))
    return StoreListing(deltas=tuple(deltas), faults=tuple(faults), strangers=strangers)


def twins(names: tuple[str, ...]) -> Iterator[StoreFault]:
    """Names that other systems take for one.

    Example:
        >>> [fault.what for fault in twins(("CoLA", "cola"))]
        ["differs from 'CoLA' in case alone, and many systems cannot tell the two apart; rename one of them"]
    """
    seen: dict[str, str] = {}
    for name in names:
        if (first := seen.setdefault(name.lower(), name)) != name:
            yield StoreFault(
                name=name,
                what=f"differs from {first!r} in case alone, and many systems cannot tell the two apart; rename one of "
                "them",
            )


def _stranger(folder: Path, name: str, is_folder: bool) -> str | None:
    """Why this is no delta of the store; None if it is one, be it damaged."""
    if not is_folder:
        return "is no folder, and each delta has one"
    if not any(os.path.lexists(folder / name / file) for file in (DELTA_FILE, CONFIG_FILE)):
        return f"is a folder without {DELTA_FILE}"
    fault = name_fault(name)
    return f"holds a delta, but {fault}; rename it" if fault else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
