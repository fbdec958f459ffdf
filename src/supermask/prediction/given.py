"""What there is to compute with: the model given with its tokenizer, the device, the arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import nn

from supermask.errors import ConfigurationError
from supermask.models import Base
from supermask.tasks import Task

__all__ = ["GivenModel", "Precision", "given_model", "resolve_precision", "take_device"]

Precision = Literal["fp32", "bf16", "fp16"]


@final
@dataclass(frozen=True)
class GivenModel:
    """A model with its tokenizer and, as far as it is known, its origin."""

    model: nn.Module
    tokenizer: Any
    name: str | None
    revision: str | None


def given_model(model: nn.Module | Base, task: Task, tokenizer: Any = None) -> GivenModel:
    """Bring a model and its tokenizer together.

    Args:
        model: a live model, or what `load_base` gives.
        task: what it is for.
        tokenizer: the model's tokenizer; by default the base's, or the one saved where the model was loaded from.

    Raises:
        ConfigurationError: if the tokenizer cannot be found, or the model's head is of another size than the task.
    """
    live = model.model if isinstance(model, Base) else model
    config = getattr(live, "config", None)
    outputs = getattr(config, "num_labels", None)
    if outputs is not None and outputs != task.num_labels:
        raise ConfigurationError(
            f"the model's head has {outputs} outputs and task {task.name!r} needs {task.num_labels}; load the base "
            f"with num_labels={task.num_labels}"
        )
    if isinstance(model, Base):
        return GivenModel(live, tokenizer or model.tokenizer, model.name, model.revision)
    name = getattr(config, "_name_or_path", "") or None
    tokenizer = _saved_tokenizer(name) if tokenizer is None else tokenizer
    return GivenModel(live, tokenizer, name, getattr(config, "_commit_hash", None))


def take_device(*, use_cpu: bool) -> torch.device:
    """Where to compute: the CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() and not use_cpu else "cpu")


def resolve_precision(precision: Literal["auto", "fp32", "bf16", "fp16"], device_type: str) -> Precision:
    """The arithmetic that `auto` stands for on a device; every other value stands for itself.

    Args:
        precision: the setting.
        device_type: `cpu`, `cuda`, ... as torch names it.
    """
    if precision != "auto":
        return precision
    if device_type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Older torch does not say what the processor can do; float32 is then the safe reading.
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        native = device_type == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return "bf16" if native else "fp32"


def _saved_tokenizer(name: str | None) -> Any:
    from transformers import AutoTokenizer

    if name is None:
        raise ConfigurationError("the model does not say where it was loaded from; pass its tokenizer: tokenizer=...")
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{name} holds no tokenizer ({error}); pass it: tokenizer=...") from None
