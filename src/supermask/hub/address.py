"""Where a delta is: on this machine, or in a repository of the hub."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final, final

from supermask.errors import ConfigurationError, UnknownNameError

__all__ = ["HubAddress", "find_place", "parse_address"]

_PREFIX: Final = "hf://"
_WORD: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?"
_ADDRESS: Final = re.compile(
    rf"(?P<repo_id>{_WORD}/{_WORD})(?:@(?P<revision>refs/(?:pr|convert)/[^/@]+|[^/@]+))?(?:/(?P<subfolder>.+))?"
)
_REVISION: Final = re.compile(r"(?!.*\.\.)[^\s/\\\x00-\x1f\x7f:?*\[~^][^\s\\\x00-\x1f\x7f:?*\[~^]*")
_SYNTAX: Final = "a hub id is written OWNER/NAME, or [hf://]OWNER/NAME@REVISION/FOLDER"


@final
@dataclass(frozen=True)
class HubAddress:
    """A place on the hub; its text is what `parse_address` reads.

    Args:
        repo_id: the repository, `OWNER/NAME`.
        revision: a branch, tag or commit; None for the default branch.
        subfolder: a folder in the repository, its parts separated by `/`; None for the repository itself.

    Raises:
        ConfigurationError: if revision or folder cannot be one.
    """

    repo_id: str
    revision: str | None = None
    subfolder: str | None = None

    def __post_init__(self) -> None:
        if self.revision is not None and not _REVISION.fullmatch(self.revision):
            raise ConfigurationError(f"{_shown(self.revision)} is no branch, tag or commit; leave it out or correct it")
        if self.subfolder is not None:
            _require_subfolder(self.subfolder)

    def __str__(self) -> str:
        if self.subfolder and not self.revision:
            return f"{_PREFIX}{self.repo_id}/{self.subfolder}"
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repo_id}{revision}" + (f"/{self.subfolder}" if self.subfolder else "")


def parse_address(text: str) -> HubAddress | None:
    """Read `[hf://]OWNER/NAME[@REVISION][/FOLDER]`.

    Without `hf://`, a folder can only be given after a revision: `a/b/c` is a path on this machine.

    Args:
        text: what somebody wrote.

    Returns:
        The place on the hub; None if the text is none.

    Raises:
        ConfigurationError: if revision or folder cannot be one.

    Example:
        >>> parse_address("someone/many@v1/mrpc")
        HubAddress(repo_id='someone/many', revision='v1', subfolder='mrpc')
        >>> parse_address("hf://someone/many/mrpc")
        HubAddress(repo_id='someone/many', revision=None, subfolder='mrpc')
        >>> parse_address("./runs/mrpc") is parse_address("runs/mrpc/delta") is None
        True
    """
    explicit = text.startswith(_PREFIX)
    found = _ADDRESS.fullmatch(text.removeprefix(_PREFIX))
    if found is None or (found["subfolder"] and not explicit and not found["revision"]):
        return None
    return HubAddress(found["repo_id"], found["revision"], found["subfolder"])


def find_place(
    name_or_path: str | os.PathLike[str], *, revision: str | None = None, subfolder: str | None = None
) -> Path | HubAddress:
    """Say whether a name is a place on this machine or on the hub; nothing is read or fetched.

    What exists on this machine comes first, also under a name that could be a hub id; `hf://` skips it.

    Args:
        name_or_path: a folder, a file, or a hub id as `parse_address` reads it.
        revision: a branch, tag or commit, on the hub only.
        subfolder: a folder in it.

    Returns:
        The path, which exists, or the place on the hub, which may not.

    Raises:
        UnknownNameError: if it is neither a path that exists nor a hub id.
        ConfigurationError: if a revision is given for a path, or revision or folder are given twice or cannot be one.
    """
    text = os.fspath(name_or_path)
    if subfolder is not None:
        _require_subfolder(subfolder)
    path = Path(os.path.expanduser(text))  # noqa: PTH111 (Path.expanduser raises for an unknown user)
    if text.strip() and not text.startswith(_PREFIX) and os.path.lexists(path):
        if revision is not None:
            address = parse_address(text)
            instead = f", or write {_PREFIX}{address} for the hub's repository of that name" if address else ""
            raise ConfigurationError(
                f"revision {revision!r} was given, but {_shown(text)} is a file or folder here, which has none; leave "
                f"revision out{instead}"
            )
        if not os.path.lexists(inside := path / (subfolder or "")):
            raise UnknownNameError(f"{_shown(text)} is a file or folder here and has no folder {subfolder!r} in it")
        return inside
    address = parse_address(text) if isinstance(name_or_path, str) else None
    if address is None:
        raise UnknownNameError(f"there is no file or folder {_shown(text)}, and it is no hub id; {_SYNTAX}")
    for what, told, given in (("revision", address.revision, revision), ("subfolder", address.subfolder, subfolder)):
        if told is not None and given is not None:
            raise ConfigurationError(f"'{address}' names a {what} and {what}={given!r} is given too; leave one out")
    return replace(address, revision=address.revision or revision, subfolder=address.subfolder or subfolder)


def _require_subfolder(subfolder: str) -> None:
    """Refuse what is empty, absolute, leads out of the folder or is not written with single `/`."""
    plain = subfolder.isprintable() and "\\" not in subfolder and PurePosixPath(subfolder).as_posix() == subfolder
    parts = subfolder.split("/")
    if not plain or subfolder.startswith("/") or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
        raise ConfigurationError(
            f"{_shown(subfolder)} is no folder inside a repository or folder; write it like mrpc or glue/mrpc"
        )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "...")
