"""Map every parameter of a model to its role and block."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from supermask.models.architectures import ARCHITECTURES, Architecture
from supermask.models.roles import ParameterInfo, ParameterMap, Role

if TYPE_CHECKING:
    from torch import nn

__all__ = ["map_parameters"]

_BlockKey = tuple[int, ...]


def map_parameters(model: nn.Module) -> ParameterMap:
    """Say what each parameter of a model is, from identity, type and the recorded names of its architecture.

    In this order: what lies outside `model.base_model` is the head; the weight of `get_input_embeddings()` is the word
    embedding; what a norm module owns is `norm`; an attribute called `bias` is `bias`; the rest is looked up in
    `supermask.models.architectures` by `config.model_type`. An architecture that is not there still gets a map: what
    only a name could tell has no role, and its blocks are the entries of the outermost `ModuleList` on a parameter's
    path.

    Args:
        model: Any module. A bare encoder, or a module that is no transformers model, has no head.

    Returns:
        The map, with parameters in `named_parameters()` order.

    >>> from transformers import BertConfig, BertForSequenceClassification
    >>> config = BertConfig(vocab_size=50, hidden_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> parameter_map = map_parameters(BertForSequenceClassification(config))
    >>> parameter_map.blocks, parameter_map.unnamed, parameter_map.head
    (2, (), ('classifier.weight', 'classifier.bias'))
    >>> parameter_map.info("bert.encoder.layer.1.attention.self.key.weight").role
    <Role.KEY: 'key'>
    """
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    architecture = ARCHITECTURES.get(model_type) if isinstance(model_type, str) else None
    backbone = _backbone(model)
    path_in_backbone = {id(parameter): path for path, parameter in backbone.named_parameters()}
    key_of = _block_finder(backbone, architecture)
    keys = {identity: key_of(path) for identity, path in path_in_backbone.items()}
    numbers = {key: number for number, key in enumerate(sorted({key for key in keys.values() if key is not None}))}
    word_embedding = _word_embedding(model)

    aliases: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(parameter), []).append(name)

    infos: list[ParameterInfo] = []
    for name, parameter in model.named_parameters():
        module_path, _, attribute = name.rpartition(".")
        module = model.get_submodule(module_path)
        path = path_in_backbone.get(id(parameter))
        key = keys.get(id(parameter))
        role: Role | None
        if path is None:
            role = Role.HEAD
        elif parameter is word_embedding:
            role = Role.WORD_EMBEDDING
        elif _is_norm(module):
            role = Role.NORM
        elif attribute == "bias":
            role = Role.BIAS
        else:
            role = None if architecture is None else _recorded_role(path, architecture)
        infos.append(
            ParameterInfo(
                name=name,
                role=role,
                block=None if key is None else numbers[key],
                shape=tuple(parameter.shape),
                module=module_path,
                attribute=attribute,
                is_matrix=_is_matrix(module, attribute),
                aliases=tuple(other for other in aliases[id(parameter)] if other != name),
            )
        )
    return ParameterMap(
        infos=tuple(infos),
        architecture=type(model).__name__,
        model_type=model_type if isinstance(model_type, str) else None,
        known=architecture is not None,
    )


def _backbone(model: nn.Module) -> nn.Module:
    """The pretrained part, which transformers calls `base_model`; the model itself where there is no such part."""
    from torch import nn

    base_model = getattr(model, "base_model", None)
    return base_model if isinstance(base_model, nn.Module) else model


def _word_embedding(model: nn.Module) -> object:
    get_input_embeddings = getattr(model, "get_input_embeddings", None)
    if get_input_embeddings is None:
        return None
    try:
        embedding = get_input_embeddings()
    except NotImplementedError:  # what transformers raises for a class that does not say
        return None
    return getattr(embedding, "weight", None)


def _is_norm(module: nn.Module) -> bool:
    from torch import nn

    if isinstance(module, nn.LayerNorm | nn.GroupNorm):
        return True
    # Every model family of transformers brings RMSNorm and LayerNorm classes of its own, without a common parent.
    own = list(module.parameters(recurse=False))
    return type(module).__name__.endswith("Norm") and bool(own) and all(parameter.dim() == 1 for parameter in own)


def _is_matrix(module: nn.Module, attribute: str) -> bool:
    from torch import nn

    if attribute != "weight":
        return False
    if isinstance(module, nn.Linear | nn.Embedding):
        return True
    # If transformers was never imported, no module can be its Conv1D, and a plain torch model needs no transformers.
    pytorch_utils = sys.modules.get("transformers.pytorch_utils")
    return pytorch_utils is not None and isinstance(module, pytorch_utils.Conv1D)


def _block_finder(backbone: nn.Module, architecture: Architecture | None) -> Callable[[str], _BlockKey | None]:
    """A function from a path in the backbone to a sortable key of its block."""
    if architecture is None:
        return _inferred_block_finder(backbone)

    def find(path: str) -> _BlockKey | None:
        for stack, pattern in enumerate(architecture.stacks):
            if match := re.match(pattern + r"\.", path):
                return (stack, *(int(number) for number in match.groups()))
        return None

    return find


def _inferred_block_finder(backbone: nn.Module) -> Callable[[str], _BlockKey | None]:
    from torch import nn

    lists: Mapping[str, int] = {
        path: order
        for order, path in enumerate(
            path for path, module in backbone.named_modules() if isinstance(module, nn.ModuleList)
        )
    }

    def find(path: str) -> _BlockKey | None:
        parts = path.split(".")
        for place, part in enumerate(parts):
            order = lists.get(".".join(parts[:place]))
            if order is not None and part.isdigit():
                return (order, int(part))
        return None

    return find


def _recorded_role(path: str, architecture: Architecture) -> Role | None:
    for pattern in architecture.stacks:
        if match := re.match(pattern + r"\.", path):
            return _look_up(path[match.end() :], architecture.inside)
    return _look_up(path, architecture.outside)


def _look_up(path: str, roles: Mapping[str, Role]) -> Role | None:
    return roles.get(path.removesuffix(".weight"))
