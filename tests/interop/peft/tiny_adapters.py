"""Supermask adapters over tiny models, and what tests ask of them."""

from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from supermask.interop.peft import SupermaskConfig, make_optimizer
from tiny_models import tiny_batch, tiny_model


def tiny_adapter(architecture: str = "bert", *, adapter_name: str = "default", **settings: Any) -> Any:
    """A tiny classifier with one adapter that trains; by default a third of it starts dropped."""
    settings = {"task_type": "SEQ_CLS", "initial_sparsity": 0.3, "init_logit": 1.0, **settings}
    return get_peft_model(tiny_model(architecture), SupermaskConfig(**settings), adapter_name=adapter_name)


@torch.enable_grad()
def train_(model: Any, steps: int = 3, **settings: Any) -> Any:
    """Train a little, in steps that flip many weights; the model comes back in evaluation mode."""
    optimizer = make_optimizer(model, mask_learning_rate=0.8, **settings)
    model.train()
    for step in range(steps):
        model.base_model.begin_step(step)
        optimizer.zero_grad()
        model(**tiny_batch(model, seed=step)).loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def logits(model: Any, **more: Any) -> Tensor:
    """What a model says of one batch, in evaluation mode."""
    output: Tensor = model.eval()(**tiny_batch(model, labels=False), **more).logits
    return output


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Every bit of a model, by name."""
    return {name: bits(tensor).clone() for name, tensor in model.state_dict().items()}


def bits(tensor: Tensor) -> Tensor:
    """A tensor as bytes, so that NaNs are equal to themselves and zeros are not to their negatives."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two snapshots have the same names, in the same order, and the same bits."""
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def keep_masks(model: Any, adapter_name: str = "default") -> dict[str, Tensor]:
    """The masks of an adapter, outside training."""
    return {name: mask.keep_mask().clone() for name, mask in model.base_model.masks(adapter_name).items()}


def loaded(folder: Any, architecture: str = "bert", **settings: Any) -> Any:
    """An adapter's folder on a new tiny base."""
    return PeftModel.from_pretrained(tiny_model(architecture), str(folder), **settings)
