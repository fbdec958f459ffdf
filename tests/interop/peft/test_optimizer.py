"""Mask logits have settings of their own, and gradients are clipped apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from interop.peft.tiny_adapters import loaded, tiny_adapter
from supermask.errors import ConfigurationError
from supermask.interop.peft import make_optimizer
from tiny_models import tiny_batch


def test_groups() -> None:
    model = tiny_adapter("distilbert")
    optimizer = make_optimizer(model, weight_decay=0.1)
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert {name: (g["lr"], g["eps"], g["weight_decay"], len(g["params"])) for name, g in groups.items()} == {
        "mask_logits": (0.2, 1e-8, 0.0, 18),
        "head": (1e-3, 1e-6, 0.1, 2),
        "head_no_decay": (1e-3, 1e-6, 0.0, 2),
    }
    covered = {id(p) for group in groups.values() for p in group["params"]}
    assert covered == {id(p) for p in model.parameters() if p.requires_grad}


def test_logits_and_head_are_clipped_apart() -> None:
    model = tiny_adapter()
    optimizer = make_optimizer(model, max_grad_norm=1e-3)
    model.train()(**tiny_batch(model)).loss.backward()
    optimizer.step()
    logits = optimizer.param_groups[0]["params"]
    others = [p for group in optimizer.param_groups[1:] for p in group["params"]]
    for parameters in (logits, others):
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_an_adapter_that_does_not_train_is_refused(tmp_path: Path) -> None:
    tiny_adapter().save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="is_trainable=True"):
        make_optimizer(loaded(tmp_path))
