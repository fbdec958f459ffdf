"""Putting a delta on a model in place, and taking it off again to the last bit.

Each tensor is changed by itself, a few of them in threads. In a switch the old delta comes off a tensor before the new
change to it is decoded, so a change that is coded against the base's weights always finds them. Whatever fails on the
way, the model is in the end as it was. A model has one lock: a second thread waits for the first.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeAlias, final

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from supermask.deltas.changes import Change, require_fit
from supermask.deltas.document import ChangeRecord, DeltaDocument
from supermask.deltas.fingerprint import named_tensors, require_base
from supermask.deltas.keep_mask import KeepMask, Overwritten
from supermask.deltas.tensor_bytes import STORED_DTYPES, as_bits
from supermask.deltas.threads import WEIGHTS_AT_A_TIME, run_in_threads, undisturbed
from supermask.errors import BaseMismatchError, DeltaStateError

__all__ = ["applied_digest", "apply_delta_", "find_targets", "holding_base", "remove_delta_"]

_Marks: TypeAlias = dict[str, tuple[weakref.ref[Tensor], int, int | None]]


@final
@dataclass(frozen=True, eq=False)
class _Application:
    """A delta that is on a model. Tensors are kept by name: a reference to the model would keep it alive for ever.

    `marks` tell whether a tensor of the model has been written to since; None if its base was not verified.
    """

    document: DeltaDocument
    overwritten: Mapping[str, Overwritten]
    dtypes: Mapping[str, torch.dtype]
    marks: _Marks | None


@final
@dataclass(eq=False)
class _Place:
    """Room for one delta on a model."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    application: _Application | None = None


_places: weakref.WeakKeyDictionary[nn.Module, _Place] = weakref.WeakKeyDictionary()
_places_lock = threading.RLock()


def applied_digest(model: nn.Module) -> str | None:
    """The digest of the delta that is on a model, or None."""
    application = _place_on(model).application
    return application.document.digest if application else None


@contextmanager
def holding_base(base: nn.Module | Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """A base's tensors by name; DeltaStateError if a delta is on the model, and none comes while the block runs."""
    if not isinstance(base, nn.Module):
        yield base
        return
    place = _place_on(base)
    with place.lock:
        if place.application is not None:
            raise DeltaStateError("a delta is applied to this model, so it is not the base; remove the delta first")
        yield named_tensors(base)


def apply_delta_(
    model: nn.Module,
    document: DeltaDocument,
    changes: Mapping[str, Change] | Callable[[Mapping[str, Tensor]], Mapping[str, Change]],
    *,
    verify: bool = True,
    switch: bool = False,
    threads: int | None = None,
) -> None:
    """Change a model's tensors in place, all of them or none; arguments and errors are those of `TaskDelta.apply_`.

    `changes` stand in memory by tensor name; or they are what makes such of the base's tensors by name, each when it is
    asked for: that is once, in some thread, while the model holds the base's values, and a few at a time. Writes behind
    torch's back, through `.data`, numpy or a library of its own, are not seen before removal, which always takes the
    fingerprint again.
    """
    place = _place_on(model)
    with place.lock, torch.no_grad():
        current = place.application
        if current and not switch:
            raise DeltaStateError(
                f"a delta ({_describe(current.document)}) is applied to this model already, so another "
                f"({_describe(document)}) cannot be; remove it first, or pass switch=True to put this one in its place"
            )
        tensors = _changeable_tensors(model, current)
        is_known = current is not None and _is_untouched(tensors, current.marks)
        same_base = current is not None and current.document.base.digest == document.base.digest
        targets = find_targets(tensors, document)
        leaving = current.overwritten if current else {}
        touched = {**{name: tensors[name] for name in leaving}, **targets}
        bits = {name: as_bits(tensor) for name, tensor in touched.items()}
        must_verify = verify and not (is_known and same_base)
        # A tensor that both deltas change goes from one to the other at once: no other of them shares its memory.
        off_first = {name: bits[name] for name in leaving if must_verify or name not in targets}
        coming = changes(tensors) if callable(changes) else changes
        overwritten: dict[str, Overwritten] = {}
        replaced: dict[str, Tensor] = {}

        def take_off_(name: str) -> None:
            # The values that a delta put in place of others stand nowhere else; a mask can always be put on again.
            if leaving[name].mask is None and name not in replaced:
                replaced[name] = bits[name].clone()
            leaving[name].take_off_(bits[name])

        def change_(name: str) -> None:
            if name in leaving and name not in off_first:
                take_off_(name)
            change = coming[name]
            require_fit(targets[name], change)
            mask, whole = (change, None) if isinstance(change, KeepMask) else (None, as_bits(change.whole))
            overwritten[name] = Overwritten(bits[name], mask)
            overwritten[name].put_on_(bits[name], whole)

        def go_back_() -> None:
            for name, record in overwritten.items():
                record.take_off_(bits[name])
            for name, record in leaving.items():
                record.put_on_(bits[name], replaced.get(name))
            place.application = replace(current, marks=marks()) if current and is_known else current

        def marks() -> _Marks:
            # Torch counts no writes to tensors that were made in inference mode.
            writes = {name: None if tensor.is_inference() else tensor._version for name, tensor in tensors.items()}
            return {name: (weakref.ref(tensors[name]), tensors[name].data_ptr(), writes[name]) for name in tensors}

        try:
            run_in_threads(take_off_, off_first, threads=threads)
            if must_verify:
                try:
                    require_base(tensors, document.base.fingerprint, head=document.head)
                except BaseMismatchError as error:
                    if current and current.marks is not None and same_base:
                        raise DeltaStateError(
                            f"something else changed the model while a delta ({_describe(current.document)}) was "
                            f"applied, which is still on it: {error}"
                        ) from None
                    raise
            at_a_time = WEIGHTS_AT_A_TIME if callable(changes) else None
            run_in_threads(change_, targets, threads=threads, at_a_time=at_a_time)
            dtypes = {name: tensor.dtype for name, tensor in targets.items()}
            place.application = _Application(document, overwritten, dtypes, marks() if verify else None)
        except BaseException:
            undisturbed(go_back_)
            raise


def remove_delta_(model: nn.Module, document: DeltaDocument, *, threads: int | None = None) -> None:
    """Give a model back every bit that applying the delta overwrote; an interrupt waits until that is done.

    Raises:
        DeltaStateError: if that delta is not on the model, or a tensor has another shape or dtype by now: nothing has
            changed then. Also if the base's fingerprint was checked when the delta was applied and is another after
            removal, because something else has changed the model in between: the delta is off then.
    """
    place = _place_on(model)
    with place.lock, torch.no_grad():
        current = place.application
        if current is None:
            raise DeltaStateError(f"no delta is applied to this {type(model).__name__}, so none can be removed")
        if current.document is not document and current.document.digest != document.digest:
            raise DeltaStateError(
                f"another delta ({_describe(current.document)}) is applied to this model; remove that one"
            )
        tensors = _changeable_tensors(model, current)

        def take_off_(name: str) -> None:
            current.overwritten[name].take_off_(as_bits(tensors[name]))

        def remove_() -> None:
            run_in_threads(take_off_, {name: tensors[name] for name in current.overwritten}, threads=threads)
            place.application = None

        undisturbed(remove_)
        if current.marks is not None:
            try:
                require_base(tensors, document.base.fingerprint, head=document.head)
            except BaseMismatchError as error:
                raise DeltaStateError(
                    f"the delta is removed, but something else changed the model while it was applied: {error}"
                ) from None


def find_targets(tensors: Mapping[str, Tensor], document: DeltaDocument) -> dict[str, Tensor]:
    """The tensors that a delta changes, among those of a model; by name in model order.

    Raises:
        BaseMismatchError: naming some that are missing, of another shape or dtype, without values, or share memory.
    """
    found = {record.name: tensors.get(record.name) for record in document.changes}
    faults = [fault for record in document.changes if (fault := _fault(record, found[record.name], document.head))]
    targets = {name: tensor for name, tensor in found.items() if tensor is not None}
    if not faults and (pair := _sharing_memory(targets)):
        faults.append(f"{pair[0]} and {pair[1]} share memory here and are two tensors in the delta")
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        name = document.base.name or document.base.architecture
        raise BaseMismatchError(
            f"this model does not fit the delta, which was learnt on {name}: {'; '.join(faults[:3])}{more}"
        )
    return targets


def _fault(record: ChangeRecord, tensor: Tensor | None, head: tuple[str, ...]) -> str:
    part, remedy = ("head", ": load the base with the task's number of labels") if record.name in head else ("base", "")
    if tensor is None:
        return f"{record.name} of the delta's {part} is missing here"
    if tensor.is_meta:
        return f"{record.name} is on the meta device: load the model's weights first"
    shape, strides, dtype = tuple(tensor.shape), tensor.stride(), record.dtype
    if shape != record.shape:
        return f"{record.name} has shape {shape} here and {record.shape} in the delta's {part}{remedy}"
    if dtype is not None and tensor.dtype is not STORED_DTYPES[dtype]:
        return f"{record.name} is {tensor.dtype} here, not {dtype}: load the base with dtype=torch.{dtype}"
    if _overlaps_itself(tensor):
        return (
            f"{record.name} has elements that share memory (strides {strides}): give it memory of its own with clone()"
        )
    return ""


def _changeable_tensors(model: nn.Module, application: _Application | None) -> dict[str, Tensor]:
    """A model's tensors, if no module is parametrised and what was overwritten still fits them."""
    for name, module in model.named_modules():
        if is_parametrized(module):
            raise DeltaStateError(f"module {name!r} is parametrised, by a method perhaps; detach the method first")
    tensors = named_tensors(model)
    if application is not None:
        converted = "the model was converted after the delta was applied"
        try:
            targets = find_targets(tensors, application.document)
        except BaseMismatchError as error:
            raise DeltaStateError(f"{converted}: {error}") from None
        for name, tensor in targets.items():
            if tensor.dtype is not (before := application.dtypes[name]):
                raise DeltaStateError(
                    f"{converted}: {name} is {tensor.dtype} and was {before}; convert it back, or load the base again"
                )
    return tensors


def _place_on(model: nn.Module) -> _Place:
    with _places_lock:
        return _places.setdefault(model, _Place())


def _describe(document: DeltaDocument) -> str:
    name = repr(document.task.name or "unnamed")[1:-1]  # what a terminal takes for more than text is escaped
    return f"task {name}, method {document.method.kind or 'unnamed'}"


def _is_untouched(tensors: Mapping[str, Tensor], marks: _Marks | None) -> bool:
    """Whether these are the very tensors that were marked, where they were, and torch has written to none of them."""
    if marks is None or marks.keys() != tensors.keys():
        return False
    found = ((*mark, tensors[name]) for name, mark in marks.items())
    return all(
        marked() is tensor and address == tensor.data_ptr() and not tensor.is_inference() and writes == tensor._version
        for marked, address, writes, tensor in found
    )


def _overlaps_itself(tensor: Tensor) -> bool:
    """Whether elements of a tensor may share memory with each other, as those of an expanded one do."""
    reached = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride <= reached:
                return True
            reached += stride * (size - 1)
    return False


def _sharing_memory(tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """The names of two tensors that have bytes in common, if there are two. None of them overlaps itself."""
    filled = [(name, tensor) for name, tensor in tensors.items() if tensor.numel()]
    filled.sort(key=lambda item: (str(item[1].device), item[1].data_ptr()))
    for place, (name, tensor) in enumerate(filled, start=1):
        for other_name, other in islice(filled, place, None):
            if other.device != tensor.device or other.data_ptr() >= _end(tensor):
                break
            if _share_bytes(tensor, other):
                return name, other_name
    return None


def _share_bytes(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors whose stretches of memory meet have bytes in common: columns may lie side by side."""
    first = one.data_ptr()
    taken = torch.zeros(max(_end(one), _end(other)) - first, dtype=torch.uint8)

    for tensor in (one, other):
        size = tensor.element_size()
        strides = (*(size * stride for stride in tensor.stride()), 1)
        taken.as_strided((*tensor.shape, size), strides, tensor.data_ptr() - first).add_(1)
    return bool((taken > 1).any())


def _end(tensor: Tensor) -> int:
    """The address behind its last byte."""
    last = sum(stride * (size - 1) for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
    return tensor.data_ptr() + (last + 1) * tensor.element_size()
