"""Each forward pass in training has its own draw, and each backward pass repeats the draw of its forward pass."""

from __future__ import annotations

import pytest
import torch

from interop.peft.tiny_adapters import tiny_adapter
from tiny_models import tiny_batch


def test_forward_passes_differ_and_steps_repeat() -> None:
    model = tiny_adapter(init_logit=0.1)
    for module in model.modules():  # so that nothing but masks is drawn
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.train()
    batch = tiny_batch(model)
    first, second = (model(**batch).logits for _ in range(2))
    model.base_model.begin_step(0)
    third = model(**batch).logits
    model.base_model.begin_step(1)
    fourth = model(**batch).logits
    assert torch.equal(first, third)
    assert not torch.equal(first, second)
    assert not torch.equal(first, fourth)
    model.eval()
    assert torch.equal(model(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_passes_repeat_their_own_draw(reentrant: bool) -> None:
    """Two forward passes before the backward pass, so that the last draw is the wrong one for the first."""
    gradients = []
    for checkpointed in (False, True):
        model = tiny_adapter(init_logit=0.1, gradient="stop")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointed:
            # The name that transformers 5.0 has, or the one that it was given later.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        model.train()
        losses = [model(**tiny_batch(model, seed=seed)).loss for seed in (0, 1)]
        (losses[0] + losses[1]).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert gradient is not None and gradient.abs().sum() > 0, name
        assert torch.equal(gradient, gradients[1][name]), name
