"""A tiny model of every kind of tensor that a delta meets, and a delta of every kind of change."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from supermask.deltas import Change, ChangePlace, DenseValues, KeepMask, SparseValues, TaskDelta, base_fingerprint

HEAD = ("classifier.weight", "classifier.bias")


class TinyModel(nn.Module):
    """An embedding tied to its decoder, a transposed weight, a buffer, a frozen norm and a head."""

    position_ids: Tensor

    def __init__(self, labels: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 8)
        self.dense = nn.Linear(8, 8)
        self.transposed = nn.Linear(6, 8)
        self.transposed.weight = nn.Parameter(torch.empty(6, 8).t())
        self.norm = nn.LayerNorm(8)
        self.norm.weight.requires_grad_(False)
        self.decoder = nn.Linear(8, 12, bias=False)
        self.decoder.weight = self.embedding.weight
        self.classifier = nn.Linear(8, labels)
        self.register_buffer("position_ids", torch.arange(5))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)


def tiny_model(dtype: torch.dtype = torch.float32, *, labels: int = 3, seed: int = 0) -> TinyModel:
    """The model with random bits for weights: NaNs with payloads, infinities, denormals and -0.0 are all among them."""
    model = TinyModel(labels).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            bits = torch.randint(0, 256, (parameter.numel() * parameter.element_size(),), generator=generator)
            parameter.copy_(bits.to(torch.uint8).view(dtype).reshape(parameter.shape))
        flat = model.dense.weight.view(-1)
        flat[:3] = torch.tensor([-0.0, float("nan"), float("-inf")], dtype=dtype)
    return model


def pattern(shape: tuple[int, ...], every: int) -> Tensor:
    """A keep mask that drops the weights whose index is divisible by `every`."""
    size = int(torch.tensor(shape).prod())
    return (torch.arange(size) % every != 0).reshape(shape)


def tiny_changes(model: nn.Module) -> tuple[dict[str, Change], dict[str, Any]]:
    """A keep mask, sparse values, dense values and a head, of the model's own dtype, and how they are described."""
    dtype = next(model.parameters()).dtype
    keep = pattern((8, 6), 3)
    changes: dict[str, Change] = {
        "dense.weight": KeepMask(pattern((8, 8), 4)),
        "embedding.weight": KeepMask(~pattern((12, 8), 7)),
        "transposed.weight": SparseValues(keep, torch.linspace(-2, 2, int(keep.sum())).to(dtype)),
        "norm.weight": DenseValues(torch.linspace(0, 1, 8).to(dtype)),
        "classifier.weight": DenseValues(torch.linspace(-1, 1, 24).reshape(3, 8).to(dtype)),
        "classifier.bias": DenseValues(torch.tensor([-0.0, 1.0, float("nan")]).to(dtype)),
    }
    return changes, {
        "head": HEAD,
        "places": {"dense.weight": ChangePlace("query", 0), "position_ids": ChangePlace("other_embedding")},
        "architecture": "TinyModel",
        "base_name": "tiny",
        "task": {"name": "toy"},
        "method": {"kind": "supermask"},
    }


def tiny_delta(model: nn.Module, **described: Any) -> TaskDelta:
    """The delta of `tiny_changes`; what is passed goes before how that describes it."""
    changes, usual = tiny_changes(model)
    return TaskDelta.create(changes, base=base_fingerprint(model, head=HEAD), **{**usual, **described})


def snapshot(model: nn.Module) -> dict[str, bytes]:
    """Every bit of a model by tensor name, not by way of the code under test."""
    return {
        name: bytes(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).tolist())
        for name, tensor in model.state_dict().items()
    }


def surface(model: nn.Module) -> dict[str, tuple[int, bool, bool, tuple[int, ...]]]:
    """What applying a delta must leave alone: which parameter stands where, gradient flags, strides, the mode."""
    return {
        name: (id(parameter), parameter.requires_grad, model.training, parameter.stride())
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """The block leaves every bit of the model as it is."""
    before = copy.deepcopy((snapshot(model), surface(model)))
    yield
    assert (snapshot(model), surface(model)) == before
