"""`store.json`: that a folder is a store, and over which base.

It lists no deltas. They are the folder's subfolders, so there is no index that could say otherwise. What it holds is
settled when the first delta comes and never changes again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from supermask.atomic import write_atomically
from supermask.deltas.document import BaseRecord, describe_invalid, parse_json
from supermask.errors import BaseMismatchError, DeltaFormatError

__all__ = ["CARD_FILE", "StoreBase", "create_card", "read_card", "require_base_of_store"]

CARD_FILE: Final = "store.json"
_FORMAT = "supermask-store"
_VERSION = 1
_MAX_BYTES = 1 << 16
_SHOWN_DIGITS = 16

_Line = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@final
class StoreBase(_Part):
    """The base of all deltas of a store. The digest is what is checked; the rest is for the reader.

    Args:
        name: where the base came from.
        revision: at which revision.
        architecture: its class.
        dtype: the dtype of most of its weights.
        digest: its fingerprint's digest.
    """

    name: _Line | None = None
    revision: _Line | None = None
    architecture: _Line
    dtype: _Line
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@final
class _Card(_Part):
    format: Literal["supermask-store"]
    version: Literal[1]
    base: StoreBase


def create_card(folder: Path, base: BaseRecord) -> None:
    """Make a folder a store.

    Args:
        folder: where no store is yet.
        base: of its deltas.

    Raises:
        OutputError: if the file cannot be written.
    """
    told = {name: getattr(base, name) for name in StoreBase.model_fields}
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "base": {name: value for name, value in told.items() if value is not None},
    }
    write_atomically(folder / CARD_FILE, json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8") + b"\n")


def read_card(folder: Path) -> StoreBase:
    """The base of a store.

    Args:
        folder: the store.

    Raises:
        DeltaFormatError: if there is no store, or its `store.json` is damaged or of another version.
    """
    path = folder / CARD_FILE
    try:
        if not path.is_file():
            what = "has no store.json that is a file" if folder.is_dir() else "is no folder"
            raise DeltaFormatError(
                f"{folder}: no store of deltas, it {what}; pass a store's folder, or add a delta to make a new one"
            )
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise DeltaFormatError(f"{path}: cannot be read: {error.strerror}; check its permissions") from None
    if len(text) > _MAX_BYTES:
        raise DeltaFormatError(f"{path}: longer than {_MAX_BYTES} bytes, so it is no store's; get it again")
    return _parse(text, path)


def require_base_of_store(found: BaseRecord | StoreBase, expected: StoreBase, *, delta: str, store: Path) -> None:
    """Refuse a delta of another base.

    Args:
        found: the delta's base.
        expected: the store's.
        delta: what the delta is called, for the message.
        store: where the store is, for the message.

    Raises:
        BaseMismatchError: naming both.
    """
    if found.digest != expected.digest:
        raise BaseMismatchError(
            f"{delta}: learnt on the base {_in_words(found)}, but the store {store} is over {_in_words(expected)}; "
            "keep the deltas of each base in a store of their own"
        )


def _parse(text: bytes, path: Path) -> StoreBase:
    content: Any = parse_json(text, str(path))
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise DeltaFormatError(f"{path}: does not say that this is a store of deltas; pass a store's folder")
    version = content.get("version")
    if type(version) is not int or version != _VERSION:
        raise DeltaFormatError(
            f"{path}: store version {str(version)[:_SHOWN_DIGITS]!r} is unknown here, this supermask reads version "
            f"{_VERSION}; upgrade supermask"
        )
    try:
        return _Card.model_validate(content).base
    except ValidationError as error:
        raise DeltaFormatError(f"{path}: {describe_invalid(error)}; the file is damaged or was edited") from None


def _in_words(base: BaseRecord | StoreBase) -> str:
    name = f"{base.name!r}, " if base.name else ""
    return f"{name}{base.dtype}, fingerprint {base.digest[:_SHOWN_DIGITS]}"
