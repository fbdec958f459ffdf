"""Where a base comes from: a known base, a local folder, or a hub repository at a commit."""

from __future__ import annotations

import os
import socket
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final
from urllib.parse import urlsplit

from supermask.errors import ConfigurationError, MissingDependencyError, UnknownNameError
from supermask.models.embedded import DEFAULT_BASE, close_known_base, embedded_folder, find_known_base

__all__ = ["BaseSource", "find_source", "first_line"]

_OTHERWISE = f"pass a local folder with config.json and model.safetensors, or an embedded base such as '{DEFAULT_BASE}'"


@final
@dataclass(frozen=True)
class BaseSource:
    """A place that a base can be read from.

    Args:
        name: What the user called it.
        kind: Whether it is embedded in a package, a local folder, or on the hub.
        location: The folder, or the repository's id.
        revision: The full commit hash on the hub; None for the other kinds.
        local_files_only: Whether to read the hub's cache alone, as the hub is out of reach.
    """

    name: str
    kind: Literal["embedded", "folder", "hub"]
    location: str
    revision: str | None = None
    local_files_only: bool = False


def find_source(name_or_path: str | Path, revision: str | None = None) -> BaseSource:
    """Say where a base is, without reading its weights (an embedded base's weights are checked).

    A `Path`, or a string that names a folder, is a folder; then come the known bases; what is left is a hub id. A
    known base hides a folder of the same name, which `./NAME` still reaches.
    """
    name = os.fspath(name_or_path)
    if not name.strip():
        raise UnknownNameError(f"the name of the base is empty; {_OTHERWISE}")
    known = find_known_base(name) if isinstance(name_or_path, str) else None
    folder = Path(os.path.expanduser(name_or_path))  # noqa: PTH111 (Path.expanduser raises for an unknown user)
    if known is None and not folder.is_dir():
        if _looks_like_a_path(name_or_path):
            raise UnknownNameError(f"there is no folder '{name}'; {_OTHERWISE}")
        return _on_the_hub(name, revision)
    if revision is not None:
        raise ConfigurationError(f"revision '{revision}' was given, but '{name}' is not on the hub; leave revision out")
    if known is not None:
        return BaseSource(name, "embedded", str(embedded_folder(known)))
    if not (folder / "config.json").is_file():
        raise UnknownNameError(f"the folder '{name}' has no config.json, so it is no saved model; {_OTHERWISE}")
    return BaseSource(name, "folder", str(folder))


def _looks_like_a_path(name_or_path: str | Path) -> bool:
    if isinstance(name_or_path, Path):
        return True
    # A hub id is NAME or OWNER/NAME.
    return name_or_path.startswith((".", "~", "/")) or "\\" in name_or_path or len(name_or_path.split("/")) > 2


def _on_the_hub(name: str, revision: str | None) -> BaseSource:
    close = close_known_base(name)
    if close is not None and "/" not in name:
        raise UnknownNameError(f"there is no base '{name}'; did you mean {close}? Otherwise {_OTHERWISE}")
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise MissingDependencyError(
            "loading a base needs transformers; run: pip install 'supermask[train]'"
        ) from error

    repository = f"the hub repository '{name}'"
    told: dict[type[Exception], str] = {  # children before their parents
        errors.HFValidationError: f"'{name}' is neither a folder nor a hub id; {_OTHERWISE}",
        errors.GatedRepoError: f"{repository} wants its terms accepted; do so on its page and log in, or {_OTHERWISE}",
        errors.RevisionNotFoundError: f"{repository} has no revision '{revision}'; leave it out or correct it",
        errors.RepositoryNotFoundError: f"the hub has no repository '{name}'; {_OTHERWISE}",
        errors.LocalEntryNotFoundError: (
            f"'{name}' is neither a folder nor in the cache, and the hub cannot be reached; {_OTHERWISE}"
        ),
        errors.EntryNotFoundError: f"{repository} has no config.json; {_OTHERWISE}",
    }
    kinds: tuple[type[Exception], ...] = (*told, OSError)
    out_of_reach = not _hub_answers()
    try:
        config = hf_hub_download(name, "config.json", revision=revision, local_files_only=out_of_reach)
    except kinds as error:
        unknown = f"'{name}' could not be fetched from the hub ({first_line(error)}); {_OTHERWISE}"
        raise UnknownNameError(
            next((words for kind, words in told.items() if isinstance(error, kind)), unknown)
        ) from error
    # The cache keeps each commit in a folder named by its hash: .../snapshots/<commit>/config.json
    return BaseSource(name, "hub", name, revision=Path(config).parent.name, local_files_only=out_of_reach)


def _hub_answers() -> bool:
    """Whether the hub's host name resolves; where it does not, the hub's client would retry for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies():  # then the proxy resolves names, and this machine need not be able to
        return True
    address = urlsplit(constants.ENDPOINT)
    try:
        socket.getaddrinfo(address.hostname, address.port or 443)
    except OSError:
        return False
    return True


def first_line(error: BaseException) -> str:
    """The first line of an error's message, as messages of libraries run on for pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
