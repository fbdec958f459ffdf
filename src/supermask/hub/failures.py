"""What the hub's client raises, said in one line with the remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from supermask.errors import OutputError, SupermaskError, UnknownNameError
from supermask.hub.address import HubAddress

__all__ = ["explain_fetch", "explain_publish"]

_LOG_IN = "log in with `hf auth login`, or pass a token"


def explain_fetch(error: Exception, address: HubAddress, *, local_files_only: bool) -> SupermaskError:
    """Say why something could not be fetched.

    Args:
        error: what the client raised.
        address: what was asked for.
        local_files_only: whether the cache alone was to be read.

    Returns:
        The error to raise: it names what, where and the remedy.
    """
    from huggingface_hub import constants, errors

    what, where = f"'{address}'", f"the hub at {constants.ENDPOINT}"
    if place := _full_disk(error):
        return OutputError(f"no space is left on the disk{place} to fetch {what}; free some space or pass cache_dir")
    if isinstance(error, errors.HFValidationError):
        return UnknownNameError(f"{what} is neither a file or folder here nor a hub id; a hub id is OWNER/NAME")
    if isinstance(error, errors.GatedRepoError):
        return UnknownNameError(
            f"the hub repository '{address.repo_id}' is gated; accept its terms on its page, then {_LOG_IN}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UnknownNameError(
            f"the hub repository '{address.repo_id}' has no revision {address.revision!r}; leave it out or correct it"
        )
    status = _status(error)
    if status == 401 and _is_about_the_token(error):
        return UnknownNameError(f"{where} does not accept this token for {what}; {_LOG_IN}")
    if status == 401 or isinstance(error, errors.RepositoryNotFoundError):
        return UnknownNameError(
            f"'{address.repo_id}' is no file or folder here, and {where} has no such repository, or it is private and "
            f"this token may not see it; check the name, or {_LOG_IN}"
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        if local_files_only:
            return UnknownNameError(f"{what} is not in the cache; leave local_files_only out to fetch it from {where}")
        if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in _chain(error)):
            return UnknownNameError(
                f"{what} is not in the cache, and HF_HUB_OFFLINE is set; unset it to fetch it from {where}"
            )
    if status is not None:
        return UnknownNameError(f"{where} answers for {what}: {_answer(error)}; try again later")
    if not _is_of_the_network(error):
        return UnknownNameError(f"{what} could not be fetched from {where} ({_root_in_words(error)}); try again")
    return UnknownNameError(
        f"{what} is no file or folder here and not in the cache, and {where} cannot be reached "
        f"({_root_in_words(error)}); check the name and the connection"
    )


def explain_publish(error: Exception, repo_id: str, revision: str | None) -> SupermaskError:
    """Say why something could not be published.

    Args:
        error: what the client raised.
        repo_id: where it was to go.
        revision: the branch it was to go to, if one was named.

    Returns:
        The error to raise: it names what, where and the remedy.
    """
    from huggingface_hub import constants, errors

    where = f"the hub at {constants.ENDPOINT}"
    failed = f"the delta cannot be pushed to '{repo_id}'"
    if place := _full_disk(error):
        return OutputError(f"{failed}: no space is left on the disk{place}; free some space")
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in _chain(error)):
        return OutputError(f"{failed}: HF_HUB_OFFLINE is set; unset it")
    if isinstance(error, errors.RevisionNotFoundError):
        return OutputError(f"{failed}: it has no branch {revision!r}; leave revision out or correct it")
    status = _status(error)
    if status == 401:
        return OutputError(f"{failed}: {where} wants a token, or does not accept this one; {_LOG_IN}")
    if status == 403:
        return OutputError(
            f"{failed}: this token may not write there ({_answer(error)}); use a token with write access, a name of "
            "your own, or create_pr"
        )
    if status is not None or isinstance(error, ValueError):
        return OutputError(f"{failed}: {where} answers: {_answer(error)}; correct it, or try again later")
    if not _is_of_the_network(error):
        return OutputError(f"{failed} ({_root_in_words(error)}); try again")
    return OutputError(f"{failed}: {where} cannot be reached ({_root_in_words(error)}); check the connection")


def _is_of_the_network(error: BaseException) -> bool:
    from huggingface_hub.errors import HfHubHTTPError

    # Which HTTP client stands behind it depends on the version; its parent of all errors is the first parent here.
    kinds = (OSError, HfHubHTTPError.__mro__[1])
    return any(isinstance(cause, kinds) for cause in _chain(error))


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error, or what caused it, came with."""
    for cause in _chain(error):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _is_about_the_token(error: BaseException) -> bool:
    """Whether a 401 is for a token that is none; strangers get one for every repository that they may not see, too."""
    headers = [getattr(getattr(cause, "response", None), "headers", {}) for cause in _chain(error)]
    return any("invalid credentials" in str(found.get("X-Error-Message", "")).lower() for found in headers)


def _answer(error: BaseException) -> str:
    """What the server said: the client's message without its line ends, or the server's own part of it."""
    for cause in _chain(error):
        said = getattr(cause, "server_message", None)
        if said:
            return f"{_status(cause)}, {_one_line(said)}"
    return _one_line(error)


def _root_in_words(error: BaseException) -> str:
    root = list(_chain(error))[-1]
    return f"{type(root).__name__}: {_one_line(root)}"


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


def _one_line(message: object) -> str:
    text = "".join(character if character.isprintable() else " " for character in str(message))
    text = " ".join(text.split()) or type(message).__name__
    return text if len(text) <= 200 else text[:197] + "..."
