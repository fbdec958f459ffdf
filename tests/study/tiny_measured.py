"""Deltas of a tiny model to measure: masks with zeros at random, and whatever else a test puts in."""

from typing import Any

import torch
from torch import Tensor, nn

from supermask.deltas import Change, ChangePlace, DenseValues, TaskDelta, base_fingerprint, named_tensors
from supermask.models import map_parameters, select_parameters

HEAD = ("classifier.weight", "classifier.bias")


def masked_names(model: nn.Module) -> list[str]:
    return list(select_parameters(["matrices", "pooler"], map_parameters(model)))


def keeps(model: nn.Module, density: float, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = named_tensors(model)
    return {name: torch.rand(tensors[name].shape, generator=generator) >= density for name in masked_names(model)}


def delta_of(model: nn.Module, changes: dict[str, Change], **described: Any) -> TaskDelta:
    head = {name: DenseValues(torch.ones_like(model.get_parameter(name)).detach()) for name in HEAD}
    infos = map_parameters(model).infos
    return TaskDelta.create(
        {**changes, **head},
        base=base_fingerprint(model, head=HEAD),
        base_tensors=named_tensors(model),
        head=HEAD,
        places={info.name: ChangePlace(info.role and str(info.role), info.block) for info in infos},
        base_name="tiny",
        task={"name": "toy"},
        **{"training": {"config": {"seed": 3}}, **described},
    )
