"""What follows from the settings of a training: its number of steps, and its arithmetic on a device."""

from __future__ import annotations

from typing import Any, Literal

from supermask.settings import TrainingConfig

__all__ = ["Precision", "TrainingConfig", "optimizer_steps", "resolve_precision"]

Precision = Literal["fp32", "bf16", "fp16"]


def optimizer_steps(examples: int, config: TrainingConfig) -> int:
    """How many optimizer steps a training takes; the last batch of an epoch may be smaller.

    Args:
        examples: training examples.
        config: the settings.

    Example:
        >>> optimizer_steps(3668, TrainingConfig())  # MRPC
        345

    Source: Table 1 of the paper, whose iteration counts are 3 · ceil(n / 32).
    """
    per_epoch = -(-examples // config.batch_size)
    return config.max_steps if config.max_steps is not None else config.epochs * per_epoch


def resolve_precision(precision: Literal["auto", "fp32", "bf16", "fp16"], device_type: str) -> Precision:
    """The arithmetic that `auto` stands for on a device; every other value stands for itself.

    Args:
        precision: the setting.
        device_type: `cpu`, `cuda`, ... as torch names it.
    """
    if precision != "auto":
        return precision
    import torch

    if device_type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Older torch does not say what the processor can do; float32 is then the safe reading.
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        native = device_type == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return "bf16" if native else "fp32"
