"""Other people's frames and formats."""

from supermask.interop.checkpoint import save_checkpoint
from supermask.interop.export_folder import check_new_folder
from supermask.interop.onnx import OnnxExport, save_onnx
from supermask.interop.sparse_checkpoint import (
    SparseDocument,
    load_sparse_checkpoint,
    read_sparse_document,
    save_sparse_checkpoint,
)

__all__ = [
    "OnnxExport",
    "SparseDocument",
    "check_new_folder",
    "load_sparse_checkpoint",
    "read_sparse_document",
    "save_checkpoint",
    "save_onnx",
    "save_sparse_checkpoint",
]
