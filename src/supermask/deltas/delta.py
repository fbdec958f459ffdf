"""The task delta: all that turns a base into the task model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, final

import torch
from pydantic import ValidationError
from torch import nn

from supermask.deltas.applying import applied_digest, apply_delta_, find_targets, holding_base, remove_delta_
from supermask.deltas.changes import Change
from supermask.deltas.document import (
    ChangePlace,
    DeltaDocument,
    MethodRecord,
    TaskRecord,
    TrainingRecord,
    describe_invalid,
)
from supermask.deltas.file import (
    DELTA,
    Payloads,
    file_nbytes,
    payloads_digest,
    read_delta,
    require_storable,
    write_delta,
)
from supermask.deltas.fingerprint import Fingerprint, named_tensors, require_base
from supermask.deltas.payloads import StoredChanges, encode_change, needs_base
from supermask.deltas.threads import WEIGHTS_AT_A_TIME, run_in_threads
from supermask.errors import ConfigurationError

__all__ = ["TaskDelta"]

_ModelT = TypeVar("_ModelT", bound=nn.Module)


@final
@dataclass(frozen=True, eq=False, repr=False)
class TaskDelta:
    """What a task has taught a base: masks and values, exact and as they are stored, and what they are.

    Make one with `create` or `load`; it never changes. Deltas are equal if their digests are.

    Args:
        document: what the delta says about itself.
        payloads: coded masks and values by tensor name.

    Example:
        >>> from supermask.deltas import DenseValues, KeepMask, base_fingerprint
        >>> base = nn.Linear(3, 2)
        >>> keep = torch.tensor([[True, False, True], [True, True, True]])
        >>> delta = TaskDelta.create(
        ...     {"weight": KeepMask(keep), "bias": DenseValues(torch.zeros(2))},
        ...     base=base_fingerprint(base, head=["bias"]), head=["bias"],
        ... )
        >>> delta.zeros, delta.weights
        (1, 6)
        >>> before = base.weight.clone()
        >>> with delta.applied(base):
        ...     print(base.weight[0, 1].item(), base.bias.tolist())
        0.0 [0.0, 0.0]
        >>> torch.equal(base.weight, before)
        True
    """

    document: DeltaDocument
    payloads: Mapping[str, Payloads]

    @classmethod
    def create(
        cls,
        changes: Mapping[str, Change],
        *,
        base: Fingerprint,
        base_tensors: Mapping[str, torch.Tensor] | None = None,
        head: Sequence[str] = (),
        places: Mapping[str, ChangePlace] = MappingProxyType({}),
        architecture: str = "unknown",
        base_name: str | None = None,
        base_revision: str | None = None,
        method: MethodRecord | Mapping[str, Any] = MappingProxyType({}),
        task: TaskRecord | Mapping[str, Any] = MappingProxyType({}),
        training: TrainingRecord | Mapping[str, Any] = MappingProxyType({}),
    ) -> TaskDelta:
        """Make a delta from what a method has changed.

        Args:
            changes: by tensor name, head included, in model order.
            base: the fingerprint of the base without its head.
            base_tensors: its tensors by name, to code against: smaller, and the base is needed for decoding.
            head: names of the head's tensors; each must come with `DenseValues`.
            places: role and block of tensors, where they are known.
            architecture: the class of the base.
            base_name, base_revision: where the base came from.
            method, task, training: the records, or mappings of their fields.

        Raises:
            BaseMismatchError: if `base_tensors` are not those of the base.
            ConfigurationError: if there are no changes, a name belongs to neither base nor head, a dtype cannot be
                stored, or a record has an unknown field or takes more than 4 MiB.
        """
        told = {
            "base": {
                "name": base_name,
                "revision": base_revision,
                "architecture": architecture,
                "dtype": base.dtype,
                "digest": base.digest,
                "tensors": dict(base.tensors),
            },
            "head": tuple(head),
            "method": method,
            "task": task,
            "training": training,
        }
        return cls._coded(changes, told, base, base_tensors or {}, places)

    @classmethod
    def _coded(
        cls,
        changes: Mapping[str, Change],
        told: Mapping[str, Any],
        base: Fingerprint,
        tensors: Mapping[str, torch.Tensor],
        places: Mapping[str, ChangePlace],
    ) -> TaskDelta:
        require_base(tensors, base, names=changes.keys())
        records, payloads = [], {}
        for name, change in changes.items():
            # The head is no part of the base: whoever decodes has another one there, or none.
            old = tensors.get(name) if name in base.tensors else None
            record, payloads[name] = encode_change(name, change, place=places.get(name, ChangePlace()), base=old)
            records.append(record)
        if not records:
            raise ConfigurationError("a delta without changes would have no effect; pass at least the task head")
        sealed = {"changes": tuple(records), "payloads_sha256": payloads_digest(payloads.values())}
        try:
            document = DeltaDocument.model_validate({**told, **sealed})
        except ValidationError as error:
            raise ConfigurationError(f"this delta cannot be stored: {describe_invalid(error)}") from None
        require_storable(DELTA, document)
        return cls(document, payloads)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TaskDelta:
        """Read a delta that `save` wrote, from its folder or file; every hash is checked and nothing is unpickled.

        Raises:
            DeltaFormatError: if there is no delta, or it is truncated, edited or of another version.
        """
        return cls(*read_delta(path))

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the delta, whole or not at all.

        Args:
            path: a folder, which gets `delta.safetensors` and for people `delta_config.json`; or a single file, if the
                name ends in `.safetensors`. The safetensors file comes back.
            overwrite: replace a delta that is there.

        Raises:
            OutputError: if a delta is there already, or the place is not writable or full; what was there stays.
        """
        return write_delta(path, self.document, self.payloads, overwrite=overwrite)

    def apply_(
        self,
        model: _ModelT,
        changes: Mapping[str, Change] | None = None,
        *,
        verify: bool = True,
        switch: bool = False,
        threads: int | None = None,
    ) -> _ModelT:
        """Turn the base into the task model, in place: all of it, or nothing on an error or an interrupt.

        Parameters keep their identity, `requires_grad`, device and ties. What is overwritten is kept until `remove_`:
        of a mask the dropped weights, and 4 bytes for each or a bit for each weight, whichever is less; of new values
        the whole tensor. Several threads with one model wait for each other.

        Args:
            model: the base, with a head of the task's shape.
            changes: what `decode` gave, to do without decoding.
            verify: check the base's fingerprint first, and on removal. Pass False only for a model that was checked
                before: the hash takes longer than the change. A switch between deltas of one base needs none while
                torch has counted no write to a tensor.
            switch: take off the delta that is applied, if there is one; on an error it is on the model again. Both
                tasks' heads must have one shape.
            threads: how many tensors are worked on together, at least 1; by default one for each core, 8 at most.

        Raises:
            BaseMismatchError: if the model is another base, naming the tensors that differ, or has another head.
            DeltaStateError: if a delta is applied and `switch` is False, a method is attached, or something else has
                changed the model since.
            DeltaFormatError: if a payload does not code what the document says.
        """
        coming = self.changes_for if changes is None else changes
        apply_delta_(model, self.document, coming, verify=verify, switch=switch, threads=threads)
        return model

    def remove_(self, model: _ModelT, *, threads: int | None = None) -> _ModelT:
        """Give the model back every bit; a DeltaStateError if this delta is not on it, or something else changed it."""
        remove_delta_(model, self.document, threads=threads)
        return model

    @contextmanager
    def applied(
        self,
        model: _ModelT,
        changes: Mapping[str, Change] | None = None,
        *,
        verify: bool = True,
        threads: int | None = None,
    ) -> Iterator[_ModelT]:
        """Apply the delta for the time of a `with` block; see `apply_` and `remove_`."""
        self.apply_(model, changes, verify=verify, threads=threads)
        try:
            yield model
        finally:
            self.remove_(model, threads=threads)

    def decode(
        self, base: nn.Module | Mapping[str, torch.Tensor], *, verify: bool = True, threads: int | None = None
    ) -> dict[str, Change]:
        """Decode every change now, for `apply_`, to put the delta on again and again in the time of a copy.

        Args:
            base: the model without a delta on it, or its tensors by name.
            verify: check its fingerprint first: on another base a delta may decode to something else.
            threads: how many tensors are decoded together; as for `apply_`.

        Raises:
            BaseMismatchError: if the base is another one, or its head has another shape.
            DeltaStateError: if a delta is on the model.
            DeltaFormatError: if a payload does not code what the document says.
        """
        with holding_base(base) as tensors, torch.no_grad():
            targets = find_targets(tensors, self.document)
            if verify:
                require_base(tensors, self.base, head=self.head)
            stored, decoded = self.changes_for(tensors), dict[str, Change]()

            def decode_one(name: str) -> None:
                decoded[name] = stored[name]

            run_in_threads(decode_one, targets, threads=threads, at_a_time=WEIGHTS_AT_A_TIME)
        return {name: decoded[name] for name in targets}

    def is_applied(self, model: nn.Module) -> bool:
        """Whether this delta is on the model."""
        return applied_digest(model) == self.digest

    def recode(self, base: nn.Module | Mapping[str, torch.Tensor], *, self_contained: bool = False) -> TaskDelta:
        """The same delta coded anew, against its base or without it.

        Args:
            base: the model without a delta on it, or its tensors by name; `{}` if none is needed.
            self_contained: code so that the base is not needed for decoding; larger.

        Raises:
            BaseMismatchError: if the base is another one.
        """
        changes, tensors = self.changes_for(base), named_tensors(base)
        if self_contained and self.needs_base:
            require_base(tensors, self.base, names=changes.keys())
        places = {change.name: ChangePlace(change.role, change.block) for change in self.document.changes}
        return self._coded(changes, dict(self.document), self.base, {} if self_contained else tensors, places)

    def changes_for(self, base: nn.Module | Mapping[str, torch.Tensor]) -> Mapping[str, Change]:
        """What happens to each tensor, by name in model order, decoded on access; `{}` will do unless `needs_base`.

        The base, a model without a delta on it or its tensors by name, is not checked here: `decode` does.
        """
        return StoredChanges(self.document, self.payloads, named_tensors(base))

    @property
    def needs_base(self) -> bool:
        """Whether any change was coded against the base's tensors, and so can only be decoded with them."""
        return needs_base(self.document, self.payloads)

    @property
    def base(self) -> Fingerprint:
        """The fingerprint of the base without its head."""
        return self.document.base.fingerprint

    @property
    def head(self) -> tuple[str, ...]:
        """Names of the task head's tensors."""
        return self.document.head

    @property
    def method(self) -> MethodRecord:
        """The method that learnt the delta: its kind and settings."""
        return self.document.method

    @property
    def task(self) -> TaskRecord:
        """The task that it was taught."""
        return self.document.task

    @property
    def training(self) -> TrainingRecord:
        """How it was trained."""
        return self.document.training

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex over the document and, through it, every payload: the identity of the delta."""
        return self.document.digest

    @property
    def zeros(self) -> int:
        """How many of the masked weights are dropped."""
        return self.document.zeros

    @property
    def weights(self) -> int:
        """How many weights have a keep mask."""
        return self.document.weights

    @property
    def sparsity(self) -> float:
        """Zeros among the masked weights, in [0, 1]; 0 if none is masked."""
        return self.document.sparsity

    def nbytes_on_disk(self) -> int:
        """The size of the safetensors file in bytes, header and all; `delta_config.json` comes on top."""
        return file_nbytes(DELTA, self.document)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskDelta) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return (
            f"TaskDelta(task={self.task.name!r}, method={self.method.kind!r}, base={self.document.base.name!r}, "
            f"zeros={self.zeros} of {self.weights} weights, {self.nbytes_on_disk()} bytes)"
        )
