"""Changes as payloads, against the base's tensors where they are at hand, and payloads as changes again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

import torch
from pydantic import ValidationError
from torch import Tensor

from supermask.deltas.changes import Change, DenseValues, KeepMask, SparseValues
from supermask.deltas.coding import (
    decode_mask,
    decode_values,
    encode_mask,
    encode_values,
    mask_needs_base,
    needs_reference,
)
from supermask.deltas.document import ChangePlace, ChangeRecord, DeltaDocument, describe_invalid
from supermask.deltas.file import Payloads
from supermask.deltas.keep_mask import MaskPositions
from supermask.deltas.tensor_bytes import STORED_DTYPES, dtype_name
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError, DeltaStateError

__all__ = ["StoredChanges", "decode_change", "encode_change", "needs_base"]


@final
class StoredChanges(Mapping[str, Change]):
    """The changes of a delta by tensor name, in model order, each decoded anew whenever it is asked for."""

    def __init__(self, document: DeltaDocument, payloads: Mapping[str, Payloads], base: Mapping[str, Tensor]) -> None:
        self._records = {record.name: record for record in document.changes}
        self._payloads = payloads
        # The head is not of the base: what stands in its place may have another size.
        of_the_base = self._records.keys() - set(document.head)
        self._base = {name: base[name] for name in of_the_base if name in base}

    def __getitem__(self, name: str) -> Change:
        record, base = self._records[name], self._base.get(name)
        try:
            if base is not None:
                _require_fit(record, base)
            return decode_change(record, self._payloads[name], base)
        except (BaseMismatchError, DeltaFormatError, DeltaStateError) as error:
            raise type(error)(f"{name}: {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


def needs_base(document: DeltaDocument, payloads: Mapping[str, Payloads]) -> bool:
    """Whether any change can only be decoded with the base's tensors."""
    return any(
        (change.zeros is not None and mask_needs_base(payloads[change.name].keep))
        or (change.values_coding is not None and needs_reference(change.values_coding))
        for change in document.changes
    )


def encode_change(
    name: str, change: Change, *, place: ChangePlace, base: Tensor | None
) -> tuple[ChangeRecord, Payloads]:
    """Code one change, against the base's tensor if there is one: what the document says about it, and its payloads."""
    if base is not None and tuple(base.shape) != change.shape:
        raise BaseMismatchError(f"{name}: the change has shape {change.shape}, and the base's is {tuple(base.shape)}")
    kind = {KeepMask: "keep_mask", DenseValues: "dense_values", SparseValues: "sparse_values"}[type(change)]
    told = {"name": name, "role": place.role, "block": place.block, "kind": kind, "shape": change.shape}
    keep = values = b""
    if isinstance(change, KeepMask | SparseValues):
        keep = encode_mask(change.positions, base)
        told |= {"zeros": change.zeros, "keep_nbytes": len(keep)}
    if isinstance(change, DenseValues | SparseValues):
        reference = None if base is None or base.dtype is not change.values.dtype else base.detach().cpu().contiguous()
        if reference is not None and isinstance(change, SparseValues):
            reference = _survivors(reference, change.positions)
        try:
            values, coding = encode_values(change.values, reference)
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error}") from None
        told |= {"dtype": dtype_name(change.values.dtype), "values_nbytes": len(values), "values_coding": coding}
    try:
        return ChangeRecord.model_validate(told), Payloads(keep, values)
    except ValidationError as error:
        raise ConfigurationError(f"this delta cannot be stored: {describe_invalid(error)}") from None


def decode_change(record: ChangeRecord, payloads: Payloads, base: Tensor | None) -> Change:
    """The change of these payloads, base the tensor that it was coded against if at hand; its errors have no name."""
    mask = None if record.zeros is None else decode_mask(payloads.keep, record.shape, record.zeros, base)
    if record.dtype is None or record.values_coding is None:
        assert mask is not None  # the document has one or the other
        return KeepMask(mask)
    reference = None
    if base is not None and needs_reference(record.values_coding):
        reference = base.detach().cpu().contiguous()
        reference = reference if mask is None else _survivors(reference, mask)
    values = decode_values(
        payloads.values,
        coding=record.values_coding,
        dtype=STORED_DTYPES[record.dtype],
        count=record.weights - (record.zeros or 0),
        reference=reference,
    )
    return DenseValues(values.reshape(record.shape)) if mask is None else SparseValues(mask, values)


def _require_fit(record: ChangeRecord, base: Tensor) -> None:
    """Refuse a change of another tensor than the base has: what is decoded is never larger than what is there."""
    if tuple(base.shape) != record.shape:
        raise BaseMismatchError(f"the change has shape {record.shape}, the base's tensor {tuple(base.shape)}")
    if record.dtype is not None and record.dtype != dtype_name(base.dtype):
        raise BaseMismatchError(f"the change has {record.dtype} values, the base's tensor {dtype_name(base.dtype)}")


def _survivors(values: Tensor, mask: MaskPositions) -> Tensor:
    if not mask.dropped:
        return values.reshape(-1)[torch.from_numpy(mask.positions.copy())]
    return values[mask.keep]
