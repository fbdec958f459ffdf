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
from pydantic import JsonValue, ValidationError
from torch import nn

from supermask.deltas.application import applied_digest, apply_delta_, remove_delta_
from supermask.deltas.changes import Change, DenseValues, KeepMask, SparseValues
from supermask.deltas.codec import decode_keep_mask, encode_keep_mask
from supermask.deltas.container import container_nbytes, payload_record, serialize_container
from supermask.deltas.document import (
    BaseRecord,
    ChangePlace,
    ChangeRecord,
    DeltaDocument,
    describe_invalid,
)
from supermask.deltas.files import read_delta, write_delta
from supermask.deltas.fingerprint import Fingerprint
from supermask.deltas.tensor_bytes import STORED_DTYPES, as_bytes, dtype_name, from_bytes
from supermask.errors import ConfigurationError, DeltaFormatError

__all__ = ["StoredChanges", "TaskDelta"]

_ModelT = TypeVar("_ModelT", bound=nn.Module)


@final
class StoredChanges(Mapping[str, Change]):
    """The changes of a delta by tensor name, in model order, each decoded anew whenever it is asked for.

    Going through them so takes the memory of one at a time. Keep a change that is used often.
    """

    def __init__(self, document: DeltaDocument, payloads: Mapping[str, bytes]) -> None:
        self._records = {record.name: record for record in document.changes}
        self._payloads = payloads

    def __getitem__(self, name: str) -> Change:
        record = self._records[name]
        try:
            return _decode(record, self._payloads)
        except DeltaFormatError as error:
            raise DeltaFormatError(f"{name}: {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


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
        >>> from supermask.deltas import base_fingerprint
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
        head: Sequence[str] = (),
        places: Mapping[str, ChangePlace] = MappingProxyType({}),
        architecture: str = "unknown",
        base_name: str | None = None,
        base_revision: str | None = None,
        method: Mapping[str, Any] = MappingProxyType({}),
        task: Mapping[str, Any] = MappingProxyType({}),
        training: Mapping[str, Any] = MappingProxyType({}),
    ) -> TaskDelta:
        """Make a delta from what a method has changed.

        Args:
            changes: by tensor name in the model, head included, in model order.
            base: the fingerprint of the base without its head.
            head: names of the head's tensors; each must come with `DenseValues`.
            places: role and block of tensors, where they are known; other names may be among them.
            architecture: the class of the base.
            base_name: where the base came from.
            base_revision: at which revision.
            method: the method as JSON: its kind and settings.
            task: the task as JSON: name, kind, label names, metrics.
            training: how it was trained, as JSON: seed, steps, hyper-parameters, data hash, code version, hardware,
                scores.

        Returns:
            The delta; masks and values are copied.

        Raises:
            ConfigurationError: if there are no changes, a name belongs to neither base nor head, a dtype cannot be
                stored, or the descriptions are not JSON.
        """
        payloads: dict[str, bytes] = {}
        records = [_encode(name, change, places.get(name, ChangePlace()), payloads) for name, change in changes.items()]
        if not records:
            raise ConfigurationError("a delta without changes would have no effect; pass at least the task head")
        try:
            document = DeltaDocument(
                format="supermask-delta",
                version=1,
                base=BaseRecord(
                    name=base_name,
                    revision=base_revision,
                    architecture=architecture,
                    dtype=base.dtype,
                    digest=base.digest,
                    tensors=dict(base.tensors),
                ),
                head=tuple(head),
                method=dict(method),
                task=dict(task),
                training=dict(training),
                changes=tuple(records),
            )
        except ValidationError as error:
            raise ConfigurationError(f"this delta cannot be stored: {describe_invalid(error)}") from None
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

    def apply_(self, model: _ModelT, *, verify: bool = True) -> _ModelT:
        """Turn the base into the task model, in place: all of it, or nothing on an error.

        Parameters keep their identity, `requires_grad`, device and ties. What is overwritten is kept until `remove_`:
        the dropped weights and one bit for each weight of a mask, and the whole of a tensor that gets new values.

        Args:
            model: the base, with a head of the task's shape.
            verify: check the fingerprint of the base first, and once more on removal. Pass False only for a model that
                was checked before and is switched often: the hash takes longer than the change.

        Returns:
            The same model.

        Raises:
            BaseMismatchError: if the model is another base, naming the tensors that differ, or its head has another
                shape.
            DeltaStateError: if a delta is applied already or a method is attached.
            DeltaFormatError: if a payload does not code what the document says.
        """
        apply_delta_(model, self.document, self.changes, verify=verify)
        return model

    def remove_(self, model: _ModelT) -> _ModelT:
        """Give the model back every bit that `apply_` overwrote.

        Args:
            model: with this delta applied.

        Returns:
            The same model.

        Raises:
            DeltaStateError: if this delta is not applied to it, or something else has changed the model in between.
        """
        remove_delta_(model, self.document)
        return model

    @contextmanager
    def applied(self, model: _ModelT, *, verify: bool = True) -> Iterator[_ModelT]:
        """Apply the delta for the time of a `with` block; see `apply_` and `remove_`."""
        self.apply_(model, verify=verify)
        try:
            yield model
        finally:
            self.remove_(model)

    def is_applied(self, model: nn.Module) -> bool:
        """Whether this delta is on the model."""
        return applied_digest(model) == self.digest

    @property
    def changes(self) -> StoredChanges:
        """What happens to each tensor, head included, by name in model order; decoded on access."""
        return StoredChanges(self.document, self.payloads)

    @property
    def base(self) -> Fingerprint:
        """The fingerprint of the base without its head."""
        return self.document.base.fingerprint

    @property
    def head(self) -> tuple[str, ...]:
        """Names of the task head's tensors."""
        return self.document.head

    @property
    def method(self) -> dict[str, JsonValue]:
        """The method that learnt the delta, as JSON."""
        return dict(self.document.method)

    @property
    def task(self) -> dict[str, JsonValue]:
        """The task, as JSON."""
        return dict(self.document.task)

    @property
    def training(self) -> dict[str, JsonValue]:
        """How it was trained, as JSON."""
        return dict(self.document.training)

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
            f"TaskDelta(task={self.task.get('name')!r}, method={self.method.get('kind')!r}, "
            f"base={self.document.base.name!r}, "
            f"zeros={self.zeros} of {self.weights} weights, {self.nbytes_on_disk()} bytes)"
        )


def _encode(name: str, change: Change, place: ChangePlace, payloads: dict[str, bytes]) -> ChangeRecord:
    keep = values = dtype = zeros = None
    if isinstance(change, KeepMask | SparseValues):
        zeros = change.zeros
        payloads[f"{name}:keep"] = encode_keep_mask(change.keep)
        keep = payload_record(payloads[f"{name}:keep"])
    if isinstance(change, DenseValues | SparseValues):
        dtype = dtype_name(change.values.dtype)
        payloads[f"{name}:values"] = bytes(as_bytes(change.values))
        values = payload_record(payloads[f"{name}:values"])
    try:
        return ChangeRecord(
            name=name,
            role=place.role,
            block=place.block,
            kind=_kind(change),
            shape=change.shape,
            dtype=dtype,
            zeros=zeros,
            keep=keep,
            values=values,
        )
    except ValidationError as error:
        raise ConfigurationError(f"this delta cannot be stored: {describe_invalid(error)}") from None


def _kind(change: Change) -> Any:
    if isinstance(change, KeepMask):
        return "keep_mask"
    return "dense_values" if isinstance(change, DenseValues) else "sparse_values"


def _decode(record: ChangeRecord, payloads: Mapping[str, bytes]) -> Change:
    if record.zeros is None:
        return DenseValues(_stored_values(record, payloads, record.shape))
    keep = decode_keep_mask(payloads[f"{record.name}:keep"], record.shape, record.zeros)
    if record.kind == "keep_mask":
        return KeepMask(keep)
    return SparseValues(keep, _stored_values(record, payloads, (record.weights - record.zeros,)))


def _stored_values(record: ChangeRecord, payloads: Mapping[str, bytes], shape: tuple[int, ...]) -> torch.Tensor:
    dtype, _ = STORED_DTYPES[str(record.dtype)]
    return from_bytes(payloads[f"{record.name}:values"], dtype, shape)
