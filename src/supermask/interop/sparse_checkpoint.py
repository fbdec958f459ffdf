"""A task model as a checkpoint that keeps its zeros as masks: small, exact, and complete without the base.

Its file is written and read as a delta's is, `supermask.deltas.file`, and each tensor coded as a change without a base.
docs/export.md, section "The sparse file", specifies it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import torch
from pydantic import ValidationError, model_validator
from torch import Tensor

from supermask.atomic import write_through
from supermask.deltas import DenseValues, KeepMask, SparseValues, TaskDelta, named_tensors
from supermask.deltas.coding import needs_reference
from supermask.deltas.document import (
    BaseRecord,
    ChangePlace,
    ChangeRecord,
    ListOf,
    Name,
    Sha256,
    StoredDocument,
    describe_invalid,
)
from supermask.deltas.file import (
    FileKind,
    Payloads,
    file_nbytes,
    file_pieces,
    opened,
    payloads_digest,
    require_storable,
)
from supermask.deltas.payloads import decode_change, encode_change
from supermask.deltas.tensor_bytes import STORED_DTYPES, as_bits
from supermask.errors import ConfigurationError, DeltaFormatError, DeltaStateError
from supermask.interop.export_folder import check_new_folder, new_folder, task_config
from supermask.models import Base
from supermask.models.loading import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["SPARSE_FILE", "SparseDocument", "load_sparse_checkpoint", "read_sparse_document", "save_sparse_checkpoint"]

SPARSE_FILE: Final = "sparse_model.safetensors"

_MAX_EXPANSION: Final = 4096  # a file of 1 MB never makes a reader allocate more than 4 GB
_NAMED_IN_ERRORS: Final = 3


@final
class SparseDocument(StoredDocument):
    """All that a sparse checkpoint's file says about itself; its changes are every tensor of the model, each once.

    Args:
        base: of the delta that was merged, with the class of the model, and without the hashes of its tensors.
        delta: the digest of that delta.
        ties: the names of each tensor that has several, the one that its change has first.
    """

    base: BaseRecord
    delta: Sha256
    ties: ListOf[ListOf[Name]] = ()

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """All names of each tensor, by the one that its change has."""
        tied = {group[0]: group for group in self.ties}
        return {change.name: tied.get(change.name, (change.name,)) for change in self.changes}

    @property
    def dense_nbytes(self) -> int:
        """The size of the whole model in memory, a shared tensor counted once."""
        return sum(change.weights * STORED_DTYPES[str(change.dtype)].itemsize for change in self.changes)

    @property
    def nbytes(self) -> int:
        """The size of the file, header and all."""
        return file_nbytes(_SPARSE, self)

    @model_validator(mode="after")
    def _complete(self) -> SparseDocument:
        for change in self.changes:
            if change.kind == "keep_mask" or needs_reference(str(change.values_coding)):
                raise ValueError(f"{change.name}: a tensor comes with values that need no base")
        changed, firsts = {change.name for change in self.changes}, [group[0] for group in self.ties if group]
        others = [name for group in self.ties for name in group[1:]]
        if len({*changed, *others}) < len(changed) + len(others) or len(set(firsts)) < len(self.ties):
            raise ValueError("a tensor is named twice")
        if not changed.issuperset(firsts):
            raise ValueError(f"{min(set(firsts) - changed)}: tied, but no tensor")
        if self.dense_nbytes > _MAX_EXPANSION * sum(change.nbytes for change in self.changes):
            raise ValueError(f"the model is more than {_MAX_EXPANSION} times as large as what is stored of it")
        return self


_SPARSE = FileKind(
    document=SparseDocument,
    format="supermask-sparse-checkpoint",
    version=1,
    file=SPARSE_FILE,
    noun="sparse checkpoint",
    writer="save_sparse_checkpoint",
)


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
    with delta.applied(base.model):
        groups = _shared(named_tensors(base.model))
        encoded = [_encode(names[0], tensor) for names, tensor in groups]
    payloads = {record.name: parts for record, parts in encoded}
    try:
        document = SparseDocument(
            base=delta.document.base.model_copy(update={"architecture": type(base.model).__name__, "tensors": {}}),
            delta=delta.digest,
            method=delta.method,
            task=delta.task,
            changes=tuple(record for record, _ in encoded),
            ties=tuple(names for names, _ in groups if len(names) > 1),
            payloads_sha256=payloads_digest(payloads.values()),
        )
    except ValidationError as error:
        raise ConfigurationError(f"this model cannot be stored: {describe_invalid(error)}") from None
    require_storable(_SPARSE, document)
    with new_folder(folder, needed_nbytes=document.nbytes) as partial:
        with task_config(base, delta), quiet_transformers():
            base.model.config.save_pretrained(partial)
            base.tokenizer.save_pretrained(partial)
        write_through(partial / SPARSE_FILE, file_pieces(_SPARSE, document, payloads))
    return Path(folder)


def read_sparse_document(folder: str | os.PathLike[str]) -> SparseDocument:
    """Read what a sparse checkpoint says about itself; masks and values are not read.

    Args:
        folder: as `save_sparse_checkpoint` wrote it.

    Raises:
        DeltaFormatError: if there is no sparse checkpoint, or it is truncated or edited.
    """
    with opened(_SPARSE, folder) as file:
        return file.document


def load_sparse_checkpoint(folder: str | os.PathLike[str]) -> PreTrainedModel:
    """Make the task model that `save_sparse_checkpoint` stored, equal to the merged one to the last bit.

    The names and shapes of the file are held against the folder's `config.json`, and the payloads against their hash,
    before anything large is allocated; tensors are decoded one by one into the model, and nothing is unpickled.

    Args:
        folder: as `save_sparse_checkpoint` wrote it. Its tokenizer is loaded as any other.

    Returns:
        The classifier in evaluation mode, on the CPU.

    Raises:
        DeltaFormatError: if there is no sparse checkpoint, or it is truncated, edited or does not fit `config.json`.
        ConfigurationError: if `config.json` is missing or unusable.
        MissingDependencyError: if transformers is not installed.
    """
    with opened(_SPARSE, folder) as file, quiet_transformers():
        document, names = file.document, file.document.names
        config = _config(Path(folder))
        with torch.device("meta"):
            _require_fit(named_tensors(_classifier(config, document)), document, Path(folder))
        for _ in file.payloads():
            pass  # their hash is checked
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # what is drawn here is overwritten below
            model = _classifier(config, document)
        tensors = named_tensors(model)
        for record, (name, parts) in zip(document.changes, file.payloads(), strict=True):
            try:
                change = decode_change(record, parts, None)
            except (DeltaFormatError, DeltaStateError) as error:
                raise DeltaFormatError(f"{file.place}: {name}: {error}") from None
            assert not isinstance(change, KeepMask)  # the document has none
            value = change.whole
            for each in names[name]:
                tensors[each].data = value
    return model.eval()


def _shared(tensors: dict[str, Tensor]) -> list[tuple[tuple[str, ...], Tensor]]:
    """Each tensor once, with all of its names."""
    names: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), []).append(name)
    return [(tuple(group), tensors[group[0]]) for group in names.values()]


def _encode(name: str, tensor: Tensor) -> tuple[ChangeRecord, Payloads]:
    """Code one tensor, with a keep mask if that makes it smaller."""
    cpu = tensor.detach().cpu()
    kept = as_bits(cpu) != 0
    whole = encode_change(name, DenseValues(cpu), place=ChangePlace(), base=None)
    if kept.all():
        return whole
    sparse = encode_change(name, SparseValues(kept, cpu[kept]), place=ChangePlace(), base=None)
    return min(whole, sparse, key=lambda coded: coded[0].nbytes)


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

    architecture = document.base.architecture
    try:
        model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    except Exception as error:  # a model's own code runs on whatever its configuration says
        raise ConfigurationError(
            f"no {architecture} can be made of config.json: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    if type(model).__name__ != architecture:
        raise DeltaFormatError(
            f"the sparse checkpoint is of a {architecture} and config.json makes a {type(model).__name__}; "
            "the two do not belong together"
        )
    return model


def _require_fit(tensors: dict[str, Tensor], document: SparseDocument, folder: Path) -> None:
    """Refuse a file that does not fill the model, tensor by tensor, before either is allocated."""
    names = document.names
    stored = {name: record for record in document.changes for name in names[record.name]}
    faults = [f"{name} is missing in the file" for name in tensors if name not in stored]
    faults += [f"{name} is no tensor of the model" for name in stored if name not in tensors]
    for name in stored.keys() & tensors.keys():
        if tuple(tensors[name].shape) != stored[name].shape:
            faults.append(f"{name} has shape {stored[name].shape} there and {tuple(tensors[name].shape)} in the model")
    for group, _ in _shared({name: tensor for name, tensor in tensors.items() if name in stored}):
        if any(stored[name] is not stored[group[0]] for name in group):
            faults.append(f"{' and '.join(group)} are one tensor of the model and several in the file")
    if faults:
        more = f"; and {len(faults) - _NAMED_IN_ERRORS} more" if len(faults) > _NAMED_IN_ERRORS else ""
        raise DeltaFormatError(
            f"{folder}: the sparse checkpoint does not fit its config.json: "
            f"{'; '.join(sorted(faults)[:_NAMED_IN_ERRORS])}{more}; the two do not belong together"
        )
