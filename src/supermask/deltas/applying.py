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

_Mark: TypeAlias = tuple[weakref.ref[Tensor], int, int | None]


@final
@dataclass(frozen=True, eq=False)
class _Application:
    """A delta that is on a model. Tensors are kept by name: a reference to the model would keep it alive for ever.

    `marks` tell whether a tensor of the model has been written to since; None if its base was not verified.
    """

    document: DeltaDocument
    digest: str
    overwritten: Mapping[str, Overwritten]
    dtypes: Mapping[str, torch.dtype]
    marks: Mapping[str, _Mark] | None


@final
@dataclass(eq=False)
class _Place:
    """Room for one delta on a model."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    application: _Application | None = None


_places: weakref.WeakKeyDictionary[nn.Module, _Place] = weakref.WeakKeyDictionary()
_places_lock = threading.RLock()


def applied_digest(model: nn.Module) -> str | None:
    """The digest of the delta that is on a model, or None.

    Example:
        >>> applied_digest(nn.Linear(2, 2)) is None
        True
    """
    application = _place_on(model).application
    return application.digest if application else None


@contextmanager
def holding_base(base: nn.Module | Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """A base's tensors by name; no other thread puts a delta on a model while the block runs.

    Args:
        base: the model without a delta on it, or its tensors.

    Raises:
        DeltaStateError: if a delta is on the model.
    """
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
    """Change a model's tensors in place, all of them or none.

    A switch from another delta asks for no new fingerprint if the model is known to be the base but for that delta:
    the other delta's fingerprint was checked and is the same one, and torch has counted no write to any tensor since,
    nor is one another object or elsewhere in memory. Only writes behind torch's back, through `.data`, numpy or a
    library of its own, stay unseen; removal, which always takes the fingerprint again, reports them.

    Args:
        model: the base, on any device, in any mode.
        document: what the delta says about itself.
        changes: by tensor name, in memory; or what makes them of the base's tensors by name, each when it is asked
            for: that is once, in some thread, while they hold the base's values, and a few at a time.
        verify: check the base's fingerprint now, and again on removal.
        switch: if another delta is on the model, take it off; on an error it is on again.
        threads: how many, at least 1; by default one a core.

    Raises:
        DeltaStateError: if a delta is applied already and `switch` is False, or something else changed the model
            since, or a module is parametrised, as it is while a method is attached.
        BaseMismatchError: if the model is not the delta's base, or its head has another shape.
    """
    place = _place_on(model)
    with place.lock, torch.no_grad():
        current = place.application
        if current and not switch:
            raise DeltaStateError(
                f"a delta ({_describe(current.document)}) is applied to this model already, so another "
                f"({_describe(document)}) cannot be; remove it first, or pass switch=True to put this one in its place"
            )
        _require_not_parametrised(model)
        tensors = named_tensors(model)
        is_known = current is not None and _is_untouched(tensors, current)
        changed = _find_changed(tensors, current) if current else {}
        targets = find_targets(tensors, document)
        bits = {name: as_bits(tensor) for name, tensor in {**changed, **targets}.items()}
        # Tensors that are one, or overlap, under two names cannot go from one delta to the other each by itself.
        is_entangled = len(bits) > len(targets) and _sharing_memory(bits) is not None
        same_base = current is not None and current.document.base.digest == document.base.digest
        must_verify = verify and not (is_known and same_base)
        comes_off_first = must_verify or is_entangled
        coming = changes(tensors) if callable(changes) else changes
        leaving = current.overwritten if current else {}
        overwritten: dict[str, Overwritten] = {}
        replaced: dict[str, Tensor] = {}

        def take_off_(name: str) -> None:
            # The values that a delta put in place of others stand nowhere else; a mask can always be put on again.
            if leaving[name].mask is None and name not in replaced:
                replaced[name] = bits[name].clone()
            leaving[name].take_off_(bits[name])

        def put_on_(name: str) -> None:
            change = coming[name]
            require_fit(targets[name], change)
            mask, whole = (change, None) if isinstance(change, KeepMask) else (None, as_bits(change.whole))
            overwritten[name] = Overwritten(bits[name], mask)
            overwritten[name].put_on_(bits[name], whole)

        def change_(name: str) -> None:
            if name in leaving and not comes_off_first:
                take_off_(name)
            if name in targets:
                put_on_(name)

        def go_back_() -> None:
            for name, record in overwritten.items():
                record.take_off_(bits[name])
            for name, record in leaving.items():
                record.put_on_again_(bits[name], replaced.get(name))
            place.application = replace(current, marks=marks()) if current and is_known else current

        def marks() -> dict[str, _Mark]:
            return {name: (weakref.ref(tensor), tensor.data_ptr(), _writes(tensor)) for name, tensor in tensors.items()}

        try:
            if comes_off_first:
                for name in leaving:
                    take_off_(name)
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
            run_in_threads(change_, bits, threads=threads, at_a_time=at_a_time)
            dtypes = {name: tensor.dtype for name, tensor in targets.items()}
            place.application = _Application(
                document, document.digest, overwritten, dtypes, marks() if verify else None
            )
        except BaseException:
            undisturbed(go_back_)
            raise


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
    place = _place_on(model)
    with place.lock, torch.no_grad():
        current = place.application
        if current is None:
            raise DeltaStateError(f"no delta is applied to this {type(model).__name__}, so none can be removed")
        if current.digest != document.digest:
            raise DeltaStateError(
                f"another delta ({_describe(current.document)}) is applied to this model; remove that one"
            )
        _require_not_parametrised(model)
        tensors = named_tensors(model)
        changed = _find_changed(tensors, current)

        def remove_() -> None:
            run_in_threads(
                lambda name: current.overwritten[name].take_off_(as_bits(changed[name])), changed, threads=threads
            )
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
    """The tensors that a delta changes.

    Args:
        tensors: of a model, by name.
        document: of the delta.

    Returns:
        By name in model order.

    Raises:
        BaseMismatchError: naming some that are missing, of another shape or dtype, without values, or share memory.
    """
    head = set(document.head)
    faults: list[str] = []
    targets: dict[str, Tensor] = {}
    for record in document.changes:
        tensor = tensors.get(record.name)
        fault = _fault(record, tensor, head=record.name in head)
        if fault or tensor is None:
            faults.append(f"{record.name} {fault}")
        else:
            targets[record.name] = tensor
    if pair := _sharing_memory(targets):
        faults.append(f"{pair[0]} and {pair[1]} share memory here and are two tensors in the delta")
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
    if record.dtype is not None and tensor.dtype is not STORED_DTYPES[record.dtype]:
        return f"is {tensor.dtype} here, not {record.dtype}: load the base with dtype=torch.{record.dtype}"
    if _overlaps_itself(tensor):
        return f"has elements that share memory (strides {tensor.stride()}): give it memory of its own with clone()"
    return ""


def _find_changed(tensors: Mapping[str, Tensor], application: _Application) -> dict[str, Tensor]:
    """The tensors that were changed, if what was overwritten still fits them."""
    try:
        targets = find_targets(tensors, application.document)
    except BaseMismatchError as error:
        raise DeltaStateError(f"the model was converted after the delta was applied: {error}") from None
    for name, tensor in targets.items():
        before = application.dtypes[name]
        if tensor.dtype is not before:
            raise DeltaStateError(
                f"the model was converted after the delta was applied: {name} is {tensor.dtype} and was "
                f"{before}; convert it back, or load the base again"
            )
    return targets


def _place_on(model: nn.Module) -> _Place:
    with _places_lock:
        return _places.setdefault(model, _Place())


def _require_not_parametrised(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if is_parametrized(module):
            raise DeltaStateError(f"module {name!r} is parametrised, by a method perhaps; detach the method first")


def _describe(document: DeltaDocument) -> str:
    name = repr(document.task.name or "unnamed")[1:-1]  # what a terminal takes for more than text is escaped
    return f"task {name}, method {document.method.kind or 'unnamed'}"


def _is_untouched(tensors: Mapping[str, Tensor], application: _Application) -> bool:
    """Whether these are the very tensors that were marked, where they were, and torch has written to none of them."""
    marks = application.marks
    if marks is None or marks.keys() != tensors.keys():
        return False
    return all(
        marked() is tensors[name]
        and address == tensors[name].data_ptr()
        and writes is not None
        and writes == _writes(tensors[name])
        for name, (marked, address, writes) in marks.items()
    )


def _writes(tensor: Tensor) -> int | None:
    """How many writes torch has counted; it does not count those to tensors that were made in inference mode."""
    return None if tensor.is_inference() else tensor._version


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
    spans = sorted((str(tensor.device), *_span(tensor), name) for name, tensor in tensors.items() if tensor.numel())
    groups: list[list[str]] = []
    reached = ("", 0)
    for device, start, end, name in spans:
        if device == reached[0] and start < reached[1]:
            groups[-1].append(name)
            reached = (device, max(end, reached[1]))
        else:
            groups.append([name])
            reached = (device, end)
    met = ({name: tensors[name] for name in tensors if name in group} for group in groups if len(group) > 1)
    return next(filter(None, map(_sharing_bytes, met)), None)


def _sharing_bytes(tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """The same for tensors whose stretches of memory meet: their columns may still lie side by side."""
    names, spans = list(tensors), [_span(tensor) for tensor in tensors.values()]
    first = min(start for start, _ in spans)
    owners = torch.zeros(max(end for _, end in spans) - first, dtype=torch.int32)
    for number, (tensor, (start, _)) in enumerate(zip(tensors.values(), spans, strict=True), start=1):
        size = tensor.element_size()
        taken = owners.as_strided((*tensor.shape, size), (*(size * s for s in tensor.stride()), 1), start - first)
        if other := int(taken.max()):
            return names[other - 1], names[number - 1]
        taken.fill_(number)
    return None


def _span(tensor: Tensor) -> tuple[int, int]:
    start, itemsize = tensor.data_ptr(), tensor.element_size()
    last = sum(stride * (size - 1) for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
    return start, start + (last + 1) * itemsize
