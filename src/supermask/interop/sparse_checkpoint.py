"""A task model as a checkpoint that keeps its zeros as masks: small, exact, and complete without the base."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import Tensor

from supermask.atomic import write_through
from supermask.deltas import TaskDelta, named_tensors
from supermask.deltas.coding import decode_mask, decode_values, encode_mask, encode_values
from supermask.deltas.document import describe_invalid
from supermask.deltas.keep_mask import MaskPositions
from supermask.deltas.tensor_bytes import STORED_DTYPES, as_bits, dtype_name
from supermask.errors import ConfigurationError, DeltaFormatError, DeltaStateError
from supermask.interop.export_folder import check_new_folder, new_folder, task_config
from supermask.interop.sparse_document import (
    SPARSE_FILE,
    KeepPayload,
    SparseDocument,
    SparseFile,
    StoredTensor,
    ValuesPayload,
    open_sparse,
    sha256_hex,
    sparse_file_pieces,
)
from supermask.models import Base
from supermask.models.loading import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["load_sparse_checkpoint", "save_sparse_checkpoint"]

_NAMED_IN_ERRORS = 3


def save_sparse_checkpoint(base: Base, delta: TaskDelta, folder: str | Path) -> Path:
    """Merge a delta into its base and save the result without its zeros, with the tokenizer and the configuration.

    Every tensor in which it pays is stored as a coded keep mask, True where the weight is not +0, and the values that
    it keeps; the others as their values. Nothing refers to the base. The folder appears whole or not at all, and the
    base comes back as it was.

    Args:
        base: the delta's base, with a head of the task's size.
        delta: what the task has changed, pruned or masked.
        folder: a place where nothing is yet; it gets `sparse_model.safetensors`, `config.json` and the tokenizer.

    Returns:
        The folder, for `load_sparse_checkpoint`; `read_sparse_document` says what is in it and how large it is.

    Raises:
        ConfigurationError: if the delta drops no weight, or a tensor's dtype cannot be stored.
        OutputError: if the place is taken, cannot be written to, or has too little space.
        BaseMismatchError: if the base is another one than the delta's.
    """
    check_new_folder(folder)
    if not delta.zeros:
        raise ConfigurationError(
            f"the delta (method {delta.method.kind or 'unnamed'}) drops no weight, so a sparse checkpoint would "
            "save nothing; save the merged checkpoint instead"
        )
    payloads: dict[str, bytes] = {}
    with delta.applied(base.model):
        tensors = [_encode(names, tensor, payloads) for names, tensor in _shared(named_tensors(base.model))]
    try:
        document = SparseDocument(
            format="supermask-sparse-checkpoint",
            version=1,
            architecture=type(base.model).__name__,
            base=delta.document.base.name,
            base_fingerprint=delta.base.digest,
            delta=delta.digest,
            method=delta.method.describe(),
            task=delta.task.model_dump(mode="json", exclude_unset=True),
            tensors=tuple(tensors),
        )
    except ValidationError as error:
        raise ConfigurationError(f"this model cannot be stored: {describe_invalid(error)}") from None
    with new_folder(folder, needed_nbytes=document.nbytes) as partial:
        with task_config(base, delta), quiet_transformers():
            base.model.config.save_pretrained(partial)
            base.tokenizer.save_pretrained(partial)
        write_through(partial / SPARSE_FILE, sparse_file_pieces(document, payloads))
    return Path(folder)


def load_sparse_checkpoint(folder: str | os.PathLike[str]) -> PreTrainedModel:
    """Make the task model that `save_sparse_checkpoint` stored, equal to the merged one to the last bit.

    The names and shapes of the file are held against the folder's `config.json` before anything large is allocated, and
    tensors are decoded one by one into the model; every hash is checked and nothing is unpickled.

    Args:
        folder: as `save_sparse_checkpoint` wrote it. Its tokenizer is loaded as any other.

    Returns:
        The classifier in evaluation mode, on the CPU.

    Raises:
        DeltaFormatError: if there is no sparse checkpoint, or it is truncated, edited or does not fit `config.json`.
        ConfigurationError: if `config.json` is missing or unusable.
        MissingDependencyError: if transformers is not installed.
    """
    with open_sparse(folder) as file, quiet_transformers():
        config = _config(Path(folder))
        with torch.device("meta"):
            _require_fit(named_tensors(_classifier(config, file.document)), file.document, Path(folder))
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # what is drawn here is overwritten below
            model = _classifier(config, file.document)
        tensors = named_tensors(model)
        for record in file.document.tensors:
            value = _decode(record, file)
            for name in record.names:
                tensors[name].data = value
    return model.eval()


def _shared(tensors: dict[str, Tensor]) -> list[tuple[tuple[str, ...], Tensor]]:
    """Each tensor once, with all of its names."""
    names: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), []).append(name)
    return [(tuple(group), tensors[group[0]]) for group in names.values()]


def _encode(names: tuple[str, ...], tensor: Tensor, payloads: dict[str, bytes]) -> StoredTensor:
    """Code one tensor, with a keep mask if that makes it smaller."""
    if dtype_name(tensor.dtype) not in STORED_DTYPES:
        raise ConfigurationError(
            f"{names[0]} is {tensor.dtype}, which cannot be stored; save the merged checkpoint instead"
        )
    cpu = tensor.detach().cpu()
    kept = as_bits(cpu) != 0
    zeros = cpu.numel() - int(kept.count_nonzero())
    values, keep, mask = encode_values(cpu), None, b""
    if zeros:
        mask, fewer = encode_mask(MaskPositions.of(kept)), encode_values(cpu[kept])
        if len(mask) + len(fewer.data) < len(values.data):
            values, keep = fewer, KeepPayload(nbytes=len(mask), sha256=sha256_hex(mask))
            payloads[f"{names[0]}:keep"] = mask
    payloads[f"{names[0]}:values"] = values.data
    coding: Any = values.coding
    return StoredTensor(
        names=names,
        shape=tuple(cpu.shape),
        dtype=dtype_name(cpu.dtype),
        zeros=zeros if keep else None,
        keep=keep,
        values=ValuesPayload(nbytes=len(values.data), sha256=sha256_hex(values.data), coding=coding),
    )


def _decode(record: StoredTensor, file: SparseFile) -> Tensor:
    dtype = STORED_DTYPES[record.dtype]
    name = record.names[0]
    try:
        data = file.payload(f"{name}:values", record.values)
        values = decode_values(data, coding=record.values.coding, dtype=dtype, count=record.kept)
        if record.keep is None:
            return values.reshape(record.shape)
        keep = decode_mask(file.payload(f"{name}:keep", record.keep), record.shape, record.zeros or 0).keep
    except (DeltaFormatError, DeltaStateError) as error:
        raise DeltaFormatError(f"{name}: {error}") from None
    bits = torch.zeros(record.shape, dtype=as_bits(values).dtype)
    bits[keep] = as_bits(values)
    return bits.view(dtype)


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers' own code, on whatever the file says
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationError(
            f"{folder}: its config.json cannot be used: {type(error).__name__}: {reason}; export the model again"
        ) from error


def _classifier(config: Any, document: SparseDocument) -> Any:
    from transformers import AutoModelForSequenceClassification

    weights: Counter[str] = Counter()
    for tensor in document.tensors:
        weights[tensor.dtype] += tensor.weights if STORED_DTYPES[tensor.dtype].is_floating_point else 0
    dtype = STORED_DTYPES[max(weights, key=lambda name: (weights[name], name))]
    try:
        model = AutoModelForSequenceClassification.from_config(config, dtype=dtype, trust_remote_code=False)
    except Exception as error:  # a model's own code runs on whatever its configuration says
        raise ConfigurationError(
            f"no {document.architecture} can be made of config.json: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    if type(model).__name__ != document.architecture:
        raise DeltaFormatError(
            f"the sparse checkpoint is of a {document.architecture} and config.json makes a {type(model).__name__}; "
            "the two do not belong together"
        )
    return model


def _require_fit(tensors: dict[str, Tensor], document: SparseDocument, folder: Path) -> None:
    """Refuse a file that does not fill the model, tensor by tensor, before either is allocated."""
    stored = {name: record for record in document.tensors for name in record.names}
    faults = [f"{name} is missing in the file" for name in tensors if name not in stored]
    faults += [f"{name} is no tensor of the model" for name in stored if name not in tensors]
    for name in stored.keys() & tensors.keys():
        if tuple(tensors[name].shape) != stored[name].shape:
            faults.append(f"{name} has shape {stored[name].shape} there and {tuple(tensors[name].shape)} in the model")
    for names, _ in _shared({name: tensor for name, tensor in tensors.items() if name in stored}):
        if any(stored[name] is not stored[names[0]] for name in names):
            faults.append(f"{' and '.join(names)} are one tensor of the model and several in the file")
    if faults:
        more = f"; and {len(faults) - _NAMED_IN_ERRORS} more" if len(faults) > _NAMED_IN_ERRORS else ""
        raise DeltaFormatError(
            f"{folder}: the sparse checkpoint does not fit its config.json: "
            f"{'; '.join(sorted(faults)[:_NAMED_IN_ERRORS])}{more}; the two do not belong together"
        )
