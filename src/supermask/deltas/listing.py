"""What lies in a store's folder: which base it is over, its deltas from their headers alone, and things that are none.

STORE/store.json                    that this is a store, its version, and the base
STORE/NAME/delta.safetensors        a delta, as `TaskDelta.save` writes it, and what that puts beside it
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from supermask.atomic import write_atomically
from supermask.deltas.document import BaseRecord, DeltaDocument, describe_invalid
from supermask.deltas.file import CONFIG_FILE, DELTA_FILE, read_document
from supermask.errors import BaseMismatchError, DeltaFormatError, SupermaskError

__all__ = [
    "BESIDE",
    "STORE_FILE",
    "StoreBase",
    "StoreFault",
    "StoreListing",
    "StoredDelta",
    "StoredScore",
    "create_store_file",
    "list_deltas",
    "name_fault",
    "read_store_base",
    "require_base_of_store",
    "scan_store",
    "twins",
]

STORE_FILE: Final = "store.json"
BESIDE: Final = frozenset({STORE_FILE, "readme.md", "license"})
"""Files that may stand in a store beside its deltas, in lower case."""

_MOST_BYTES = 1 << 16  # of store.json
_SHOWN_DIGITS = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))]
)
_CLOSED = ConfigDict(frozen=True, extra="forbid", strict=True)
_Line = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]


@final
class StoreBase(BaseModel):
    """The base of all deltas of a store. The digest is what is checked; the rest is for the reader.

    Args:
        name: where the base came from.
        revision: at which revision.
        architecture: its class.
        dtype: the dtype of most of its weights.
        digest: its fingerprint's digest.
    """

    model_config = _CLOSED

    name: _Line | None = None
    revision: _Line | None = None
    architecture: _Line
    dtype: _Line
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@final
class _StoreFile(BaseModel):
    """What `store.json` holds. It is settled when the first delta comes and never changes, so nothing can go stale."""

    model_config = _CLOSED

    format: Literal["supermask-store"] = "supermask-store"
    version: Annotated[int, Field(ge=1, le=1)] = 1
    base: StoreBase


@final
@dataclass(frozen=True, kw_only=True)
class StoredScore:
    """A score, as a fraction, that a delta recorded when it was learnt."""

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
    def scores(self) -> tuple[StoredScore, ...]:
        """The first of the task's metrics that was recorded, on each split that was scored."""
        found = []
        for split, told in sorted(self.document.training.scores.items()):
            metrics = [metric for metric in (*self.document.task.metrics, *sorted(told)) if metric in told]
            found += [StoredScore(split=split, metric=metric, value=told[metric]) for metric in metrics[:1]]
        return tuple(found)


@final
@dataclass(frozen=True, kw_only=True)
class StoreFault:
    """What is wrong, in words, with one thing in a store's folder."""

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


def create_store_file(folder: Path, base: BaseRecord) -> None:
    """Make a folder a store over a base.

    Raises:
        OutputError: if the file cannot be written.
    """
    told = StoreBase.model_validate(base.model_dump(include=set(StoreBase.model_fields)))
    text = _StoreFile(base=told).model_dump_json(indent=2, exclude_none=True)
    write_atomically(folder / STORE_FILE, text.encode("utf-8") + b"\n")


def read_store_base(folder: Path) -> StoreBase:
    """The base of a store, from its `store.json`.

    Raises:
        DeltaFormatError: if there is no store, or its `store.json` is damaged or of another version.
    """
    path = folder / STORE_FILE
    try:
        if not path.is_file():
            what = f"has no {STORE_FILE} that is a file" if folder.is_dir() else "is no folder"
            raise DeltaFormatError(
                f"{folder}: no store of deltas, it {what}; pass a store's folder, or add a delta to make a new one"
            )
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise DeltaFormatError(f"{path}: cannot be read: {error.strerror}; check its permissions") from None
    if len(text) > _MOST_BYTES:
        raise DeltaFormatError(f"{path}: longer than {_MOST_BYTES} bytes, so it is no store's; get it again")
    try:
        return _StoreFile.model_validate_json(text).base
    except ValidationError as error:
        raise DeltaFormatError(
            f"{path}: {describe_invalid(error)}; it is no store's, damaged, or a newer supermask's: get it again, or "
            "upgrade supermask"
        ) from None


def require_base_of_store(found: BaseRecord, expected: StoreBase, *, delta: str, store: Path) -> None:
    """Refuse a delta of another base; both are named, by what the delta is called and where the store is."""
    if found.digest != expected.digest:
        raise BaseMismatchError(
            f"{delta}: learnt on the base {_in_words(found)}, but the store {store} is over {_in_words(expected)}; "
            "keep the deltas of each base in a store of their own"
        )


def scan_store(folder: Path) -> tuple[tuple[str, ...], tuple[StoreFault, ...]]:
    """The names of a store's deltas, and the strangers, by looking at names alone.

    Hidden files, `store.json`, `README.md` and `LICENSE` are passed over.

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


def list_deltas(folder: Path) -> StoreListing:
    """Read the header of each delta in a store, and nothing else of it; one that is damaged hides no other.

    Raises:
        DeltaFormatError: if there is no store, or its `store.json` is damaged.
    """
    base = read_store_base(folder)
    names, strangers = scan_store(folder)
    deltas, faults = [], list(twins(names))
    for name in names:
        file = folder / name / DELTA_FILE
        try:
            document = read_document(file)
            require_base_of_store(document.base, base, delta=name, store=folder)
            deltas.append(StoredDelta(name=name, path=folder / name, nbytes=file.stat().st_size, document=document))
        except (SupermaskError, OSError) as error:
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


def name_fault(name: str) -> str | None:
    """What is wrong with a delta's name, which must be a folder's on every system; None if nothing is.

    Example:
        >>> name_fault("mrpc-seed0") is None
        True
        >>> name_fault("aux.v2")
        "'aux.v2' is no name for a delta: a name has 1 to 100 letters ... and is no store's file or Windows device"
    """
    lowered = name.lower()
    if (
        _NAME.fullmatch(name)
        and lowered.partition(".")[0] not in _DEVICES
        and lowered not in BESIDE
        and not lowered.endswith((".", ".safetensors"))
    ):
        return None
    shown = repr(name if len(name) <= 100 else name[:100] + "...")
    return (
        f"{shown} is no name for a delta: a name has 1 to 100 letters A-Z and a-z, digits, '.', '_' and '-', starts "
        "with a letter or digit, ends neither in a dot nor in .safetensors, and is no store's file or Windows device"
    )


def _stranger(folder: Path, name: str, is_folder: bool) -> str | None:
    """Why this is no delta of the store; None if it is one, be it damaged."""
    if not is_folder:
        return "is no folder, and each delta has one"
    if not any(os.path.lexists(folder / name / file) for file in (DELTA_FILE, CONFIG_FILE)):
        return f"is a folder without {DELTA_FILE}"
    fault = name_fault(name)
    return f"holds a delta, but {fault}; rename it" if fault else None


def _in_words(base: BaseRecord | StoreBase) -> str:
    name = f"{base.name!r}, " if base.name else ""
    return f"{name}{base.dtype}, fingerprint {base.digest[:_SHOWN_DIGITS]}"
