"""What each parameter of a model is: its role, its block, and the map of all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import final

from supermask.errors import SelectionError

__all__ = ["ParameterInfo", "ParameterMap", "Role"]


@final
class Role(str, Enum):
    """What a parameter does in a transformer, in words that hold for every architecture.

    - `query_key_value` is one matrix that holds all three (GPT-2's `c_attn`, ModernBERT's `Wqkv`); such a model has no
      separate `query`, `key` and `value`. Cross attention has the same roles as self attention.
    - `ffn_in` widens, `ffn_out` narrows, `ffn_gate` is the gate of a gated feed-forward layer; a matrix that holds
      gate and input together (ModernBERT's `Wi`) is `ffn_in`.
    - `other_embedding` covers token types, tables of relative positions, and the matrices that bring embeddings to the
      model's width.
    - `convolution` is the token convolution of large DeBERTa-v2 models.
    - `bias` is the bias of a matrix; scale and shift of a norm are both `norm`.
    - `head` is everything outside the pretrained backbone, whatever it is.

    >>> Role("key").value
    'key'
    >>> f"{Role.WORD_EMBEDDING}"
    'word_embedding'
    """

    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    QUERY_KEY_VALUE = "query_key_value"
    ATTENTION_OUTPUT = "attention_output"
    FFN_IN = "ffn_in"
    FFN_GATE = "ffn_gate"
    FFN_OUT = "ffn_out"
    WORD_EMBEDDING = "word_embedding"
    POSITION_EMBEDDING = "position_embedding"
    OTHER_EMBEDDING = "other_embedding"
    CONVOLUTION = "convolution"
    NORM = "norm"
    BIAS = "bias"
    POOLER = "pooler"
    HEAD = "head"

    def __str__(self) -> str:
        return self.value


@final
@dataclass(frozen=True)
class ParameterInfo:
    """One parameter: its name, what it is, and where it sits.

    Args:
        name: Its first name in `model.named_parameters()`.
        role: What it does; None where the architecture is unknown and neither type nor identity tells.
        block: The block it belongs to, counted from the input; None outside the blocks (embeddings, pooler, head).
        shape: Its shape, as stored: (out, in) for a Linear, (in, out) for a `Conv1D`, (rows, width) for an Embedding.
        module: Path of the module that owns it under `name`.
        attribute: Its name in that module.
        is_matrix: Whether it is the 2-D weight of a Linear, a `Conv1D` or an Embedding.
        aliases: Its other names, where the same tensor is used in several places (tied weights).

    >>> info = ParameterInfo("layers.0.k.weight", Role.KEY, 0, (8, 4), "layers.0.k", "weight", True)
    >>> info.numel
    32
    """

    name: str
    role: Role | None
    block: int | None
    shape: tuple[int, ...]
    module: str
    attribute: str
    is_matrix: bool
    aliases: tuple[str, ...] = ()

    @property
    def numel(self) -> int:
        """The number of its entries."""
        return math.prod(self.shape)


@final
@dataclass(frozen=True)
class ParameterMap:
    """Every parameter of one model with its role and block; made by `map_parameters`, for `select_parameters`.

    Args:
        infos: One entry a parameter, in `named_parameters()` order; a tied parameter stands once.
        architecture: The model's class, as messages name it.
        model_type: The `config.model_type` of the model, None where it has none.
        known: Whether the architecture's parameter names are known to this project. If not, only word embeddings,
            norms, biases and the head have roles, and blocks are inferred.

    >>> from torch import nn
    >>> from supermask.models import map_parameters
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    >>> parameter_map = map_parameters(Net())
    >>> parameter_map.blocks, parameter_map.unnamed
    (2, ('layers.0.weight', 'layers.1.weight'))
    """

    infos: tuple[ParameterInfo, ...]
    architecture: str
    model_type: str | None
    known: bool

    @property
    def blocks(self) -> int:
        """The number of blocks that have weights of their own (1 for an ALBERT that shares them)."""
        return 1 + max((info.block for info in self.infos if info.block is not None), default=-1)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parameters, in model order."""
        return tuple(info.name for info in self.infos)

    @property
    def unnamed(self) -> tuple[str, ...]:
        """The parameters whose role is not known; empty for every supported architecture."""
        return tuple(info.name for info in self.infos if info.role is None)

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that occur, in the order of `Role`."""
        present = {info.role for info in self.infos}
        return tuple(role for role in Role if role in present)

    @property
    def head(self) -> tuple[str, ...]:
        """The parameters outside the backbone, in model order."""
        return tuple(info.name for info in self.infos if info.role is Role.HEAD)

    def info(self, name: str) -> ParameterInfo:
        """Look a parameter up by its name or by one of its aliases."""
        for info in self.infos:
            if name == info.name or name in info.aliases:
                return info
        raise SelectionError(f"'{name}' is no parameter of {self.architecture}; pass a full name of named_parameters()")
