"""Which base a model is: a hash over tensor names, shapes, dtypes and bytes.

The bytes that are hashed are specified in docs/FORMAT.md, section "Fingerprint".
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import final

from torch import Tensor, nn

from supermask.deltas.tensor_bytes import as_bytes, dtype_name
from supermask.deltas.threads import run_in_threads
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaStateError

__all__ = [
    "SHORT_HASH",
    "Fingerprint",
    "base_fingerprint",
    "fingerprint",
    "named_tensors",
    "require_base_tensors",
    "require_same_base",
]

_ROOT = b"supermask fingerprint 1\n"
SHORT_HASH = 8
"""Hex digits of a shortened hash."""
_NAMED_IN_ERRORS = 3
_CHUNK_BYTES = 1 << 26


@final
@dataclass(frozen=True)
class Fingerprint:
    """The identity of a set of named tensors.

    Args:
        digest: SHA-256 in hex over every name and every tensor's full hash; equal digests mean equal tensors.
        tensors: name to the first 8 hex digits of the tensor's hash: enough to say which tensors differ.
        dtype: the dtype of most of the weights, to explain a mismatch.
    """

    digest: str
    tensors: Mapping[str, str]
    dtype: str


def fingerprint(tensors: Mapping[str, Tensor]) -> Fingerprint:
    """Hash named tensors, bit for bit.

    A tensor's hash is SHA-256 over its dtype, shape and row-major bytes; the digest, over the sorted names and hashes.

    Args:
        tensors: name to tensor, any dtype, strides and device; a tensor under two names is read once.

    Returns:
        The fingerprint; the same on every device and for every memory layout.

    Raises:
        DeltaStateError: if a tensor is on the meta device, and so has no bytes.

    Example:
        >>> import torch
        >>> one = fingerprint({"a": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})
        >>> one == fingerprint({"a": torch.tensor([[1.0, 3.0], [2.0, 4.0]]).t()})
        True
        >>> one == fingerprint({"a": torch.tensor([[1.0, 2.0], [3.0, -4.0]])})
        False
    """
    for name in sorted(tensors):
        if tensors[name].is_meta:
            raise DeltaStateError(f"{name} is on the meta device and has no values; load the model's weights first")
    distinct = {id(tensor): tensor for tensor in tensors.values()}
    hashes: dict[int, bytes] = {}

    def hash_one(key: int) -> None:
        hashes[key] = _tensor_hash(distinct[key])

    # Hashing is most of the time that applying a delta takes, and lets other threads run meanwhile.
    run_in_threads(hash_one, {key: tensor.numel() for key, tensor in distinct.items()})
    root = hashlib.sha256(_ROOT)
    shortened: dict[str, str] = {}
    for name in sorted(tensors):
        encoded, found = name.encode("utf-8"), hashes[id(tensors[name])]
        root.update(len(encoded).to_bytes(4, "little") + encoded + found)
        shortened[name] = found.hex()[:SHORT_HASH]
    weights: Counter[str] = Counter()
    for tensor in distinct.values():
        weights[dtype_name(tensor.dtype)] += tensor.numel()
    dtype = max(weights, key=lambda name: (weights[name], name)) if weights else "none"
    return Fingerprint(digest=root.hexdigest(), tensors=shortened, dtype=dtype)


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters and persistent buffers by name; a tied tensor appears under each of its names.

    Args:
        model: any module.

    Returns:
        The live tensors, not copies.

    Example:
        >>> sorted(named_tensors(nn.BatchNorm1d(2, affine=False)))
        ['num_batches_tracked', 'running_mean', 'running_var']
    """
    persistent = model.state_dict(keep_vars=True).keys()
    found: Iterable[tuple[str, Tensor]] = chain(
        model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)
    )
    return {name: tensor for name, tensor in found if name in persistent}


def base_fingerprint(model: nn.Module, *, head: Collection[str] = ()) -> Fingerprint:
    """The fingerprint of a model without its task head, which a delta brings along.

    Args:
        model: the base, as it is loaded: nothing attached, no delta applied.
        head: names of the head's tensors.

    Returns:
        The fingerprint of every other parameter and persistent buffer.

    Raises:
        ConfigurationError: if the model has no tensor of a head name.
        DeltaStateError: if a tensor is on the meta device.

    Example:
        >>> sorted(base_fingerprint(nn.Linear(2, 2), head=["bias"]).tensors)
        ['weight']
    """
    tensors = named_tensors(model)
    if unknown := [name for name in head if name not in tensors]:
        raise ConfigurationError(
            f"{', '.join(unknown)}: named as head, but no tensor of this {type(model).__name__}; its last tensors: "
            f"{', '.join(list(tensors)[-_NAMED_IN_ERRORS:])}"
        )
    excluded = set(head)
    return fingerprint({name: tensor for name, tensor in tensors.items() if name not in excluded})


def require_base_tensors(tensors: Mapping[str, Tensor], expected: Fingerprint) -> None:
    """Refuse tensors that are not the base's, by the short hash of each: what is coded against them must be theirs.

    Args:
        tensors: some of the base's, by name; names that are not the base's are passed over.
        expected: of the whole base.

    Raises:
        BaseMismatchError: naming the first few that differ.
        DeltaStateError: if a tensor is on the meta device.

    Example:
        >>> import torch
        >>> base = {"a": torch.tensor([1.0]), "b": torch.tensor([2.0])}
        >>> require_base_tensors({"a": torch.tensor([1.0])}, fingerprint(base))
    """
    found = fingerprint({name: tensor for name, tensor in tensors.items() if name in expected.tensors})
    if differing := [name for name, short in found.tensors.items() if not _agree(short, expected.tensors[name])]:
        raise BaseMismatchError(
            f"{len(differing)} of {len(found.tensors)} tensors are not the base's{_some(differing)}; pass the base as "
            "it was loaded, with nothing attached and no delta on it"
        )


def require_same_base(found: Fingerprint, expected: Fingerprint, *, base_name: str | None = None) -> None:
    """Refuse a model that is not the base a delta was learnt on.

    Args:
        found: of the model at hand.
        expected: of the delta's base.
        base_name: what the delta calls its base, for the message.

    Raises:
        BaseMismatchError: naming the first few tensors that differ, are missing or are extra.

    Example:
        >>> import torch
        >>> one, other = (fingerprint({"a": torch.tensor([value])}) for value in (1.0, 2.0))
        >>> require_same_base(one, other, base_name="tiny")
        Traceback (most recent call last):
        supermask.errors.BaseMismatchError: this model is not the base 'tiny' that the delta was learnt on: ...1 of 1...
    """
    if found.digest == expected.digest:
        return
    shared = [name for name in expected.tensors if name in found.tensors]
    differing = [name for name in shared if not _agree(found.tensors[name], expected.tensors[name])]
    faults = [
        f"{len(differing)} of {len(shared)} tensors differ" + _some(differing) if differing else "",
        _counted("missing", [name for name in expected.tensors if name not in found.tensors]),
        _counted("not in that base", [name for name in found.tensors if name not in expected.tensors]),
    ]
    described = ", ".join(fault for fault in faults if fault) or "no tensor's short hash differs, but the digest does"
    remedy = "load that base, at the revision that the delta names"
    if found.dtype != expected.dtype:
        remedy = f"it is {found.dtype} here and was {expected.dtype}: load it with dtype=torch.{expected.dtype}"
    base = f"the base {base_name!r}" if base_name else "the base"
    raise BaseMismatchError(f"this model is not {base} that the delta was learnt on: {described}; {remedy}")


def _agree(one: str, other: str) -> bool:
    """Whether two shortened hashes may be of one tensor; deltas of format version 1 have longer ones."""
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def _tensor_hash(tensor: Tensor) -> bytes:
    shape = ",".join(str(size) for size in tensor.shape)
    digest = hashlib.sha256(f"{dtype_name(tensor.dtype)}[{shape}]\n".encode())
    flat = tensor.detach().contiguous().reshape(-1)
    # In pieces, so that the weights of a device need not fit in memory here all at once.
    step = max(flat.numel(), 1) if flat.device.type == "cpu" else max(_CHUNK_BYTES // flat.element_size(), 1)
    for start in range(0, flat.numel(), step):
        digest.update(as_bytes(flat[start : start + step]))
    return digest.digest()


def _counted(what: str, names: list[str]) -> str:
    return f"{len(names)} {'is' if len(names) == 1 else 'are'} {what}{_some(names)}" if names else ""


def _some(names: list[str]) -> str:
    more = ", ..." if len(names) > _NAMED_IN_ERRORS else ""
    return f" ({', '.join(names[:_NAMED_IN_ERRORS])}{more})"
