"""Which base a model is: a hash over tensor names, shapes, dtypes, bytes and ties; and the one check of it.

The bytes that are hashed are specified in docs/FORMAT.md, section "Fingerprint".
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import final

from torch import Tensor, nn

from supermask.deltas.tensor_bytes import as_bytes, dtype_name
from supermask.deltas.threads import run_in_threads
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaStateError

__all__ = ["SHORT_HASH", "Fingerprint", "base_fingerprint", "fingerprint", "named_tensors", "require_base"]

SHORT_HASH = 8  # hex digits of a shortened hash

_ROOT = b"supermask fingerprint 1\n"
_TIED = b"\xff\xff\xff\xff"  # no name is that long
_NAMED_IN_ERRORS = 3
_CHUNK_BYTES = 1 << 26


@final
@dataclass(frozen=True)
class Fingerprint:
    """The identity of a set of named tensors.

    Args:
        digest: SHA-256 in hex over every name, every tensor's hash and every tie; equal digests mean equal models.
        tensors: name to the first 8 hex digits of the tensor's hash, to say which tensors differ.
        dtype: of most of the weights, to explain a mismatch.
        name: what the base is called, for messages.
    """

    digest: str
    tensors: Mapping[str, str]
    dtype: str
    name: str | None = field(default=None, compare=False)


def fingerprint(tensors: Mapping[str, Tensor]) -> Fingerprint:
    """Hash named tensors, bit for bit; device and strides do not count, but which names share one tensor does.

    Args:
        tensors: name to tensor, any dtype, strides and device; a tensor under two names is read once.

    Raises:
        DeltaStateError: if a tensor is on the meta device, and so has no bytes.

    Example:
        >>> import torch
        >>> weight = torch.ones(2)
        >>> fingerprint({"a": weight, "b": weight}) == fingerprint({"a": weight, "b": weight.clone()})
        False
    """
    names: defaultdict[tuple[object, ...], list[str]] = defaultdict(list)
    for name in sorted(tensors):
        names[_place(name, tensors[name])].append(name)
    groups = list(names.values())
    hashes: dict[str, bytes] = {}

    def hash_one(name: str) -> None:
        hashes[name] = _tensor_hash(tensors[name])

    # Hashing is most of the time that applying a delta takes, and lets other threads run meanwhile.
    run_in_threads(hash_one, {group[0]: tensors[group[0]] for group in groups})
    weights: Counter[str] = Counter()
    for group in groups:
        hashes.update(dict.fromkeys(group, hashes[group[0]]))
        weights[dtype_name(tensors[group[0]].dtype)] += tensors[group[0]].numel()
    root = hashlib.sha256(_ROOT)
    for name in sorted(tensors):
        root.update(_counted(name) + hashes[name])
    for group in groups:
        if len(group) > 1:
            root.update(_TIED + len(group).to_bytes(4, "little") + b"".join(map(_counted, group)))
    return Fingerprint(
        digest=root.hexdigest(),
        tensors={name: hashes[name].hex()[:SHORT_HASH] for name in sorted(tensors)},
        dtype=max(weights, key=lambda name: (weights[name], name)) if weights else "none",
    )


def named_tensors(model: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's parameters and persistent buffers by name, live, tied ones under each; a mapping stays as it is."""
    if not isinstance(model, nn.Module):
        return dict(model)
    persistent = model.state_dict(keep_vars=True).keys()
    found = chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    return {name: tensor for name, tensor in found if name in persistent}


def base_fingerprint(model: nn.Module, *, head: Collection[str] = ()) -> Fingerprint:
    """The fingerprint of a model without its task head, which a delta brings along.

    Args:
        model: as it is loaded: nothing attached, no delta applied.
        head: names of the head's tensors.

    Raises:
        ConfigurationError: if the model has no tensor of a head name.
        DeltaStateError: if a tensor is on the meta device.
    """
    tensors = named_tensors(model)
    if unknown := [name for name in head if name not in tensors]:
        raise ConfigurationError(
            f"{', '.join(unknown)}: named as head, but no tensor of this {type(model).__name__}; its last tensors: "
            f"{', '.join(list(tensors)[-_NAMED_IN_ERRORS:])}"
        )
    return fingerprint({name: tensors[name] for name in tensors.keys() - set(head)})


def require_base(
    base: nn.Module | Mapping[str, Tensor],
    expected: Fingerprint,
    *,
    head: Collection[str] | None = None,
    names: Collection[str] | None = None,
) -> None:
    """Refuse what is not the base that a delta was learnt on.

    Args:
        base: the model with nothing on it, or its tensors by name.
        expected: its fingerprint.
        head: names of the head's tensors, which are not looked at; by default whatever is not among the base's.
        names: check these tensors alone, by their short hashes; by default all, by the digest.

    Raises:
        BaseMismatchError: naming the first few tensors that differ, are missing or are extra.
        DeltaStateError: if a tensor is on the meta device.
    """
    tensors = named_tensors(base)
    if names is not None:
        chosen = {name for name in names if name in tensors and name in expected.tensors}
    else:
        chosen = tensors.keys() & expected.tensors.keys() if head is None else tensors.keys() - set(head)
    found = fingerprint({name: tensors[name] for name in tensors if name in chosen})
    shared = [name for name in expected.tensors if name in found.tensors]
    differing = [name for name in shared if found.tensors[name] != expected.tensors[name]]
    if not differing if names is not None else found.digest == expected.digest:
        return
    faults = [f"{len(differing)} of {len(shared)} tensors differ{_some(differing)}"] if differing else []
    if names is None:
        missing = [name for name in expected.tensors if name not in found.tensors]
        extra = [name for name in found.tensors if name not in expected.tensors]
        for what, those in (("missing", missing), ("not in that base", extra)):
            if those:
                faults.append(f"{len(those)} {'is' if len(those) == 1 else 'are'} {what}{_some(those)}")
    described = ", ".join(faults) or "no tensor's short hash differs, but the digest does, as if others were tied"
    remedy = "load that base, at the revision that the delta names, with nothing attached and no delta on it"
    if found.dtype != expected.dtype:
        remedy = f"it is {found.dtype} here and was {expected.dtype}: load it with dtype=torch.{expected.dtype}"
    named = f" {expected.name!r}" if expected.name else ""
    raise BaseMismatchError(f"this is not the base{named} that the delta was learnt on: {described}; {remedy}")


def _place(name: str, tensor: Tensor) -> tuple[object, ...]:
    """Equal for tensors that are one: the same elements in the same memory."""
    if tensor.is_meta:
        raise DeltaStateError(f"{name} is on the meta device and has no values; load the model's weights first")
    if not tensor.data_ptr():  # it is empty, or keeps its elements in some way of its own
        return (name,)
    return (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())


def _tensor_hash(tensor: Tensor) -> bytes:
    shape = ",".join(str(size) for size in tensor.shape)
    digest = hashlib.sha256(f"{dtype_name(tensor.dtype)}[{shape}]\n".encode())
    flat = tensor.detach().contiguous().reshape(-1)
    # In pieces, so that the weights of a device need not fit in memory here all at once.
    step = max(flat.numel(), 1) if flat.device.type == "cpu" else max(_CHUNK_BYTES // flat.element_size(), 1)
    for start in range(0, flat.numel(), step):
        digest.update(as_bytes(flat[start : start + step]))
    return digest.digest()


def _counted(name: str) -> bytes:
    encoded = name.encode("utf-8")
    return len(encoded).to_bytes(4, "little") + encoded


def _some(names: list[str]) -> str:
    more = ", ..." if len(names) > _NAMED_IN_ERRORS else ""
    return f" ({', '.join(names[:_NAMED_IN_ERRORS])}{more})"
