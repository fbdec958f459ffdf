"""Files of format version 1 written by docs/FORMAT.md, section "Version 1", alone: no code shared with the library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from deltas import reference_codec
from supermask.deltas import Change, ChangePlace, DenseValues, KeepMask, SparseValues

TAGS = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
}


def raw(tensor: Tensor) -> bytes:
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist())


def dtype_of(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def base_record(tensors: Mapping[str, Tensor], *, name: str | None, architecture: str) -> dict[str, Any]:
    root, short = hashlib.sha256(b"supermask fingerprint 1\n"), {}
    sizes: dict[str, int] = {}
    for key in sorted(tensors):
        tensor = tensors[key]
        head = f"{dtype_of(tensor)}[{','.join(map(str, tensor.shape))}]\n".encode()
        digest = hashlib.sha256(head + (raw(tensor) if tensor.numel() else b"")).digest()
        root.update(len(key.encode()).to_bytes(4, "little") + key.encode() + digest)
        short[key] = digest.hex()[:16]
        sizes[dtype_of(tensor)] = sizes.get(dtype_of(tensor), 0) + tensor.numel()
    record = {"architecture": architecture, "digest": root.hexdigest(), "tensors": short}
    return {**record, "dtype": max(sizes, key=lambda dtype: sizes[dtype]), **({"name": name} if name else {})}


def document_and_payloads(
    changes: Mapping[str, Change],
    *,
    base: Mapping[str, Tensor],
    head: Sequence[str] = (),
    places: Mapping[str, ChangePlace] | None = None,
    architecture: str = "unknown",
    base_name: str | None = None,
    **described: Any,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    payloads: dict[str, bytes] = {}
    records = []
    for name, change in changes.items():
        kind = {KeepMask: "keep_mask", DenseValues: "dense_values", SparseValues: "sparse_values"}[type(change)]
        record: dict[str, Any] = {"name": name, "kind": kind, "shape": list(change.shape)}
        place = (places or {}).get(name, ChangePlace())
        record |= {} if place.role is None else {"role": place.role}
        record |= {} if place.block is None else {"block": place.block}
        if isinstance(change, KeepMask | SparseValues):
            keep = change.keep.reshape(-1).tolist()
            record["zeros"] = keep.count(False)
            payloads[f"{name}:keep"] = reference_codec.encode(keep)
            record["keep"] = payload_record(payloads[f"{name}:keep"])
        if isinstance(change, DenseValues | SparseValues):
            record["dtype"] = dtype_of(change.values)
            payloads[f"{name}:values"] = raw(change.values) if change.values.numel() else b""
            record["values"] = payload_record(payloads[f"{name}:values"])
        records.append(record)
    document = {
        "format": "supermask-delta",
        "version": 1,
        "base": base_record(base, name=base_name, architecture=architecture),
        "head": list(head),
        "method": {},
        "task": {},
        "training": {},
        "changes": records,
    }
    return document | described, payloads


def payload_record(data: bytes) -> dict[str, Any]:
    return {"nbytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def as_json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def header_and_body(document: Mapping[str, Any], payloads: Mapping[str, bytes]) -> tuple[dict[str, Any], bytes]:
    text = as_json(document)
    metadata = {
        "format": "supermask-delta",
        "version": "1",
        "document": text,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    entries: list[tuple[int, str, str, list[int]]] = []
    for record in document["changes"]:
        if "keep" in record:
            entries.append((1, f"{record['name']}:keep", "U8", [record["keep"]["nbytes"]]))
        if "values" in record:
            itemsize = int("".join(filter(str.isdigit, record["dtype"].split("_")[0]))) // 8
            weights = torch.Size(record["shape"]).numel()
            shape = [weights - record["zeros"]] if "zeros" in record else record["shape"]
            entries.append((itemsize, f"{record['name']}:values", TAGS[record["dtype"]], shape))
    header: dict[str, Any] = {"__metadata__": metadata}
    body = b""
    for _, name, tag, shape in sorted(entries, key=lambda entry: (-entry[0], entry[1])):
        offsets = [len(body), len(body) + len(payloads[name])]
        header[name] = {"dtype": tag, "shape": shape, "data_offsets": offsets}
        body += payloads[name]
    return header, body


def joined(header: Mapping[str, Any], body: bytes) -> bytes:
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded + body


def file_bytes(changes: Mapping[str, Change], **described: Any) -> bytes:
    """The whole file."""
    return joined(*header_and_body(*document_and_payloads(changes, **described)))
