"""What lies in a store's folder: which base it is over, which deltas, and what is none.

STORE/store.json                    that this is a store, its version, and the base
STORE/NAME/delta.safetensors        a delta, as `TaskDelta.save` writes it, and what that puts beside it
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from supermask.atomic import write_atomically
from supermask.deltas.document import BaseRecord, DeltaDocument, describe_invalid
from supermask.deltas.file import CONFIG_FILE, DELTA_FILE
from supermask.errors import BaseMismatchError, DeltaFormatError, SupermaskError

__all__ = [
    "BESIDE",
    "SAME_BUT_FOR_CASE",
    "STORE_FILE",
    "StoreBase",
    "StoreFault",
    "StoreListing",
    "StoredDelta",
    "StoredScore",
    "create_store_file",
    "name_fault",
    "read_store_base",
    "require_base_of_store",
    "scan_store",
    "told_in",
]

STORE_FILE: Final = "store.json"
BESIDE: Final = frozenset({STORE_FILE, "readme.md", "license"})
"""Files that may stand in a store beside its deltas, in lower case."""
SAME_BUT_FOR_CASE: Final = "in case alone, and many systems cannot tell the two apart"

_MOST_BYTES = 1 << 16  # of store.json
_SHOWN_DIGITS = 16
_NAME = re.compile(
    r"(?!(con|prn|aux|nul|(com|lpt)[0-9])(\.|\Z))"
    rf"(?!({'|'.join(map(re.escape, sorted(BESIDE)))})\Z)"
    r"[a-z0-9][a-z0-9._-]{0,99}(?<!\.)(?<!\.safetensors)",
    re.ASCII | re.IGNORECASE,
)
_CLOSED = ConfigDict(frozen=True, extra="forbid", strict=True)
_Line = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]


@final
class StoreBase(BaseModel):
    """The base of all deltas of a store. The digest, its fingerprint's, is what is checked; the rest is to be read."""

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
    """A row of a store: a delta's name, its folder, the bytes of its safetensors file, and what its header says."""

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
@dataclass(frozen=True)
class StoreFault:
    """What is wrong, in words, with one thing in a store's folder."""

    name: str
    what: str


@final
@dataclass(frozen=True, kw_only=True)
class StoreListing:
    """What is in a store: deltas, deltas that cannot be read or do not belong here, and what is no delta at all."""

    deltas: tuple[StoredDelta, ...]
    faults: tuple[StoreFault, ...]
    strangers: tuple[StoreFault, ...]


def create_store_file(folder: Path, base: BaseRecord) -> None:
    """Make a folder a store over a base."""
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
    """Refuse a delta of another base than the store's; both are named."""
    if found.digest != expected.digest:
        raise BaseMismatchError(
            f"{delta}: learnt on the base {_in_words(found)}, but the store {store} is over {_in_words(expected)}; "
            "keep the deltas of each base in a store of their own"
        )


def scan_store(folder: Path) -> tuple[tuple[str, ...], list[StoreFault], tuple[StoreFault, ...]]:
    """Tell the deltas of a store by names alone; hidden files, `store.json`, `README.md` and `LICENSE` are passed over.

    Returns:
        The deltas' names, in alphabetical order; which of them other systems take for another; and what is no delta.

    Raises:
        DeltaFormatError: if the folder cannot be read.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DeltaFormatError(f"{folder}: cannot be read: {error.strerror}; check its permissions") from None
    names, twins, strangers = list[str](), list[StoreFault](), list[StoreFault]()
    first: dict[str, str] = {}
    for entry in entries:
        name, is_folder = entry.name, entry.is_dir(follow_symlinks=False)
        if name.startswith(".") or (name.lower() in BESIDE and not is_folder):
            continue
        if entry.is_symlink():
            strangers.append(StoreFault(name, "is a link, which a store does not follow"))
        elif not is_folder:
            strangers.append(StoreFault(name, "is no folder, and each delta has one"))
        elif not any(os.path.lexists(folder / name / file) for file in (DELTA_FILE, CONFIG_FILE)):
            strangers.append(StoreFault(name, f"is a folder without {DELTA_FILE}"))
        elif fault := name_fault(name):
            strangers.append(StoreFault(name, f"holds a delta, but {fault}; rename it"))
        else:
            names.append(name)
            if (twin := first.setdefault(name.lower(), name)) != name:
                twins.append(StoreFault(name, f"differs from {twin!r} {SAME_BUT_FOR_CASE}; rename one of them"))
    return tuple(names), twins, tuple(strangers)


@contextmanager
def told_in(faults: list[StoreFault], place: Path) -> Iterator[None]:
    """Note what goes wrong with the delta in a folder, if it was not removed a moment ago, and go on."""
    try:
        yield
    except (SupermaskError, OSError) as error:
        if place.is_dir():
            faults.append(StoreFault(place.name, str(error)))


def name_fault(name: str) -> str | None:
    """What is wrong with a delta's name, which must be a folder's on every system; None if nothing is.

    Example:
        >>> name_fault("mrpc-seed0") is None
        True
        >>> name_fault("aux.v2")
        "'aux.v2' is no name for a delta: a name has 1 to 100 letters ... and is no store's file or Windows device"
    """
    if _NAME.fullmatch(name):
        return None
    shown = repr(name if len(name) <= 100 else name[:100] + "...")
    return (
        f"{shown} is no name for a delta: a name has 1 to 100 letters A-Z and a-z, digits, '.', '_' and '-', starts "
        "with a letter or digit, ends neither in a dot nor in .safetensors, and is no store's file or Windows device"
    )


def _in_words(base: BaseRecord | StoreBase) -> str:
    name = f"{base.name!r}, " if base.name else ""
    return f"{name}{base.dtype}, fingerprint {base.digest[:_SHOWN_DIGITS]}"
