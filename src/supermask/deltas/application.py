"""Putting a delta on a model in place, and taking it off again to the last bit."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, final

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from supermask.deltas.changes import Change
from supermask.deltas.document import ChangeRecord, DeltaDocument
from supermask.deltas.fingerprint import named_tensors, require_base
from supermask.deltas.overwriting import Overwritten, Reserve
from supermask.deltas.tensor_bytes import dtype_name
from supermask.deltas.transition import Transition, overlaps_itself
from supermask.deltas.workers import undisturbed
from supermask.errors import BaseMismatchError, DeltaStateError

__all__ = ["WEIGHTS_AT_A_TIME", "applied_digest", "apply_delta_", "find_targets", "remove_delta_"]

WEIGHTS_AT_A_TIME = 5 << 20
"""Tensors that are decoded at the same time have this many weights together, or are one."""

_Mark: TypeAlias = tuple[weakref.ref[Tensor], int, int | None]


@final
@dataclass(frozen=True)
class _Application:
    """A delta that is on a model. Tensors are kept by name: a reference to the model would keep it alive for ever.

    `marks` tell whether a tensor of the model has been written to since; None if its base was not verified. `reserve`
    is for the next delta after this one; None if it goes back to the system.
    """

    document: DeltaDocument
    digest: str
    overwritten: Mapping[str, Overwritten]
    dtypes: Mapping[str, torch.dtype]
    marks: Mapping[str, _Mark] | None
    reserve: Reserve | None


_applications: weakref.WeakKeyDictionary[nn.Module, _Application] = weakref.WeakKeyDictionary()
_spares: weakref.WeakKeyDictionary[nn.Module, Reserve] = weakref.WeakKeyDictionary()


def applied_digest(model: nn.Module) -> str | None:
    """The digest of the delta that is on a model, or None.

    Example:
        >>> applied_digest(nn.Linear(2, 2)) is None
        True
    """
    application = _applications.get(model)
    return application.digest if application else None


def apply_delta_(
    model: nn.Module,
    document: DeltaDocument,
    changes: Mapping[str, Change],
    *,
    verify: bool = True,
    switch: bool = False,
    threads: int | None = None,
    decoded: bool = False,
) -> None:
    """Change a model's tensors in place, all of them or none.

    A switch from another delta asks for no new fingerprint if the model is known to be the base but for that delta:
    the other delta's fingerprint was checked and is the same one, and torch has counted no write to any tensor since,
    nor is one another object or elsewhere in memory. Only writes behind torch's back, through `.data`, numpy or a
    library of its own, stay unseen; removal, which always takes the fingerprint again, reports them.

    Args:
        model: the base, on any device, in any mode.
        document: what the delta says about itself.
        changes: by tensor name; each is asked for once, in some thread, while its tensor holds the base's values, and
            dropped when it is made, so that changes decoded on access never stand in memory all together.
        verify: check the base's fingerprint now, and again on removal.
        switch: if another delta is on the model, take it off; on an error it is on again.
        threads: how many, at least 1; by default one a core.
        decoded: whether the changes are in memory as they are, and stay there; otherwise each is decoded when it is
            asked for, and no more than a few at a time. Also, whether the memory for what is overwritten stays with the
            model for the next delta.

    Raises:
        DeltaStateError: if a delta is applied already and `switch` is False, or something else changed the model
            since, or a module is parametrised, as it is while a method is attached.
        BaseMismatchError: if the model is not the delta's base, or its head has another shape.
    """
    current = _applications.get(model)
    if current and not switch:
        raise DeltaStateError(
            f"a delta ({_describe(current.document)}) is applied to this model already, so another "
            f"({_describe(document)}) cannot be; remove it first, or pass switch=True to put this one in its place"
        )
    _require_not_parametrised(model)
    tensors = named_tensors(model)
    targets = find_targets(tensors, document)
    leaving_targets = _find_changed(tensors, current) if current else {}
    reserve = _reserve(targets, document, holds_places=not decoded, spare=_spares.pop(model, None))
    transition = Transition(
        targets,
        changes,
        leaving=current.overwritten if current else {},
        leaving_targets=leaving_targets,
        reserve=reserve,
    )
    untouched = current is not None and _is_untouched(tensors, current.marks)
    with torch.no_grad():
        try:
            if verify and not (current and untouched and current.document.base.digest == document.base.digest):
                transition.take_off_()
                _verify(tensors, document, current)
            transition.go_(threads=threads, weights_at_a_time=None if decoded else WEIGHTS_AT_A_TIME)
            dtypes = {name: tensor.dtype for name, tensor in targets.items()}
            marks = _marks(tensors) if verify else None
            kept = reserve if decoded else None
            _register(model, _Application(document, document.digest, transition.overwritten, dtypes, marks, kept))
        except BaseException:
            undisturbed(transition.back_)
            back = replace(current, marks=_marks(tensors)) if current and untouched else current
            undisturbed(lambda: _register(model, back))
            raise
    if current and current.reserve:
        _spares[model] = current.reserve


def remove_delta_(model: nn.Module, document: DeltaDocument, *, threads: int | None = None) -> None:
    """Give a model back every bit that applying the delta overwrote; an interrupt waits until that is done.

    Args:
        model: with the delta on it, on whatever device it is by now.
        document: of the delta that is to come off.
        threads: how many, at least 1; by default one a core.

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
    targets = _find_changed(named_tensors(model), application)
    transition = Transition({}, {}, leaving=application.overwritten, leaving_targets=targets)

    def remove() -> None:
        with torch.no_grad():
            transition.go_(threads=threads, weights_at_a_time=None)
        _register(model, None)

    undisturbed(remove)
    if application.reserve:
        _spares[model] = application.reserve
    if application.marks is not None:
        try:
            require_base(model, document.base.fingerprint, head=document.head)
        except BaseMismatchError as error:
            raise DeltaStateError(
                f"the delta is removed, but something else changed the model while it was applied: {error}"
            ) from None


def _verify(tensors: Mapping[str, Tensor], document: DeltaDocument, current: _Application | None) -> None:
    """Check the fingerprint of a model that no delta is on, or none any more."""
    try:
        require_base(tensors, document.base.fingerprint, head=document.head)
    except BaseMismatchError as error:
        if current and current.marks is not None and current.document.base.digest == document.base.digest:
            raise DeltaStateError(
                f"something else changed the model while a delta ({_describe(current.document)}) was applied, which is "
                f"still on it: {error}"
            ) from None
        raise


def find_targets(tensors: Mapping[str, Tensor], document: DeltaDocument) -> dict[str, Tensor]:
    """The tensors that a delta changes.

    Args:
        tensors: of a model, by name.
        document: of the delta.

    Returns:
        By name in model order.

    Raises:
        BaseMismatchError: naming some that are missing, of another shape or dtype, without values, or one for two.
    """
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
    if overlaps_itself(tensor):
        return f"has elements that share memory (strides {tensor.stride()}): give it memory of its own with clone()"
    return ""


def _find_changed(tensors: Mapping[str, Tensor], application: _Application) -> dict[str, Tensor]:
    """The tensors that were changed, if what was overwritten still fits them."""
    try:
        targets = find_targets(tensors, application.document)
    except BaseMismatchError as error:
        raise DeltaStateError(f"the model was converted after the delta was applied: {error}") from None
    for name, tensor in targets.items():
        if tensor.dtype is not application.dtypes[name]:
            raise DeltaStateError(
                f"the model was converted after the delta was applied: {name} is {dtype_name(tensor.dtype)} and was "
                f"{dtype_name(application.dtypes[name])}; convert it back, or load the base again"
            )
    return targets


def _reserve(
    targets: Mapping[str, Tensor], document: DeltaDocument, *, holds_places: bool, spare: Reserve | None
) -> Reserve:
    masks = (
        (record.zeros, record.weights, targets[record.name].element_size())
        for record in document.changes
        if record.zeros is not None and record.kind == "keep_mask"
    )
    return Reserve(masks, holds_places=holds_places, spare=spare)


def _require_not_parametrised(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if is_parametrized(module):
            raise DeltaStateError(f"module {name!r} is parametrised, by a method perhaps; detach the method first")


def _describe(document: DeltaDocument) -> str:
    return f"task {document.task.name or 'unnamed'}, method {document.method.kind or 'unnamed'}"


def _register(model: nn.Module, application: _Application | None) -> None:
    if application is None:
        _applications.pop(model, None)
    else:
        _applications[model] = application


def _marks(tensors: Mapping[str, Tensor]) -> dict[str, _Mark]:
    return {name: (weakref.ref(tensor), tensor.data_ptr(), _writes(tensor)) for name, tensor in tensors.items()}


def _is_untouched(tensors: Mapping[str, Tensor], marks: Mapping[str, _Mark] | None) -> bool:
    """Whether these are the very tensors that were marked, where they were, and torch has written to none of them."""
    if marks is None or marks.keys() != tensors.keys():
        return False
    for name, tensor in tensors.items():
        marked, address, writes = marks[name]
        if marked() is not tensor or tensor.data_ptr() != address or writes is None or _writes(tensor) != writes:
            return False
    return True


def _writes(tensor: Tensor) -> int | None:
    """How many writes torch has counted; it does not count those to tensors that were made in inference mode."""
    return None if tensor.is_inference() else tensor._version
