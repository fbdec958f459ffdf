"""Whether a store's deltas are what they say: their checksums and, with the base at hand, every single payload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from torch import Tensor, nn

from supermask.deltas.delta import TaskDelta
from supermask.deltas.fingerprint import named_tensors, require_base
from supermask.deltas.store.card import StoreBase, require_base_of_store
from supermask.deltas.store.contents import StoreFault
from supermask.errors import BaseMismatchError, DeltaFormatError, SupermaskError

__all__ = ["StoreVerification", "verify_deltas"]


@final
@dataclass(frozen=True, kw_only=True)
class StoreVerification:
    """What came of checking a store.

    Args:
        intact: names of the deltas without a fault.
        faults: everything that is wrong; a delta may have several.
        strangers: what is no delta at all, and was not looked into.
        decoded: whether payloads were decoded against the base, or their checksums compared alone.
    """

    intact: tuple[str, ...]
    faults: tuple[StoreFault, ...]
    strangers: tuple[StoreFault, ...]
    decoded: bool


def verify_deltas(
    folder: Path, names: tuple[str, ...], store_base: StoreBase, base: nn.Module | Mapping[str, Tensor] | None
) -> Iterator[StoreFault]:
    """Find all faults of the deltas in a store.

    Args:
        folder: the store.
        names: of its deltas.
        store_base: which base it is over.
        base: that base, to decode the payloads against.

    Yields:
        Fault after fault. Of a file's own structure and checksums the first fault is told, since what follows cannot be
        trusted; of payloads that do not decode, each.

    Raises:
        BaseMismatchError: if the base given is not the store's.
    """
    tensors = named_tensors(base) if base is not None else None
    checked = False
    for name in names:
        try:
            delta = TaskDelta.load(folder / name)
            require_base_of_store(delta.document.base, store_base, delta=name, store=folder)
        except (DeltaFormatError, BaseMismatchError) as error:
            if (folder / name).is_dir():  # else it was removed a moment ago
                yield StoreFault(name=name, what=str(error))
            continue
        if tensors is None:
            continue
        if not checked:  # all deltas from here on have this base, so it is hashed once
            require_base(tensors, delta.base)
            checked = True
        for what in _undecodable(delta, tensors):
            yield StoreFault(name=name, what=what)


def _undecodable(delta: TaskDelta, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    changes = delta.changes_for(tensors)
    for name in changes:
        try:
            changes[name]
        except SupermaskError as error:
            yield str(error)
