"""Write the golden sparse checkpoint of the version that the code has now; run once a version, by hand.

    PYTHONPATH=tests python tests/interop/golden/make_golden.py

The files stay for good: every later version must read them, to the bits whose hash stands beside them.
"""

import hashlib
from pathlib import Path

import torch
from torch import nn

from interop.tiny_exports import tiny_delta
from supermask import Base
from supermask.interop import save_sparse_checkpoint
from supermask.interop.sparse_checkpoint import SPARSE_FILE
from tiny_bases import tiny_tokenizer
from tiny_models import tiny_model

HERE = Path(__file__).parent


def tensors_digest(model: nn.Module) -> str:
    """SHA-256 over names and bits of a model's tensors."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def golden_base() -> Base:
    model = tiny_model(
        "t5", num_labels=3, d_model=8, d_ff=8, d_kv=4, num_heads=2, num_layers=1, decoder_start_token_id=0
    )
    return Base(model, tiny_tokenizer(), "golden", None, "folder", (), ())


if __name__ == "__main__":
    base = golden_base()
    delta = tiny_delta(base)
    folder = save_sparse_checkpoint(base, delta, HERE / "sparse_new")
    with delta.applied(base.model):
        (folder / "sha256").write_text(tensors_digest(base.model) + "\n")
    for path in folder.iterdir():
        if path.name not in {SPARSE_FILE, "config.json", "sha256"}:
            path.unlink()
