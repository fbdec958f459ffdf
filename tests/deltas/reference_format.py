"""Deltas' files written and read by docs/FORMAT.md alone: no code shared with the library."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import zstandard
from torch import Tensor

from deltas import reference_values
from deltas.coding import reference_masks
from supermask.deltas import Change, ChangePlace, DenseValues, KeepMask, SparseValues

KINDS = {KeepMask: "keep_mask", DenseValues: "dense_values", SparseValues: "sparse_values"}


# Bits.


def raw(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b""


def dtype_of(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def bits_of(tensor: Tensor) -> reference_masks.Base:
    size, data = tensor.element_size(), raw(tensor)
    bits = [int.from_bytes(data[place : place + size], "little") for place in range(0, len(data), size)]
    return reference_masks.Base(bits, dtype_of(tensor))


# The file.


class File(NamedTuple):
    header: dict[str, Any]
    packed: bytes
    payloads: bytes

    @property
    def text(self) -> str:
        return zstandard.ZstdDecompressor().decompressobj().decompress(self.packed).decode()

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.text)
        return document


def split(data: bytes) -> File:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    return File(header, *(body[slice(*header[key]["data_offsets"])] for key in ("document", "payloads")))


def header_of(text: str | bytes, packed: int, payloads: int, *, named: str = "supermask-delta 1") -> dict[str, Any]:
    sha256 = hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()
    return {
        "__metadata__": {"format": f"{named} {sha256}"},
        "document": {"dtype": "U8", "shape": [packed], "data_offsets": [0, packed]},
        "payloads": {"dtype": "U8", "shape": [payloads], "data_offsets": [packed, packed + payloads]},
    }


def behind(header: Any, body: bytes) -> bytes:
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded + body


def joined(text: str, payloads: bytes, *, packed: bytes | None = None, named: str = "supermask-delta 1") -> bytes:
    """A file; the document's frame is written by hand, in uncompressed blocks, unless it is given."""
    packed = reference_values.frame(text.encode()) if packed is None else packed
    return behind(header_of(text, len(packed), len(payloads), named=named), packed + payloads)


# The document.


def fingerprint(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    root, short, sizes = hashlib.sha256(b"supermask fingerprint 1\n"), {}, dict[str, int]()
    groups: dict[tuple[int, ...], list[str]] = {}

    def counted(name: str) -> bytes:
        return len(name.encode()).to_bytes(4, "little") + name.encode()

    for name in sorted(tensors):
        tensor = tensors[name]
        head = f"{dtype_of(tensor)}[{','.join(map(str, tensor.shape))}]\n".encode()
        digest = hashlib.sha256(head + raw(tensor)).digest()
        root.update(counted(name) + digest)
        short[name] = digest.hex()[:8]
        group = groups.setdefault((id(tensor), *tensor.shape) if tensor.numel() else (-len(groups),), [])
        group.append(name)
        if len(group) == 1:
            sizes[dtype_of(tensor)] = sizes.get(dtype_of(tensor), 0) + tensor.numel()
    for group in groups.values():
        if len(group) > 1:
            root.update(b"\xff" * 4 + len(group).to_bytes(4, "little") + b"".join(map(counted, group)))
    return {"digest": root.hexdigest(), "tensors": short, "dtype": max(sizes, key=lambda dtype: sizes[dtype])}


def document_and_payloads(
    changes: Mapping[str, Change],
    *,
    base: Mapping[str, Tensor],
    head: Sequence[str] = (),
    places: Mapping[str, ChangePlace] | None = None,
    architecture: str = "unknown",
    base_name: str | None = None,
    **described: Any,
) -> tuple[dict[str, Any], bytes]:
    """Masks by one law for all, values as they are."""
    records, payloads = [], b""
    for name, change in changes.items():
        record: dict[str, Any] = {"name": name, "kind": KINDS[type(change)], "shape": list(change.shape)}
        place = (places or {}).get(name, ChangePlace())
        record |= {} if place.role is None else {"role": place.role}
        record |= {} if place.block is None else {"block": place.block}
        if isinstance(change, KeepMask | SparseValues):
            keep = change.keep.reshape(-1).tolist()
            data = reference_masks.encode(keep, change.shape, reference_masks.Model(), None)
            record |= {"zeros": keep.count(False), "keep_nbytes": len(data)}
            payloads += data
        if isinstance(change, DenseValues | SparseValues):
            data = raw(change.values)
            record |= {"dtype": dtype_of(change.values), "values_nbytes": len(data), "values_coding": "raw"}
            payloads += data
        records.append(record)
    named = {"name": base_name} if base_name else {}
    document = {
        "base": {**fingerprint(base), **named, "architecture": architecture},
        "head": list(head),
        **{name: told for name, told in described.items() if told},
        "changes": records,
        "payloads_sha256": hashlib.sha256(payloads).hexdigest(),
    }
    return document, payloads


def as_json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def file_bytes(changes: Mapping[str, Change], **described: Any) -> bytes:
    document, payloads = document_and_payloads(changes, **described)
    return joined(as_json(document), payloads)


# Reading.


class Found(NamedTuple):
    """A change as it was read: which weights survive, and the values' bytes."""

    keep: list[bool] | None
    values: bytes | None


def expected(change: Change) -> Found:
    keep = None if isinstance(change, DenseValues) else change.keep.reshape(-1).tolist()
    return Found(keep, None if isinstance(change, KeepMask) else raw(change.values))


def read(data: bytes, base: Mapping[str, Tensor], *, named: str = "supermask-delta 1") -> dict[str, Found]:
    """What a file does to each tensor."""
    file = split(data)
    document = file.document
    assert file.header == header_of(file.text, len(file.packed), len(file.payloads), named=named)
    assert hashlib.sha256(file.payloads).hexdigest() == document["payloads_sha256"]
    rest, found = file.payloads, {}
    for record in document["changes"]:
        keep = values = None
        weights = torch.Size(record["shape"]).numel()
        if "zeros" in record:
            mask, rest = rest[: record["keep_nbytes"]], rest[record["keep_nbytes"] :]
            bits = bits_of(base[record["name"]]) if base else None
            keep = reference_masks.decode(mask, record["shape"], record["zeros"], bits)
        if "dtype" in record:
            coded, rest = rest[: record["values_nbytes"]], rest[record["values_nbytes"] :]
            olds: list[int] = []
            if "difference" in record["values_coding"]:
                olds = bits_of(base[record["name"]]).bits
                olds = olds if keep is None else [old for old, kept in zip(olds, keep, strict=True) if kept]
            count = weights if keep is None else sum(keep)
            elements = reference_values.decode(coded, record["dtype"], count, record["values_coding"], olds)
            size = reference_values.SIZE[record["dtype"]]
            values = b"".join(element.to_bytes(size, "little") for element in elements)
        found[record["name"]] = Found(keep, values)
    assert not rest
    return found
