"""The hub's client library: imported when it is first needed, and what it raises said in one line with the remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any, Final

from supermask.errors import MissingDependencyError, OutputError, SupermaskError, UnknownNameError
from supermask.hub.address import HubAddress
from supermask.hub.escaping import one_line

__all__ = ["explain_fetch", "explain_push", "import_client"]

_LOG_IN: Final = "log in with `hf auth login`, or pass a token"
_MOST_SHOWN: Final = 200  # characters of somebody else's message
_ABSENT: Final = (
    "'{repo_id}' is no file or folder here, and {where} has no such repository, or it is private and this token may "
    f"not see it; check the name, or {_LOG_IN}"
)
_NO_TOKEN: Final = f": {{where}} wants a token, or does not accept this one; {_LOG_IN}"
_NOT_TAKEN: Final = ": {where} answers: {answer}; correct it, or try again later"

# What is said of each kind of failure; of the kinds that `_kinds` gives, the first that is here.
_OF_FETCHING: Final = {
    "disk": "no space is left on the disk{disk} to fetch '{address}'; free some space or pass cache_dir",
    "no id": "'{address}' is neither a file or folder here nor a hub id; a hub id is OWNER/NAME",
    "gated": f"the hub repository '{{repo_id}}' is gated; accept its terms on its page, then {_LOG_IN}",
    "revision": "the hub repository '{repo_id}' has no revision {revision!r}; leave it out or correct it",
    "token": f"{{where}} does not accept this token for '{{address}}'; {_LOG_IN}",
    "401": _ABSENT,
    "absent": _ABSENT,
    "uncached": "'{address}' is not in the cache; leave local_files_only out to fetch it from {where}",
    "offline": "'{address}' is not in the cache, and HF_HUB_OFFLINE is set; unset it to fetch it from {where}",
    "status": "{where} answers for '{address}': {answer}; try again later",
    "network": "'{address}' is no file or folder here and not in the cache, and {where} cannot be reached ({root}); "
    "check the name and the connection",
    "unknown": "'{address}' could not be fetched from {where} ({root}); try again",
}
_OF_PUSHING: Final = {
    "disk": ": no space is left on the disk{disk}; free some space",
    "revision": ": it has no branch {revision!r}; leave revision out or correct it",
    "401": _NO_TOKEN,
    "403": ": this token may not write there ({answer}); use a token with write access, a name of your own, or "
    "create_pr",
    "offline": ": HF_HUB_OFFLINE is set; unset it",
    "status": _NOT_TAKEN,
    "value": _NOT_TAKEN,
    "network": ": {where} cannot be reached ({root}); check the connection",
    "unknown": " ({root}); try again",
}


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


def explain_fetch(error: Exception, address: HubAddress) -> SupermaskError:
    """The error to raise when something could not be fetched: what, where and the remedy."""
    kind, told = _explain(error, _OF_FETCHING, address)
    return OutputError(told) if kind == "disk" else UnknownNameError(told)


def explain_push(error: Exception, repo_id: str, revision: str | None) -> SupermaskError:
    """The error to raise when something could not be pushed: what, where and the remedy."""
    _, told = _explain(error, _OF_PUSHING, HubAddress(repo_id, revision))
    return OutputError(f"the delta cannot be pushed to '{repo_id}'{told}")


def _explain(error: Exception, table: dict[str, str], address: HubAddress) -> tuple[str, str]:
    from huggingface_hub import constants

    kind = next(kind for kind in _kinds(error) if kind in table)
    root = list(_chain(error))[-1]
    told = table[kind].format(
        address=address,
        repo_id=address.repo_id,
        revision=address.revision,
        where=f"the hub at {constants.ENDPOINT}",
        disk=_full_disk(error),
        answer=_answer(error),
        root=f"{type(root).__name__}: {one_line(root, longest=_MOST_SHOWN)}",
    )
    return kind, told


def _kinds(error: Exception) -> Iterator[str]:
    """What an error may be called, the special names first."""
    from huggingface_hub import errors

    chain, status = list(_chain(error)), _status(error)
    # Which HTTP client stands behind it depends on the version; its parent of all errors is the first parent here.
    of_the_network = (OSError, errors.HfHubHTTPError.__mro__[1])
    # Strangers get a 401 for every repository that they may not see, too.
    refused = [getattr(getattr(cause, "response", None), "headers", {}).get("X-Error-Message", "") for cause in chain]
    names = {
        "disk": _full_disk(error),
        "no id": isinstance(error, errors.HFValidationError),
        "gated": isinstance(error, errors.GatedRepoError),
        "revision": isinstance(error, errors.RevisionNotFoundError),
        "token": status == 401 and any("invalid credentials" in str(said).lower() for said in refused),
        str(status): status is not None,
        "absent": isinstance(error, errors.RepositoryNotFoundError),
        "uncached": isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is None,
        "offline": any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in chain),
        "status": status is not None,
        "value": isinstance(error, ValueError),
        "network": any(isinstance(cause, of_the_network) for cause in chain),
        "unknown": True,
    }
    return (name for name, fits in names.items() if fits)


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error, or what caused it, came with."""
    statuses = (getattr(getattr(cause, "response", None), "status_code", None) for cause in _chain(error))
    return next((status for status in statuses if isinstance(status, int)), None)


def _answer(error: BaseException) -> str:
    """What the server said, or the client's own message."""
    for cause in _chain(error):
        if said := getattr(cause, "server_message", None):
            return f"{_status(cause)}, {one_line(said, longest=_MOST_SHOWN)}"
    return one_line(error, longest=_MOST_SHOWN) or type(error).__name__


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
