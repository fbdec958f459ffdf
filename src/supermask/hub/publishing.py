"""Saving a delta with its model card, and pushing both to the hub."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from supermask.atomic import write_atomically
from supermask.errors import ConfigurationError, OutputError, SupermaskError
from supermask.hub.address import HubAddress, parse_address, require_revision, require_subfolder
from supermask.hub.card import CARD_FILE, model_card, require_license
from supermask.hub.client import import_client
from supermask.hub.escaping import one_line
from supermask.hub.failures import explain_publish

if TYPE_CHECKING:
    from supermask.deltas.delta import TaskDelta

__all__ = ["PublishedDelta", "publish_delta", "save_with_card"]

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@final
@dataclass(frozen=True)
class PublishedDelta:
    """Where a delta was pushed to.

    Args:
        repo_id: the repository, `OWNER/NAME`.
        commit: the commit that holds it, which `from_pretrained` takes as `revision`.
        subfolder: the delta's folder, if it is not the repository itself.
        url: the commit's page.
        pull_request: the page of the pull request, if one was opened.
    """

    repo_id: str
    commit: str
    subfolder: str | None
    url: str
    pull_request: str | None


def save_with_card(
    delta: TaskDelta,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    address: str | None = None,
    license: str | None = None,
) -> Path:
    """Write what `TaskDelta.save` writes, and the model card `README.md` beside it.

    Args:
        delta: the delta.
        folder: a folder, made if need be.
        overwrite: replace a delta and a card that are there.
        address: where the delta will be loaded from, for the card.
        license: the identifier of a licence on the hub.

    Returns:
        The folder.

    Raises:
        OutputError: if a delta or a `README.md` is there already, or the place is not writable or full.
        ConfigurationError: if the folder's name is that of a single file, or the licence is no identifier.
        MissingDependencyError: if huggingface_hub is not installed.
    """
    folder = Path(folder)
    if folder.suffix == ".safetensors":
        raise ConfigurationError(
            f"{folder}: names a single file, and a model card needs a folder; leave the suffix out"
        )
    card = model_card(delta.document, nbytes=delta.nbytes_on_disk(), address=address, license=license)
    place = folder / CARD_FILE
    if os.path.lexists(place) and not overwrite:
        raise OutputError(f"{place} exists already; pass overwrite=True to replace it, or choose another path")
    delta.save(folder, overwrite=overwrite)
    write_atomically(place, card.encode("utf-8"))
    return folder


def publish_delta(
    delta: TaskDelta,
    repo_id: str,
    *,
    subfolder: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    license: str | None = None,
) -> PublishedDelta:
    """Push a delta and its model card to the hub, in one commit; a card that is there is replaced.

    Args:
        delta: the delta.
        repo_id: `OWNER/NAME`, or `NAME` for a repository of one's own; made if it is not there.
        subfolder: the delta's folder in a repository of many.
        private: whether a new repository is private; the account's default without it.
        token: a token, or False for none; the one logged in with without it.
        revision: the branch to push to, made if it is not there; the default branch without it.
        commit_message: the commit's first line.
        create_pr: open a pull request instead, also where one may not write.
        license: the identifier of a licence on the hub, for the card.

    Returns:
        Where it went.

    Raises:
        ConfigurationError: if an argument cannot be, or `private` contradicts what a repository that is there is.
        OutputError: if the hub refuses or cannot be reached.
        MissingDependencyError: if huggingface_hub is not installed.
    """
    _check_arguments(repo_id, subfolder=subfolder, revision=revision, license=license)
    if create_pr and revision is not None:
        raise ConfigurationError(f"a pull request is against the default branch; leave revision {revision!r} out")
    client = import_client("pushing to the hub")
    api: Any = client.HfApi(token=token)
    try:
        repo_id = str(api.create_repo(repo_id, private=private, exist_ok=True).repo_id)
        if private is not None:
            _require_visibility(api, repo_id, private=private)
        if revision is not None and not revision.startswith("refs/"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            address = HubAddress(repo_id, revision, subfolder)
            save_with_card(delta, scratch, overwrite=True, address=_as_written(address), license=license)
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=scratch,
                path_in_repo=subfolder,
                revision=revision,
                commit_message=commit_message or _default_message(delta),
                create_pr=create_pr,
            )
    except SupermaskError:
        raise
    # What the library, its HTTP client and its storage raise changes between releases; none of it is a fault of ours.
    except Exception as error:
        raise explain_publish(error, repo_id, revision) from error
    return PublishedDelta(repo_id, str(commit.oid), subfolder, str(commit.commit_url), commit.pr_url)


def _check_arguments(repo_id: str, *, subfolder: str | None, revision: str | None, license: str | None) -> None:
    full = repo_id if "/" in repo_id else f"owner/{repo_id}"
    if parse_address(full) != HubAddress(full):
        raise ConfigurationError(
            f"{repo_id!r} is no name of a repository; write OWNER/NAME, or NAME for one of your own"
        )
    if subfolder is not None:
        require_subfolder(subfolder)
    if license is not None:
        require_license(license)
    if revision is not None:
        require_revision(revision)
        if _COMMIT.fullmatch(revision):
            raise ConfigurationError(f"revision {revision!r} is a commit, which never changes; name a branch")


def _require_visibility(api: Any, repo_id: str, *, private: bool) -> None:
    """A repository that is there keeps its visibility; nobody should learn of that by having published a secret."""
    if bool(api.repo_info(repo_id).private) != private:
        raise ConfigurationError(
            f"the hub repository '{repo_id}' is {'public' if private else 'private'}, and private={private} would not "
            "change it; nothing was pushed: change it in its settings, or choose another repository"
        )


def _as_written(address: HubAddress) -> str:
    """The address as `parse_address` reads it."""
    return f"hf://{address}" if address.subfolder and not address.revision else str(address)


def _default_message(delta: TaskDelta) -> str:
    return f"Task delta of {one_line(delta.task.name or 'unnamed task', longest=60)}"
