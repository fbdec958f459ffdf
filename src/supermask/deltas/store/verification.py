"""Whether a store's deltas are what they say: their checksums and, with the base at hand, every single payload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from torch import Tensor, nn

from supermask.deltas.delta import TaskDelta
from supermask.deltas.document import DeltaDocument
from supermask.deltas.fingerprint import fingerprint, named_tensors, require_same_base
from supermask.deltas.store.card import StoreBase, require_base_of_store
from supermask.deltas.store.contents import StoreFault
from supermask.deltas.tensor_bytes import dtype_name
from supermask.errors import BaseMismatchError, DeltaFormatError, SupermaskError

__all__ = ["StoreVerification", "base_tensors", "load_entry", "misfits", "require_base_tensors", "verify_deltas"]


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


def load_entry(folder: Path) -> TaskDelta:
    """Load a delta that another process may just be replacing.

    Args:
        folder: of the delta.

    Raises:
        DeltaFormatError: as `TaskDelta.load`.
    """
    try:
        return TaskDelta.load(folder)
    except DeltaFormatError:
        # Of the folder's two files one may have been the old delta's and one the new one's; then all is well now.
        return TaskDelta.load(folder)


def base_tensors(base: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The named tensors of a base that is given as a model or as its tensors."""
    return named_tensors(base) if isinstance(base, nn.Module) else base


def require_base_tensors(tensors: Mapping[str, Tensor], document: DeltaDocument) -> None:
    """Refuse tensors that are not those of a delta's base; a head may be among them and is not looked at.

    Args:
        tensors: by name.
        document: of the delta.

    Raises:
        BaseMismatchError: naming the tensors that differ or are missing.
    """
    expected = document.base.fingerprint
    found = fingerprint({name: tensors[name] for name in expected.tensors if name in tensors})
    require_same_base(found, expected, base_name=document.base.name)


def misfits(document: DeltaDocument, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Changes that claim another shape or dtype than the base's tensor has; such are not to be decoded.

    Args:
        document: of a delta.
        tensors: of its base, by name.

    Returns:
        What is wrong, by the tensor's name. The head's tensors, which the base does not have, are never among them.
    """
    found = {}
    for record in document.changes:
        tensor = tensors.get(record.name)
        if record.name in document.head or tensor is None:
            continue
        if record.shape != tuple(tensor.shape):
            found[record.name] = f"claims the shape {record.shape}, and the base's is {tuple(tensor.shape)}"
        elif record.dtype is not None and record.dtype != dtype_name(tensor.dtype):
            found[record.name] = f"claims the dtype {record.dtype}, and the base's is {dtype_name(tensor.dtype)}"
    return found


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
    tensors = base_tensors(base) if base is not None else None
    checked = False
    for name in names:
        try:
            delta = load_entry(folder / name)
            require_base_of_store(delta.document.base, store_base, delta=name, store=folder)
        except (DeltaFormatError, BaseMismatchError) as error:
            if (folder / name).is_dir():  # else it was removed a moment ago
                yield StoreFault(name=name, what=str(error))
            continue
        if tensors is None:
            continue
        if not checked:  # all deltas from here on have this base, so it is hashed once
            require_base_tensors(tensors, delta.document)
            checked = True
        for what in _undecodable(delta, tensors):
            yield StoreFault(name=name, what=what)


def _undecodable(delta: TaskDelta, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    misfitting = misfits(delta.document, tensors)
    changes = delta.changes_for(tensors)
    for record in delta.document.changes:
        if record.name in misfitting:
            yield f"{record.name}: {misfitting[record.name]}"
            continue
        try:
            changes[record.name]
        except SupermaskError as error:
            yield str(error)
