"""Putting a delta on a model in place, and taking it off again to the last bit."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from supermask.deltas.changes import Change, KeepMask
from supermask.deltas.document import ChangeRecord, DeltaDocument
from supermask.deltas.fingerprint import base_fingerprint, named_tensors, require_same_base
from supermask.deltas.tensor_bytes import as_bits, dtype_name
from supermask.errors import BaseMismatchError, DeltaStateError

__all__ = ["applied_digest", "apply_delta_", "remove_delta_"]


@final
@dataclass(frozen=True)
class _DroppedValues:
    """What a keep mask overwrote: the dropped weights' bits in row-major order, and the mask at one bit a weight."""

    packed_keep: npt.NDArray[np.uint8]
    values: Tensor

    def restore_(self, bits: Tensor) -> None:
        keep = np.unpackbits(self.packed_keep, count=bits.numel()).view(np.bool_)
        dropped = torch.from_numpy(keep).logical_not_().reshape(bits.shape).to(bits.device)
        bits[dropped] = self.values.to(bits.device)


@final
@dataclass(frozen=True)
class _OldTensor:
    """What values overwrote: the whole tensor's bits."""

    values: Tensor

    def restore_(self, bits: Tensor) -> None:
        bits.copy_(self.values)


_Overwritten: TypeAlias = _DroppedValues | _OldTensor


@final
@dataclass(frozen=True)
class _Application:
    """A delta that is on a model. Tensors are kept by name: a reference to the model would keep it alive for ever."""

    document: DeltaDocument
    digest: str
    overwritten: Mapping[str, _Overwritten]
    dtypes: Mapping[str, torch.dtype]
    verified: bool


_applications: weakref.WeakKeyDictionary[nn.Module, _Application] = weakref.WeakKeyDictionary()


def applied_digest(model: nn.Module) -> str | None:
    """The digest of the delta that is on a model, or None.

    Example:
        >>> applied_digest(nn.Linear(2, 2)) is None
        True
    """
    application = _applications.get(model)
    return application.digest if application else None


def apply_delta_(
    model: nn.Module, document: DeltaDocument, changes: Mapping[str, Change], *, verify: bool = True
) -> None:
    """Change a model's tensors in place, all of them or none.

    Args:
        model: the base, on any device, in any mode.
        document: what the delta says about itself.
        changes: by tensor name; taken one after the other, so that changes decoded on access never stand in memory
            together.
        verify: check the base's fingerprint now, and again on removal.

    Raises:
        DeltaStateError: if a delta is applied already, or a module is parametrised, as it is while a method is
            attached.
        BaseMismatchError: if the model is not the delta's base, or its head has another shape.
    """
    _require_ready(model)
    tensors = named_tensors(model)
    targets = _find_targets(tensors, document)
    if verify:
        found = base_fingerprint(model, head=document.head)
        require_same_base(found, document.base.fingerprint, base_name=document.base.name)
    overwritten: dict[str, _Overwritten] = {}
    with torch.no_grad(), _undone_on_failure(targets, overwritten):
        for name, tensor in targets.items():
            _change_(name, tensor, changes[name], overwritten)
    dtypes = {name: tensor.dtype for name, tensor in targets.items()}
    _applications[model] = _Application(document, document.digest, overwritten, dtypes, verified=verify)


def remove_delta_(model: nn.Module, document: DeltaDocument) -> None:
    """Give a model back every bit that applying the delta overwrote.

    Args:
        model: with the delta on it, on whatever device it is by now.
        document: of the delta that is to come off.

    Raises:
        DeltaStateError: if that delta is not on the model, or a tensor has another shape or dtype by now: nothing has
            changed then. Also if the base's fingerprint was checked when the delta was applied and is another after
            removal, because something else has changed the model in between: the delta is off then.
    """
    application = _applications.get(model)
    if application is None:
        raise DeltaStateError(f"no delta is applied to this {type(model).__name__}, so none can be removed")
    if application.digest != document.digest:
        raise DeltaStateError(
            f"another delta ({_describe(application.document)}) is applied to this model; remove that one"
        )
    _require_not_parametrised(model)
    targets = _find_changed(model, application)
    with torch.no_grad():
        _restore_(targets, application.overwritten)
    del _applications[model]
    if application.verified:
        try:
            found = base_fingerprint(model, head=document.head)
            require_same_base(found, document.base.fingerprint, base_name=document.base.name)
        except BaseMismatchError as error:
            raise DeltaStateError(
                f"the delta is removed, but something else changed the model while it was applied: {error}"
            ) from None


def _require_ready(model: nn.Module) -> None:
    if application := _applications.get(model):
        raise DeltaStateError(
            f"a delta ({_describe(application.document)}) is applied to this model already; remove it first"
        )
    _require_not_parametrised(model)


def _require_not_parametrised(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if is_parametrized(module):
            raise DeltaStateError(f"module {name!r} is parametrised, by a method perhaps; detach the method first")


def _find_changed(model: nn.Module, application: _Application) -> dict[str, Tensor]:
    """The tensors that were changed, if what was overwritten still fits them."""
    try:
        targets = _find_targets(named_tensors(model), application.document)
    except BaseMismatchError as error:
        raise DeltaStateError(f"the model was converted after the delta was applied: {error}") from None
    for name, tensor in targets.items():
        if tensor.dtype is not application.dtypes[name]:
            raise DeltaStateError(
                f"the model was converted after the delta was applied: {name} is {dtype_name(tensor.dtype)} and was "
                f"{dtype_name(application.dtypes[name])}; convert it back, or load the base again"
            )
    return targets


def _restore_(targets: Mapping[str, Tensor], overwritten: Mapping[str, _Overwritten]) -> None:
    """Put back what is on record, last change first, so that tensors that share memory come out right too."""
    for name in reversed(list(overwritten)):
        overwritten[name].restore_(as_bits(targets[name]))


def _describe(document: DeltaDocument) -> str:
    task, method = (section.get(key) for section, key in ((document.task, "name"), (document.method, "kind")))
    return f"task {task or 'unnamed'}, method {method or 'unnamed'}"


def _find_targets(tensors: Mapping[str, Tensor], document: DeltaDocument) -> dict[str, Tensor]:
    """The tensors that the delta changes, checked for shape, dtype and being there once; all faults together."""
    faults: list[str] = []
    targets: dict[str, Tensor] = {}
    places: dict[tuple[str, int], str] = {}
    for record in document.changes:
        tensor = tensors.get(record.name)
        fault = _fault(record, tensor, head=record.name in document.head)
        if fault or tensor is None:
            faults.append(f"{record.name} {fault}")
            continue
        if tensor.numel():
            twin = places.setdefault((str(tensor.device), tensor.data_ptr()), record.name)
            if twin != record.name:
                faults.append(f"{record.name} and {twin} are one tensor here and two in the delta")
        targets[record.name] = tensor
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        name = document.base.name or document.base.architecture
        raise BaseMismatchError(
            f"this model does not fit the delta, which was learnt on {name}: {'; '.join(faults[:3])}{more}"
        )
    return targets


def _fault(record: ChangeRecord, tensor: Tensor | None, *, head: bool) -> str:
    part = "head" if head else "base"
    if tensor is None:
        return f"of the delta's {part} is missing here"
    if tensor.is_meta:
        return "is on the meta device: load the model's weights first"
    if tuple(tensor.shape) != record.shape:
        remedy = ": load the base with the task's number of labels" if head else ""
        return f"has shape {tuple(tensor.shape)} here and {record.shape} in the delta's {part}{remedy}"
    if record.dtype is not None and dtype_name(tensor.dtype) != record.dtype:
        return f"is {dtype_name(tensor.dtype)} here, not {record.dtype}: load the base with dtype=torch.{record.dtype}"
    return ""


def _change_(name: str, tensor: Tensor, change: Change, overwritten: dict[str, _Overwritten]) -> None:
    """Change one tensor in place; what it overwrites is on record before the first bit moves."""
    bits = as_bits(tensor)
    if isinstance(change, KeepMask):
        dropped = change.keep.logical_not().to(bits.device)
        packed = np.packbits(change.keep.cpu().contiguous().numpy())
        overwritten[name] = _DroppedValues(packed, bits[dropped])
        bits.masked_fill_(dropped, 0)
    else:
        changed = as_bits(change.apply(tensor))
        overwritten[name] = _OldTensor(bits.clone())
        bits.copy_(changed)


@contextmanager
def _undone_on_failure(targets: Mapping[str, Tensor], overwritten: Mapping[str, _Overwritten]) -> Iterator[None]:
    """Put back what is on record if the block fails, on an interrupt too."""
    try:
        yield
    except BaseException:
        _restore_(targets, overwritten)
        raise
