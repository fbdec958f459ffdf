"""Making a delta's document and payloads, from changes or from another delta."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from supermask.deltas.change_coding import StoredChanges, encode_change, needs_base
from supermask.deltas.changes import Change
from supermask.deltas.container_v2 import require_storable
from supermask.deltas.document import (
    BaseRecord,
    ChangePlace,
    DeltaDocument,
    MethodRecord,
    TaskRecord,
    TrainingRecord,
    describe_invalid,
)
from supermask.deltas.fingerprint import SHORT_HASH, Fingerprint, require_base_tensors
from supermask.deltas.rounding import SixteenBits
from supermask.errors import ConfigurationError

__all__ = ["code_delta", "recode_delta"]


def code_delta(
    changes: Mapping[str, Change],
    *,
    base: Fingerprint,
    base_tensors: Mapping[str, Tensor],
    head: Sequence[str],
    places: Mapping[str, ChangePlace],
    architecture: str,
    base_name: str | None,
    base_revision: str | None,
    method: MethodRecord | Mapping[str, Any],
    task: TaskRecord | Mapping[str, Any],
    training: TrainingRecord | Mapping[str, Any],
    round_values: SixteenBits | None,
    rounded: Mapping[str, SixteenBits] = MappingProxyType({}),
) -> tuple[DeltaDocument, dict[str, bytes]]:
    """Code changes; arguments and errors are those of `TaskDelta.create`.

    Args:
        rounded: what some of the values were rounded to before, by name, which goes on to be said of them.

    Returns:
        Document and payloads.
    """
    require_base_tensors({name: base_tensors[name] for name in changes if name in base_tensors}, base)
    payloads: dict[str, bytes] = {}
    records = [
        encode_change(
            name,
            change,
            payloads,
            place=places.get(name, ChangePlace()),
            # The head is no part of the base: whoever decodes has another one there, or none.
            base=base_tensors.get(name) if name in base.tensors else None,
            round_values=rounded.get(name, round_values),
        )
        for name, change in changes.items()
    ]
    if not records:
        raise ConfigurationError("a delta without changes would have no effect; pass at least the task head")
    if round_values is not None and not any(record.rounded for record in records):
        raise ConfigurationError(f"no value here could be rounded to {round_values}; leave that out")
    try:
        document = DeltaDocument(
            format="supermask-delta",
            version=2,
            base=BaseRecord(
                name=base_name,
                revision=base_revision,
                architecture=architecture,
                dtype=base.dtype,
                digest=base.digest,
                tensors={name: short[:SHORT_HASH] for name, short in base.tensors.items()},
            ),
            head=tuple(head),
            method=method if isinstance(method, MethodRecord) else MethodRecord.model_validate(dict(method)),
            task=task if isinstance(task, TaskRecord) else TaskRecord.model_validate(dict(task), strict=False),
            training=training
            if isinstance(training, TrainingRecord)
            else TrainingRecord.model_validate(dict(training)),
            changes=tuple(records),
            payloads_sha256=hashlib.sha256(b"".join(payloads.values())).hexdigest(),
        )
    except ValidationError as error:
        raise ConfigurationError(f"this delta cannot be stored: {describe_invalid(error)}") from None
    require_storable(document)
    return document, payloads


def recode_delta(
    document: DeltaDocument,
    payloads: Mapping[str, bytes],
    base: Mapping[str, Tensor],
    *,
    self_contained: bool,
    round_values: SixteenBits | None,
) -> tuple[DeltaDocument, dict[str, bytes]]:
    """Code a delta's changes anew; arguments and errors are those of `TaskDelta.recode`.

    Returns:
        Document and payloads.
    """
    rounded = {change.name: change.rounded for change in document.changes if change.rounded is not None}
    if round_values is not None and (before := {*rounded.values()} - {round_values}):
        raise ConfigurationError(
            f"values of this delta were rounded to {before.pop()} already, and rounding them to {round_values} is not "
            "the same as rounding once; round the delta that has every bit"
        )
    if self_contained and needs_base(document, payloads):
        changed = {change.name: base[change.name] for change in document.changes if change.name in base}
        require_base_tensors(changed, document.base.fingerprint)
    return code_delta(
        StoredChanges(document, payloads, base),
        base=document.base.fingerprint,
        base_tensors={} if self_contained else base,
        head=document.head,
        places={change.name: ChangePlace(role=change.role, block=change.block) for change in document.changes},
        architecture=document.base.architecture,
        base_name=document.base.name,
        base_revision=document.base.revision,
        method=document.method,
        task=document.task,
        training=document.training,
        round_values=round_values,
        rounded=rounded,
    )
