"""What the caller gives to learn on: a live model, or a base that knows its tokenizer and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from supermask.errors import ConfigurationError
from supermask.models import Base

__all__ = ["GivenModel", "given_model", "take_device"]


@final
@dataclass(frozen=True)
class GivenModel:
    """A model with its tokenizer and, as far as it is known, its origin."""

    model: nn.Module
    tokenizer: Any
    name: str | None
    revision: str | None


def given_model(model: nn.Module | Base, tokenizer: Any = None) -> GivenModel:
    """Bring a model and its tokenizer together.

    Args:
        model: a live model, or what `load_base` gives.
        tokenizer: the model's tokenizer; by default the base's, or the one saved where the model was loaded from.

    Raises:
        ConfigurationError: if the tokenizer cannot be found.
    """
    if isinstance(model, Base):
        return GivenModel(model.model, tokenizer or model.tokenizer, model.name, model.revision)
    config = getattr(model, "config", None)
    name = getattr(config, "_name_or_path", "") or None
    if tokenizer is None:
        tokenizer = _saved_tokenizer(name)
    return GivenModel(model, tokenizer, name, getattr(config, "_commit_hash", None))


def take_device(*, use_cpu: bool) -> torch.device:
    """Where to compute: the CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() and not use_cpu else "cpu")


def _saved_tokenizer(name: str | None) -> Any:
    from transformers import AutoTokenizer

    if name is None:
        raise ConfigurationError("the model does not say where it was loaded from; pass its tokenizer: tokenizer=...")
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{name} holds no tokenizer ({error}); pass it: tokenizer=...") from None
