"""The task delta: all that turns a base into the task model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, final

import torch
from torch import nn

from supermask.deltas.application import applied_digest, apply_delta_, find_targets, remove_delta_, require_base
from supermask.deltas.change_coding import StoredChanges, needs_base
from supermask.deltas.changes import Change
from supermask.deltas.container import container_nbytes, serialize_container
from supermask.deltas.creating import code_delta, recode_delta
from supermask.deltas.decoded import DecodedDelta, decode_changes
from supermask.deltas.document import ChangePlace, DeltaDocument, MethodRecord, TaskRecord, TrainingRecord
from supermask.deltas.files import read_delta, write_delta
from supermask.deltas.fingerprint import Fingerprint, named_tensors
from supermask.deltas.rounding import SixteenBits
from supermask.errors import DeltaStateError

__all__ = ["TaskDelta"]

_ModelT = TypeVar("_ModelT", bound=nn.Module)


@final
@dataclass(frozen=True, eq=False, repr=False)
class TaskDelta:
    """What a task has taught a base: masks and values, exact, with a document that says what they are.

    Make one with `create` or `load`. A delta never changes: it holds its masks as they are stored, not as tensors that
    somebody may write to. Two deltas are equal if their documents are, which hold the hash of every payload.

    Args:
        document: what the delta says about itself.
        payloads: coded masks and values by payload name.

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
    payloads: Mapping[str, bytes]

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
        round_values: SixteenBits | None = None,
    ) -> TaskDelta:
        """Make a delta from what a method has changed.

        Args:
            changes: by tensor name in the model, head included, in model order.
            base: the fingerprint of the base without its head.
            base_tensors: its tensors by name, to code against: smaller, and the base is needed for decoding.
            head: names of the head's tensors; each must come with `DenseValues`.
            places: role and block of tensors, where they are known; other names may be among them.
            architecture: the class of the base.
            base_name, base_revision: where the base came from, and at which revision.
            method, task, training: the records, or mappings of their fields.
            round_values: round values of 32 bits or more to 16 significant ones of this dtype, the head's too. What is
                lost is lost, and the document says so; by default every bit is kept.

        Returns:
            The delta; masks and values are copied.

        Raises:
            BaseMismatchError: if `base_tensors` are not those of the base.
            ConfigurationError: if there are no changes, a name belongs to neither base nor head, a dtype cannot be
                stored, a value cannot be rounded or none can, or the descriptions are not JSON or 16 MiB of it.
        """
        document, payloads = code_delta(
            changes,
            base=base,
            base_tensors=base_tensors or {},
            head=head,
            places=places,
            architecture=architecture,
            base_name=base_name,
            base_revision=base_revision,
            method=method,
            task=task,
            training=training,
            round_values=round_values,
        )
        return cls(document, payloads)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TaskDelta:
        """Read a delta that `save` wrote; every hash is checked and nothing is unpickled.

        Args:
            path: the folder, or the safetensors file alone.

        Returns:
            The delta. Masks are decoded when they are used, so nothing large is allocated on the word of a file alone:
            `apply_` checks each shape against the model first.

        Raises:
            DeltaFormatError: if there is no delta, or it is truncated, edited or of another version.
        """
        document, payloads = read_delta(path)
        return cls(document, payloads)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the delta, whole or not at all.

        Args:
            path: a folder, which gets `delta.safetensors` and a readable `delta_config.json`; or a single file, if the
                name ends in `.safetensors`.
            overwrite: replace a delta that is there.

        Returns:
            The safetensors file.

        Raises:
            OutputError: if a delta is there already, or the place is not writable or full; what was there is there
                still.
        """
        return write_delta(path, serialize_container(self.document, self.payloads), self.document, overwrite=overwrite)

    def apply_(
        self, model: _ModelT, *, verify: bool = True, switch: bool = False, threads: int | None = None
    ) -> _ModelT:
        """Turn the base into the task model, in place: all of it, or nothing on an error or an interrupt.

        Parameters keep their identity, `requires_grad`, device and ties. What is overwritten is kept until `remove_`:
        the dropped weights with 4 bytes for each of them or one bit for each weight of the mask, whichever is less, and
        the whole of a tensor that gets new values or loses most of its weights. Tensors are decoded one by one, a few
        at a time, so the changes never stand in memory all together.

        Args:
            model: the base, with a head of the task's shape.
            verify: check the fingerprint of the base first, and once more on removal. Pass False only for a model that
                was checked before and is changed often: the hash takes longer than the change. A switch does without
                it where the model is known to be the base but for the other delta: both deltas have one base, it was
                checked for the other, and torch has counted no write to a tensor since.
            switch: take off the delta that is applied, if there is one, in place of refusing; the result is the same as
                after `remove_` and `apply_`. On an error the other delta is on the model again. Its task's head must
                have the same shape: a model has room for one.
            threads: how many tensors are worked on together, at least 1; by default one for each core, 8 at most.

        Raises:
            BaseMismatchError: if the model is another base, naming the tensors that differ, or its head has another
                shape.
            DeltaStateError: if a delta is applied already and `switch` is False, a method is attached, or something
                else has changed the model since the other delta was applied.
            DeltaFormatError: if a payload does not code what the document says.
        """
        changes = self.changes_for(named_tensors(model))
        apply_delta_(model, self.document, changes, verify=verify, switch=switch, threads=threads)
        return model

    def remove_(self, model: _ModelT, *, threads: int | None = None) -> _ModelT:
        """Give the model back every bit that `apply_` overwrote; an interrupt waits until that is done.

        Args:
            model: with this delta applied.
            threads: as for `apply_`.

        Raises:
            DeltaStateError: if this delta is not applied to it, or something else has changed the model in between.
        """
        remove_delta_(model, self.document, threads=threads)
        return model

    @contextmanager
    def applied(self, model: _ModelT, *, verify: bool = True, threads: int | None = None) -> Iterator[_ModelT]:
        """Apply the delta for the time of a `with` block; see `apply_` and `remove_`."""
        self.apply_(model, verify=verify, threads=threads)
        try:
            yield model
        finally:
            self.remove_(model, threads=threads)

    def decode(
        self, base: nn.Module | Mapping[str, torch.Tensor], *, verify: bool = True, threads: int | None = None
    ) -> DecodedDelta:
        """Decode every change now and keep it, to put the delta on again and again in the time of a copy.

        Args:
            base: the model without a delta on it, or its tensors by name. It is read, and not held on to.
            verify: check its fingerprint first: on another base a delta may decode to something else.
            threads: how many tensors are decoded together, at least 1; by default one for each core, 8 at most.

        Returns:
            The delta with its changes in memory; see `DecodedDelta` for how much they take.

        Raises:
            BaseMismatchError: if the base is another one, or its head has another shape.
            DeltaStateError: if a delta is on the model.
            DeltaFormatError: if a payload does not code what the document says.
        """
        if isinstance(base, nn.Module):
            if applied_digest(base) is not None:
                raise DeltaStateError("a delta is applied to this model, so it is not the base; remove the delta first")
            base = named_tensors(base)
        find_targets(base, self.document)
        if verify:
            require_base(base, self.document)
        return DecodedDelta(self.document, decode_changes(self.document, self.changes_for(base), threads=threads))

    def is_applied(self, model: nn.Module) -> bool:
        """Whether this delta is on the model."""
        return applied_digest(model) == self.digest

    def recode(
        self,
        base: nn.Module | Mapping[str, torch.Tensor],
        *,
        self_contained: bool = False,
        round_values: SixteenBits | None = None,
    ) -> TaskDelta:
        """The same delta coded anew in the present format, against its base: mostly smaller.

        Args:
            base: the model that the delta belongs to, with no delta on it, or its tensors by name. If it is not needed
                for decoding and `self_contained` is True, it is not looked at and may be `{}`.
            self_contained: code so that the base is not needed for decoding; larger.
            round_values: as for `create`; by default every bit is kept.

        Returns:
            A delta with the same changes, unless they were to be rounded. Its digest is another.

        Raises:
            BaseMismatchError: if the base is another one.
            ConfigurationError: if there is nothing to round, or it was rounded to something else before.
        """
        tensors = named_tensors(base) if isinstance(base, nn.Module) else base
        options: dict[str, Any] = {"self_contained": self_contained, "round_values": round_values}
        return TaskDelta(*recode_delta(self.document, self.payloads, tensors, **options))

    def changes_for(self, base: nn.Module | Mapping[str, torch.Tensor]) -> StoredChanges:
        """What happens to each tensor, head included, by name in model order; decoded on access.

        Args:
            base: the model that the delta belongs to, with no delta on it, or its tensors by name. If `needs_base` is
                False, it is not looked at and may be `{}`. It is not checked here: `decode` does.

        Returns:
            A mapping; whatever it gives is made anew.
        """
        return StoredChanges(self.document, self.payloads, named_tensors(base) if isinstance(base, nn.Module) else base)

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

    @property
    def digest(self) -> str:
        """SHA-256 in hex over the document and, through it, every payload: the identity of the delta."""
        return self.document.digest

    @property
    def zeros(self) -> int:
        """How many of the masked weights are dropped."""
        return self.document.zeros

    @property
    def weights(self) -> int:
        """How many weights have a keep mask; head and dense values are not among them."""
        return self.document.weights

    @property
    def sparsity(self) -> float:
        """Zeros among the masked weights, in [0, 1]; 0 if none is masked."""
        return self.document.sparsity

    def nbytes_on_disk(self) -> int:
        """The size of the safetensors file in bytes, header and all; the readable `delta_config.json` comes on top."""
        return container_nbytes(self.document)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskDelta) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return (
            f"TaskDelta(task={self.task.name!r}, method={self.method.kind!r}, "
            f"base={self.document.base.name!r}, "
            f"zeros={self.zeros} of {self.weights} weights, {self.nbytes_on_disk()} bytes)"
        )
