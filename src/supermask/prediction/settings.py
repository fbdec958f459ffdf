"""How a task model is asked: how much of a text it reads, how many texts at once, in which arithmetic."""

from __future__ import annotations

from typing import Annotated, Any, Literal, final

from pydantic import Field

from supermask.configuration import Configuration

__all__ = ["Precision", "PredictionConfig", "Reading", "resolve_precision"]

Precision = Literal["fp32", "bf16", "fp16"]


class Reading(Configuration):
    """What settings of prediction and of training have in common; abstract.

    Args:
        max_length: longest input in tokens; longer ones are cut.
        precision: arithmetic of the forward and backward pass; weights, mask logits and optimizer states stay float32.
            `auto` takes bf16 where the hardware multiplies it natively, else fp32; the record says which.
        eval_batch_size: examples a batch in evaluation.
    """

    max_length: Annotated[int, Field(ge=4)] = 128
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    eval_batch_size: Annotated[int, Field(ge=1)] = 64


@final
class PredictionConfig(Reading):
    """Settings of prediction alone; wherever they are asked for, a `TrainingConfig` will do."""


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
