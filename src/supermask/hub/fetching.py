"""Fetching deltas from the hub, or finding them in its cache."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from supermask.deltas.delta import TaskDelta
from supermask.deltas.file import CONFIG_FILE, DELTA_FILE
from supermask.errors import UnknownNameError
from supermask.hub.address import HubAddress, find_place
from supermask.hub.client import explain_fetch, import_client
from supermask.hub.escaping import one_line

__all__ = ["from_pretrained", "resolve_delta", "resolve_folder"]

_ONE_DELTA: Final = (DELTA_FILE, CONFIG_FILE)
# The client's `*` matches any number of folders, but not none.
_MANY_DELTAS: Final = (DELTA_FILE, f"*/{DELTA_FILE}", CONFIG_FILE, f"*/{CONFIG_FILE}", "*.json")
_NAMED_IN_ERRORS: Final = 10


def from_pretrained(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> TaskDelta:
    """Load a delta from a path or the hub: what `resolve_delta` finds, with the checks of `TaskDelta.load`.

    Args:
        name_or_path, revision, subfolder, cache_dir, token, local_files_only: as for `resolve_delta`.

    Raises:
        SupermaskError: as `resolve_delta` and `TaskDelta.load`.
    """
    return TaskDelta.load(
        resolve_delta(
            name_or_path,
            revision=revision,
            subfolder=subfolder,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
    )


def resolve_delta(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Path:
    """The path of one delta, which is fetched if it is on the hub; no file but its own is.

    Args:
        name_or_path: a folder, a file, or a hub id `OWNER/NAME`. What exists on this machine comes first; `hf://`
            before a hub id skips it. `OWNER/NAME@REVISION/FOLDER` says all in one.
        revision: branch, tag or commit on the hub; the default branch without it.
        subfolder: the delta's folder, in a repository or folder of many.
        cache_dir: the hub's cache; where huggingface_hub keeps it without it.
        token: for a private or gated repository: a token, or False for none; the one logged in with without it.
        local_files_only: read the cache alone, as the environment variable HF_HUB_OFFLINE does too. Without a
            connection, the cache is read as well.

    Returns:
        The folder, or the file that was named.

    Raises:
        UnknownNameError: if there is no such place, or it is not in the cache and the hub is out of reach.
        ConfigurationError: if the address contradicts itself.
        MissingDependencyError: if huggingface_hub is not installed.
    """
    place = find_place(name_or_path, revision=revision, subfolder=subfolder)
    if isinstance(place, Path):
        _require_delta_here(place, os.fspath(name_or_path))
        return place
    folder = _fetch(place, _ONE_DELTA, cache_dir=cache_dir, token=token, local_files_only=local_files_only)
    if not (folder / DELTA_FILE).is_file():
        raise _no_delta(place, token, ask=not local_files_only)
    return folder


def resolve_folder(name_or_path: str | os.PathLike[str]) -> Path:
    """The path of a folder of deltas, which is fetched if it is on the hub: all its deltas and its JSON files.

    Args:
        name_or_path: a folder, or a hub id as for `resolve_delta`.

    Returns:
        The folder; of a hub repository, its snapshot in the cache, which is not to be written to.

    Raises:
        UnknownNameError: as `resolve_delta`, and if there is nothing of the kind in it.
        ConfigurationError: if the address contradicts itself.
        MissingDependencyError: if huggingface_hub is not installed.
    """
    place = find_place(name_or_path)
    if isinstance(place, Path):
        return place
    folder = _fetch(place, _MANY_DELTAS)
    if not folder.is_dir() or not any(folder.iterdir()):
        raise _no_delta(place, None)
    return folder


def _fetch(
    address: HubAddress,
    wanted: Iterable[str],
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Path:
    client = import_client("fetching a delta from the hub")
    prefix = glob.escape(address.subfolder) + "/" if address.subfolder else ""
    try:
        snapshot = client.snapshot_download(
            address.repo_id,
            revision=address.revision,
            cache_dir=os.fspath(cache_dir) if cache_dir is not None else None,
            token=token,
            local_files_only=local_files_only,
            allow_patterns=[prefix + pattern for pattern in wanted],
        )
    # What the library, its HTTP client and its storage raise changes between releases; none of it is a fault of ours.
    except Exception as error:
        raise explain_fetch(error, address) from error
    return Path(snapshot) / address.subfolder if address.subfolder else Path(snapshot)


def _require_delta_here(path: Path, text: str) -> None:
    """A folder without a delta may hide the hub's repository that was meant."""
    if not path.is_dir() or (path / DELTA_FILE).exists():
        return
    found = sorted(inside.parent.name for inside in path.glob(f"*/{DELTA_FILE}"))
    remedy = _choose(found) if found else "pass a folder that TaskDelta.save wrote"
    if not text.startswith((".", "/", "~")) and len(Path(text).parts) == 2:
        remedy += f", or hf://{text} for the hub's repository of that name, which the folder here hides"
    raise UnknownNameError(f"{path}: no delta in this folder, it has no {DELTA_FILE}; {remedy}")


def _no_delta(address: HubAddress, token: str | bool | None, *, ask: bool = True) -> UnknownNameError:
    """Say whether the repository has no delta there or only the cache."""
    try:
        client = import_client("fetching a delta from the hub")
        files = client.HfApi(token=token).list_repo_files(address.repo_id, revision=address.revision) if ask else None
    except Exception:  # as in _fetch; the answer only makes the message better
        files = None
    if files is None:
        return UnknownNameError(
            f"'{address}' is not in the cache, and the hub is out of reach or was not to be asked; fetch it once with "
            "a connection"
        )
    held = sorted(folder for folder, _, name in (path.rpartition("/") for path in files) if name == DELTA_FILE)
    wanted = f"{address.subfolder}/{DELTA_FILE}" if address.subfolder else DELTA_FILE
    at = f" at revision {address.revision!r}" if address.revision else ""
    remedy = _choose(held) if held else "it holds no delta at all; check the name and the revision"
    if address.subfolder and "" in held:
        remedy = "it holds a delta itself; leave the subfolder out"
    return UnknownNameError(f"the hub repository '{address.repo_id}' has no {wanted}{at}; {remedy}")


def _choose(folders: list[str]) -> str:
    shown = ", ".join(map(one_line, folders[:_NAMED_IN_ERRORS]))
    more = f" and {len(folders) - _NAMED_IN_ERRORS} more" if len(folders) > _NAMED_IN_ERRORS else ""
    return f"it holds deltas in {shown}{more}: name one with subfolder"
