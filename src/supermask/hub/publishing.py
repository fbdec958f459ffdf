"""Saving a delta with its model card, and pushing both to the hub."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from supermask.atomic import write_atomically
from supermask.deltas.delta import TaskDelta
from supermask.errors import ConfigurationError, OutputError, SupermaskError
from supermask.hub.address import HubAddress, parse_address
from supermask.hub.card import CARD_FILE, model_card, require_license
from supermask.hub.client import explain_push, import_client
from supermask.hub.escaping import one_line

__all__ = ["PublishedDelta", "push_to_hub", "save_pretrained"]

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


def save_pretrained(
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


def push_to_hub(
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
    full = repo_id if "/" in repo_id else f"owner/{repo_id}"
    if parse_address(full) != HubAddress(full, None, None):
        raise ConfigurationError(
            f"{repo_id!r} is no name of a repository; write OWNER/NAME, or NAME for one of your own"
        )
    HubAddress(full, revision, subfolder)  # refuses what cannot be, before anything is made
    require_license(license)
    if revision is not None and _COMMIT.fullmatch(revision):
        raise ConfigurationError(f"revision {revision!r} is a commit, which never changes; name a branch")
    if revision is not None and create_pr:
        raise ConfigurationError(f"a pull request is against the default branch; leave revision {revision!r} out")
    api = import_client("pushing to the hub").HfApi(token=token)
    try:
        repo_id = str(api.create_repo(repo_id, private=private, exist_ok=True).repo_id)
        # A repository that is there keeps its visibility; nobody should learn of that by having published a secret.
        if private is not None and bool(api.repo_info(repo_id).private) != private:
            raise ConfigurationError(
                f"the hub repository '{repo_id}' is {'public' if private else 'private'}, and private={private} would "
                "not change it; nothing was pushed: change it in its settings, or choose another repository"
            )
        if revision is not None and not revision.startswith("refs/"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            address = str(HubAddress(repo_id, revision, subfolder))
            save_pretrained(delta, scratch, overwrite=True, address=address, license=license)
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=scratch,
                path_in_repo=subfolder,
                revision=revision,
                commit_message=commit_message
                or f"Task delta of {one_line(delta.task.name or 'unnamed task', longest=60)}",
                create_pr=create_pr,
            )
    except SupermaskError:
        raise
    # What the library, its HTTP client and its storage raise changes between releases; none of it is a fault of ours.
    except Exception as error:
        raise explain_push(error, repo_id, revision) from error
    return PublishedDelta(repo_id, str(commit.oid), subfolder, str(commit.commit_url), commit.pr_url)
