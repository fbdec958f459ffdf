"""Changes as payloads, and payloads as changes again.

Where the base's tensors are at hand, masks are coded against their magnitudes and signs, and values by their difference
from them. Reading what was so coded takes the base; applying takes it anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias, final

import torch
from pydantic import ValidationError
from torch import Tensor

from supermask.deltas.changes import Change, DenseValues, KeepMask, SparseValues
from supermask.deltas.codec import decode_keep_mask
from supermask.deltas.coding import decode_mask, encode_mask, payload_needs_base
from supermask.deltas.container_v2 import checksum
from supermask.deltas.document import ChangePlace, ChangeRecord, DeltaDocument, PayloadRecord, describe_invalid
from supermask.deltas.keep_mask import MaskPositions
from supermask.deltas.rounding import SixteenBits, round_to_16_bits
from supermask.deltas.tensor_bytes import STORED_DTYPES, dtype_name, from_bytes
from supermask.deltas.value_codec import EncodedValues, decode_values, encode_values, needs_reference
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError, DeltaStateError

__all__ = ["StoredChanges", "encode_change", "needs_base"]

_ROUNDED = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_NAN = {"bfloat16": 0x7FC0, "float16": 0x7E00}
_Kind: TypeAlias = Literal["keep_mask", "dense_values", "sparse_values"]


@final
class StoredChanges(Mapping[str, Change]):
    """The changes of a delta by tensor name, in model order, each decoded anew whenever it is asked for.

    Going through them so takes the memory of one at a time. Keep a change that is used often.

    Args:
        document: of the delta.
        payloads: of the delta.
        base: the base's tensors by name, with no delta on them when a change is asked for.
    """

    def __init__(self, document: DeltaDocument, payloads: Mapping[str, bytes], base: Mapping[str, Tensor]) -> None:
        self._records = {record.name: record for record in document.changes}
        self._payloads = payloads
        self._base = base
        self._head = frozenset(document.head)
        self._decode = _decode_1 if document.version == 1 else _decode_2

    def __getitem__(self, name: str) -> Change:
        record, base = self._records[name], self._base.get(name)
        try:
            # What is decoded is never larger than what is there. A head may have another size: it is not of the base.
            if base is not None and name not in self._head and tuple(base.shape) != record.shape:
                raise BaseMismatchError(f"the change has shape {record.shape}, the base's tensor {tuple(base.shape)}")
            return self._decode(record, self._payloads, base)
        except (BaseMismatchError, DeltaFormatError, DeltaStateError) as error:
            raise type(error)(f"{name}: {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


def needs_base(document: DeltaDocument, payloads: Mapping[str, bytes]) -> bool:
    """Whether any change can only be decoded with the base's tensors."""
    if document.version == 1:
        return False
    return any(
        (change.keep is not None and payload_needs_base(payloads[f"{change.name}:keep"]))
        or (change.values is not None and needs_reference(str(change.values.coding)))
        for change in document.changes
    )


def encode_change(
    name: str,
    change: Change,
    payloads: dict[str, bytes],
    *,
    place: ChangePlace,
    base: Tensor | None,
    round_values: SixteenBits | None,
) -> ChangeRecord:
    """Code one change.

    Args:
        name: of the tensor.
        change: what happens to it.
        payloads: gets its payloads.
        place: where in the model it stands.
        base: the base's tensor, to code against; None to code without.
        round_values: what values of 32 bits or more are rounded to; None to keep every bit.

    Returns:
        What the document says about it.

    Raises:
        ConfigurationError: if it cannot be stored.
        BaseMismatchError: if the base's tensor has another shape.
    """
    if base is not None and tuple(base.shape) != change.shape:
        raise BaseMismatchError(f"{name}: the change has shape {change.shape}, and the base's is {tuple(base.shape)}")
    keep = values = dtype = zeros = rounded = None
    if isinstance(change, KeepMask | SparseValues):
        mask = change.positions
        zeros = mask.zeros
        keep = _put(payloads, f"{name}:keep", encode_mask(mask, base))
    if isinstance(change, DenseValues | SparseValues):
        dtype = dtype_name(change.values.dtype)
        if round_values is not None and change.values.dtype in (torch.float32, torch.float64):
            rounded = round_values
        try:
            encoded = _encoded(change, base, rounded)
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error}") from None
        values = _put(payloads, f"{name}:values", encoded.data, coding=encoded.coding)
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
            rounded=rounded,
        )
    except ValidationError as error:
        raise ConfigurationError(f"this delta cannot be stored: {describe_invalid(error)}") from None


def _kind(change: Change) -> _Kind:
    if isinstance(change, KeepMask):
        return "keep_mask"
    return "dense_values" if isinstance(change, DenseValues) else "sparse_values"


def _put(payloads: dict[str, bytes], name: str, data: bytes, *, coding: str | None = None) -> PayloadRecord:
    payloads[name] = data
    return PayloadRecord.model_validate({"nbytes": len(data), "crc32": checksum(data), "coding": coding})


def _encoded(change: DenseValues | SparseValues, base: Tensor | None, rounded: SixteenBits | None) -> EncodedValues:
    values, reference = change.values, _reference(change, base)
    if rounded is None:
        return encode_values(values, reference)
    return encode_values(
        _rounded(values, rounded), None if reference is None else _rounded_reference(reference, rounded)
    )


def _reference(change: DenseValues | SparseValues, base: Tensor | None) -> Tensor | None:
    """The base's values at the places of a change's values, if they can be compared."""
    if base is None or base.dtype is not change.values.dtype:
        return None
    values = base.detach().cpu().contiguous()
    return values if isinstance(change, DenseValues) else _survivors(values, change.positions)


def _rounded(values: Tensor, kind: SixteenBits) -> Tensor:
    rounded = round_to_16_bits(values, kind)
    narrow = rounded.to(_ROUNDED[kind])
    # Which NaN torch makes of one differs between machines, and on one machine within a tensor.
    narrow.view(torch.int16)[rounded.isnan()] = _NAN[kind]
    return narrow


def _rounded_reference(reference: Tensor, kind: SixteenBits) -> Tensor:
    """The base's values in 16 bits. Any numbers will do that writer and reader agree on, so overflow does no harm."""
    largest = torch.finfo(_ROUNDED[kind]).max
    return _rounded(reference.nan_to_num().clamp(-largest, largest), kind)


def _survivors(values: Tensor, mask: MaskPositions) -> Tensor:
    positions = torch.from_numpy(mask.positions.copy())
    if not mask.dropped:
        return values.reshape(-1)[positions]
    return values[mask.keep]


def _decode_1(record: ChangeRecord, payloads: Mapping[str, bytes], base: Tensor | None) -> Change:
    values = payloads.get(f"{record.name}:values", b"")
    if record.zeros is None:
        return DenseValues(from_bytes(values, STORED_DTYPES[str(record.dtype)][0], record.shape))
    mask = MaskPositions.of(decode_keep_mask(payloads[f"{record.name}:keep"], record.shape, record.zeros))
    if record.kind == "keep_mask":
        return KeepMask(mask)
    count = (record.weights - record.zeros,)
    return SparseValues(mask, from_bytes(values, STORED_DTYPES[str(record.dtype)][0], count))


def _decode_2(record: ChangeRecord, payloads: Mapping[str, bytes], base: Tensor | None) -> Change:
    if record.zeros is None:
        reference = _needed(record, base)
        return DenseValues(_decode_values(record, payloads, record.weights, reference).reshape(record.shape))
    mask = decode_mask(payloads[f"{record.name}:keep"], record.shape, record.zeros, base)
    if record.kind == "keep_mask":
        return KeepMask(mask)
    reference = _needed(record, base)
    reference = None if reference is None else _survivors(reference, mask)
    return SparseValues(mask, _decode_values(record, payloads, record.weights - record.zeros, reference))


def _needed(record: ChangeRecord, base: Tensor | None) -> Tensor | None:
    """The base's tensor, if values were coded against it and it is at hand."""
    if base is None or record.values is None or not needs_reference(str(record.values.coding)):
        return None
    if tuple(base.shape) != record.shape or dtype_name(base.dtype) != record.dtype:
        raise BaseMismatchError(
            f"the values are coded against {record.dtype} of shape {record.shape}, "
            f"received {dtype_name(base.dtype)} of {tuple(base.shape)}"
        )
    return base.detach().cpu().contiguous()


def _decode_values(record: ChangeRecord, payloads: Mapping[str, bytes], count: int, reference: Tensor | None) -> Tensor:
    assert record.values is not None
    dtype = STORED_DTYPES[str(record.dtype)][0]
    if reference is not None and record.rounded is not None:
        reference = _rounded_reference(reference, record.rounded)
    values = decode_values(
        payloads[f"{record.name}:values"],
        coding=str(record.values.coding),
        dtype=dtype if record.rounded is None else _ROUNDED[record.rounded],
        count=count,
        reference=reference,
    )
    return values.to(dtype)
