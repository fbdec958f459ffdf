"""`supermask push`: put a delta on the hub."""

from __future__ import annotations

from typing import Annotated

from supermask.cli.options import AsJson, DeltaPath, argument, option
from supermask.cli.printing import answer, shown_bytes

__all__ = ["EXAMPLES", "push"]

EXAMPLES = (
    "supermask push sentiment me/sentiment-delta --private",
    "supermask push runs/mrpc me/glue-deltas --subfolder mrpc --license apache-2.0",
    "supermask inspect me/sentiment-delta",
)


def push(
    delta: DeltaPath,
    repository: Annotated[str, argument("REPO", "OWNER/NAME, or NAME for one of your own; made if it is not there.")],
    subfolder: Annotated[str | None, option(None, "FOLDER", "The delta's folder in a repository of many.")] = None,
    private: Annotated[bool, option(None, "", "Make a new repository private; refuse a public one.")] = False,
    revision: Annotated[str | None, option(None, "BRANCH", "Branch to push to; made if it is not there.")] = None,
    message: Annotated[str | None, option(None, "TEXT", "The commit's message.")] = None,
    license: Annotated[
        str | None, option(None, "ID", "Licence of the delta, for its card, such as apache-2.0.")
    ] = None,
    create_pr: Annotated[bool, option(None, "", "Open a pull request, also where you may not write.")] = False,
    as_json: AsJson = False,
) -> None:
    """Push a delta to the hub, with a model card made from what it says.

    The delta, its configuration and the card go up in one commit; a card
    that is there is replaced. Log in first with `hf auth login`, or set
    HF_TOKEN.
    """
    from supermask.cli.stored import load_delta
    from supermask.hub import push_to_hub

    stored = load_delta(delta)
    pushed = push_to_hub(
        stored,
        repository,
        subfolder=subfolder,
        private=True if private else None,
        revision=revision,
        commit_message=message,
        create_pr=create_pr,
        license=license,
    )
    size = stored.nbytes_on_disk()
    document = {
        "repository": pushed.repo_id,
        "subfolder": pushed.subfolder,
        "commit": pushed.commit,
        "url": pushed.url,
        "pull_request": pushed.pull_request,
        "delta": stored.digest,
        "bytes": size,
    }
    place = pushed.repo_id + (f", folder {pushed.subfolder}" if pushed.subfolder else "")
    what = f"{stored.task.name or 'the delta'}, {shown_bytes(size)}, pushed to {place}"
    answer(document, [what, pushed.pull_request or pushed.url], as_json=as_json)
