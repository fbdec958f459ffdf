"""`supermask store`: many deltas over one base, in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from supermask.cli.options import AllowNew, AsJson, DeltaPath, Revision, StoredBase, argument, option, refuse_together
from supermask.cli.printing import answer, percent, shown_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from supermask.deltas import DeltaDocument, DeltaStore

__all__ = ["ABOUT", "EXAMPLES", "VERBS"]

ABOUT = "Keep many deltas over one base in a folder: add, list, verify, compare."

EXAMPLES = (
    "supermask store add deltas runs/mrpc",
    "supermask store list deltas",
    "supermask store diff deltas mrpc rte",
)

_StoreOrHub = Annotated[
    str, argument("STORE", "Folder of the store; or on the hub, OWNER/NAME or OWNER/NAME@REVISION.")
]


_TO_DECODE = "The base, to decode every mask against it too."
_Place = Literal["role", "block", "tensor"]


def _open(given: str) -> DeltaStore:
    """A store that is only read; from the hub, a snapshot in the cache."""
    from supermask.deltas.store import DeltaStore
    from supermask.hub import resolve_folder

    return DeltaStore(resolve_folder(given))


def add(
    store: Annotated[Path, argument("STORE", "Folder of the store; a new one is made if there is none.")],
    delta: DeltaPath,
    name: Annotated[str | None, option(None, "NAME", "What to call it. \\[default: its task's name]")] = None,
    overwrite: Annotated[bool, option(None, "", "Replace the delta of that name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a copy of a delta into a store.

    The first one decides the base; deltas of another base are refused.
    """
    from supermask.cli.store_report import row_as_json
    from supermask.cli.stored import delta_path
    from supermask.deltas.store import DeltaStore

    added = DeltaStore(store).add(delta_path(delta), name=name, overwrite=overwrite)
    document = added.document
    zeros = "no zeros, as values alone were trained"
    if document.weights:
        zeros = f"{percent(document.sparsity)} % zeros ({document.zeros:,} of {document.weights:,} weights)"
    told = [f"{added.name} added to {store}/: {zeros}, {shown_bytes(added.nbytes)}"]
    answer({"store": str(store), "added": row_as_json(added)}, told, as_json=as_json)


def list_deltas(store: _StoreOrHub, as_json: AsJson = False) -> None:
    """List the deltas of a store: task, method, zeros, size and score.

    Only the files' headers are read; masks and values are not decoded.
    """
    from supermask.cli.store_report import report_listing

    opened = _open(store)
    report_listing(store, opened.base, opened.list(), as_json=as_json)


def verify(
    store: _StoreOrHub,
    base: Annotated[str | None, option("Base", "NAME_OR_DIR", _TO_DECODE)] = None,
    revision: Revision = None,
    allow_new: AllowNew = None,
    as_json: AsJson = False,
) -> None:
    """Check every delta of a store, and tell all faults.

    The checksums of everything are compared; with --base, each mask and
    each value is decoded as well. The exit code is 1 if there is a fault.
    """
    from supermask.cli.store_report import report_verification

    opened = _open(store)
    model = None
    if base is None:
        refuse_together("checksums alone, without --base", {"--revision": revision, "--allow-new": allow_new})
    elif readable := opened.list().deltas:
        model = _base_model([delta.document for delta in readable], base, revision, allow_new)
    result = opened.verify(model)
    report_verification(store, opened.base, result, as_json=as_json)
    if result.faults:
        raise typer.Exit(1)


def remove(
    store: Annotated[Path, argument("STORE", "Folder of the store.")],
    name: Annotated[str, argument("NAME", "Of the delta.")],
    as_json: AsJson = False,
) -> None:
    """Delete a delta from a store."""
    from supermask.deltas.store import DeltaStore

    opened = DeltaStore(store)
    opened.remove(name)
    document = {"store": str(store), "removed": name, "deltas": list(opened.names)}
    answer(document, [f"{name} removed from {store}/, which has {len(opened)} more"], as_json=as_json)


def diff(
    store: _StoreOrHub,
    first: Annotated[str, argument("FIRST", "Name of a delta.")],
    second: Annotated[str, argument("SECOND", "Name of another.")],
    by: Annotated[_Place, option(None, None, "What a row of the table stands for.")] = "role",
    base: StoredBase = None,
    revision: Revision = None,
    allow_new: AllowNew = None,
    as_json: AsJson = False,
) -> None:
    """Compare two deltas of a store: which zeros they share, against chance.

    Chance is zeros at random within each tensor. Two masks of unrelated tasks
    share more than that already, as both favour the same rows and columns.
    """
    from supermask.analysis import delta_overlap
    from supermask.cli.store_report import report_overlap

    opened = _open(store)
    ours, theirs = opened[first], opened[second]
    model = None
    if ours.needs_base or theirs.needs_base or base is not None:
        model = _base_model([ours.document, theirs.document], base, revision, allow_new)
    else:
        refuse_together("deltas that need no base", {"--revision": revision, "--allow-new": allow_new})
    overlap = delta_overlap(ours, theirs, base=model)
    report_overlap(store, (first, ours), (second, theirs), overlap, by=by, as_json=as_json)


def _base_model(
    documents: Sequence[DeltaDocument], base: str | None, revision: str | None, allow_new: Sequence[str] | None
) -> PreTrainedModel:
    """The base of several deltas, with the head of one that says which task it is of: any head will do."""
    from supermask.prediction import stored_base

    told = (document for document in documents if document.task.name and document.task.kind and document.task.metrics)
    chosen = next(told, documents[0])  # if none says, loading by the first says what is missing
    return stored_base(chosen, base, revision, allow_new).model


VERBS = {
    "add": (add, ("supermask store add deltas runs/mrpc", "supermask store add deltas runs/rte --name rte-seed0")),
    "list": (list_deltas, ("supermask store list deltas", "supermask store list deltas --json")),
    "verify": (verify, ("supermask store verify deltas", "supermask store verify deltas --base minilm-l6")),
    "remove": (remove, ("supermask store remove deltas rte-seed0",)),
    "diff": (diff, ("supermask store diff deltas mrpc rte", "supermask store diff deltas mrpc rte --by block --json")),
}
