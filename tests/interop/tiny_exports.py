"""A tiny base of any architecture, and deltas of every method's kind for it, made without training."""

from pathlib import Path

import torch
from torch import nn

import supermask
from supermask import Base, TaskDelta
from supermask.deltas import Change, DenseValues, KeepMask, SparseValues, base_fingerprint
from supermask.models import map_parameters
from tiny_bases import save_tiny_base

LABELS = ("low", "middle", "high")
TOKEN_TYPES = ("bert", "albert", "electra", "deberta", "deberta-v2")  # as their own tokenizers give them


def tiny_base(folder: Path, architecture: str = "bert", *, dtype: str = "float32", num_labels: int = 3) -> Base:
    """The base as `load_base` gives it, with a tokenizer of its own kind of inputs."""
    save_tiny_base(folder, architecture)
    base = supermask.load_base(folder, num_labels=num_labels, regression=num_labels == 1, dtype=dtype)
    types = ["token_type_ids"] if architecture in TOKEN_TYPES else []
    base.tokenizer.model_input_names = ["input_ids", *types, "attention_mask"]
    return base


def tiny_delta(base: Base, kind: str = "pruning", *, sparsity: float = 0.5, seed: int = 1) -> TaskDelta:
    """A delta as a method's training gives it: `pruning`, `supermask` or `freezing`."""
    generator = torch.Generator().manual_seed(seed)
    parameter_map = map_parameters(base.model)
    parameters = dict(base.model.named_parameters())
    changes: dict[str, Change] = {}
    for info in parameter_map.infos:
        tensor = parameters[info.name].detach()
        moved = tensor + 0.1 * torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
        keep = torch.rand(tensor.shape, generator=generator) >= sparsity
        if info.name in parameter_map.head or (kind == "freezing" and info.is_matrix):
            changes[info.name] = DenseValues(moved)
        elif kind == "pruning" and info.is_matrix:
            changes[info.name] = SparseValues(keep, moved[keep])
        elif kind == "supermask" and info.is_matrix:
            changes[info.name] = KeepMask(keep)
    regression = base.model.config.num_labels == 1
    return TaskDelta.create(
        changes,
        base=base_fingerprint(base.model, head=parameter_map.head),
        head=parameter_map.head,
        architecture=parameter_map.architecture,
        base_name="tiny",
        method={"kind": kind},
        task={
            "name": "toy",
            "kind": "regression" if regression else "classification",
            "label_names": [] if regression else list(LABELS),
        },
    )


def bits(base: Base) -> dict[str, bytes]:
    """Every bit of a base's model by tensor name, not by way of the code under test."""
    return bits_of(base.model)


def bits_of(model: nn.Module) -> dict[str, bytes]:
    """Every bit of a model by tensor name."""
    return {
        name: tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        for name, tensor in model.state_dict().items()
    }
