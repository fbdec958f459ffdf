"""What a task is once learnt: the delta, the base that it belongs to, its file, and putting it on and taking it off."""

from __future__ import annotations

from supermask.deltas.changes import Change, DenseValues, KeepMask, SparseValues
from supermask.deltas.delta import TaskDelta
from supermask.deltas.document import (
    BaseRecord,
    ChangePlace,
    ChangeRecord,
    DataRecord,
    DeltaDocument,
    MethodRecord,
    TaskRecord,
    TrainingRecord,
)
from supermask.deltas.file import read_document
from supermask.deltas.fingerprint import Fingerprint, base_fingerprint, fingerprint, named_tensors
from supermask.deltas.store import DeltaStore

__all__ = [
    "BaseRecord",
    "Change",
    "ChangePlace",
    "ChangeRecord",
    "DataRecord",
    "DeltaDocument",
    "DeltaStore",
    "DenseValues",
    "Fingerprint",
    "KeepMask",
    "MethodRecord",
    "SparseValues",
    "TaskDelta",
    "TaskRecord",
    "TrainingRecord",
    "base_fingerprint",
    "fingerprint",
    "named_tensors",
    "read_document",
]
