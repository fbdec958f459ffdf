"""The hub's client library: imported when it is first needed, and what it raises said in one line with the remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

from supermask.errors import MissingDependencyError, OutputError, SupermaskError, UnknownNameError
from supermask.hub.address import HubAddress
from supermask.hub.escaping import one_line

__all__ = ["explain_fetch", "explain_push", "import_client"]

_LOG_IN = "log in with `hf auth login`, or pass a token"
_MOST_SHOWN = 200  # characters of somebody else's message


def import_client(purpose: str) -> Any:
    """The module `huggingface_hub`.

    Args:
        purpose: what it is needed for, for the message.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose} needs huggingface_hub, which is not installed; run: pip install 'supermask[hub]'"
        ) from error
    return huggingface_hub


def explain_fetch(error: Exception, address: HubAddress, *, local_files_only: bool) -> SupermaskError:
    """The error to raise when something could not be fetched: what, where and the remedy."""
    from huggingface_hub import constants, errors

    what, where, status = f"'{address}'", f"the hub at {constants.ENDPOINT}", _status(error)
    if place := _full_disk(error):
        return OutputError(f"no space is left on the disk{place} to fetch {what}; free some space or pass cache_dir")
    if isinstance(error, errors.HFValidationError):
        told = f"{what} is neither a file or folder here nor a hub id; a hub id is OWNER/NAME"
    elif isinstance(error, errors.GatedRepoError):
        told = f"the hub repository '{address.repo_id}' is gated; accept its terms on its page, then {_LOG_IN}"
    elif isinstance(error, errors.RevisionNotFoundError):
        told = (
            f"the hub repository '{address.repo_id}' has no revision {address.revision!r}; leave it out or correct it"
        )
    elif status == 401 and _is_about_the_token(error):
        told = f"{where} does not accept this token for {what}; {_LOG_IN}"
    elif status == 401 or isinstance(error, errors.RepositoryNotFoundError):
        told = (
            f"'{address.repo_id}' is no file or folder here, and {where} has no such repository, or it is private and "
            f"this token may not see it; check the name, or {_LOG_IN}"
        )
    elif isinstance(error, errors.LocalEntryNotFoundError) and local_files_only:
        told = f"{what} is not in the cache; leave local_files_only out to fetch it from {where}"
    elif isinstance(error, errors.LocalEntryNotFoundError) and _is_offline(error):
        told = f"{what} is not in the cache, and HF_HUB_OFFLINE is set; unset it to fetch it from {where}"
    elif status is not None:
        told = f"{where} answers for {what}: {_answer(error)}; try again later"
    elif _is_of_the_network(error):
        told = (
            f"{what} is no file or folder here and not in the cache, and {where} cannot be reached "
            f"({_root_in_words(error)}); check the name and the connection"
        )
    else:
        told = f"{what} could not be fetched from {where} ({_root_in_words(error)}); try again"
    return UnknownNameError(told)


def explain_push(error: Exception, repo_id: str, revision: str | None) -> SupermaskError:
    """The error to raise when something could not be pushed: what, where and the remedy."""
    from huggingface_hub import constants, errors

    where, status = f"the hub at {constants.ENDPOINT}", _status(error)
    if place := _full_disk(error):
        why = f": no space is left on the disk{place}; free some space"
    elif _is_offline(error):
        why = ": HF_HUB_OFFLINE is set; unset it"
    elif isinstance(error, errors.RevisionNotFoundError):
        why = f": it has no branch {revision!r}; leave revision out or correct it"
    elif status == 401:
        why = f": {where} wants a token, or does not accept this one; {_LOG_IN}"
    elif status == 403:
        why = (
            f": this token may not write there ({_answer(error)}); use a token with write access, a name of your own, "
            "or create_pr"
        )
    elif status is not None or isinstance(error, ValueError):
        why = f": {where} answers: {_answer(error)}; correct it, or try again later"
    elif _is_of_the_network(error):
        why = f": {where} cannot be reached ({_root_in_words(error)}); check the connection"
    else:
        why = f" ({_root_in_words(error)}); try again"
    return OutputError(f"the delta cannot be pushed to '{repo_id}'{why}")


def _is_offline(error: BaseException) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return any(isinstance(cause, OfflineModeIsEnabled) for cause in _chain(error))


def _is_of_the_network(error: BaseException) -> bool:
    from huggingface_hub.errors import HfHubHTTPError

    # Which HTTP client stands behind it depends on the version; its parent of all errors is the first parent here.
    kinds = (OSError, HfHubHTTPError.__mro__[1])
    return any(isinstance(cause, kinds) for cause in _chain(error))


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error, or what caused it, came with."""
    statuses = (getattr(getattr(cause, "response", None), "status_code", None) for cause in _chain(error))
    return next((status for status in statuses if isinstance(status, int)), None)


def _is_about_the_token(error: BaseException) -> bool:
    """Whether a 401 is for a token that is none; strangers get one for every repository that they may not see, too."""
    headers = [getattr(getattr(cause, "response", None), "headers", {}) for cause in _chain(error)]
    return any("invalid credentials" in str(found.get("X-Error-Message", "")).lower() for found in headers)


def _answer(error: BaseException) -> str:
    """What the server said, or the client's own message."""
    for cause in _chain(error):
        if said := getattr(cause, "server_message", None):
            return f"{_status(cause)}, {one_line(said, longest=_MOST_SHOWN)}"
    return one_line(error, longest=_MOST_SHOWN) or type(error).__name__


def _root_in_words(error: BaseException) -> str:
    root = list(_chain(error))[-1]
    return f"{type(root).__name__}: {one_line(root, longest=_MOST_SHOWN)}"


def _full_disk(error: BaseException) -> str | None:
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return f" of {cause.filename}" if cause.filename else " of the cache"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
