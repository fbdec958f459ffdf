"""In a batch with `adapter_names` each row gets what its adapter gives it."""

from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM

from interop.peft.tiny_adapters import logits, tiny_adapter, train_
from supermask.errors import ConfigurationError, DeltaStateError, UnknownNameError
from supermask.interop.peft import SupermaskConfig
from tiny_models import tiny_batch, tiny_config, tiny_model

NAMES = ["second", "default", "__base__", "second"]


def two_adapters(architecture: str) -> Any:
    model = train_(tiny_adapter(architecture, seed=1))
    model.add_adapter(
        "second",
        SupermaskConfig(task_type="SEQ_CLS", initial_sparsity=0.5, init_logit=1.0, target_modules="all-linear"),
    )
    model.set_adapter("second")
    train_(model, steps=1)
    model.set_adapter("default")
    return model


# Among these are heads of several layers, which PEFT's own rows cannot go through, and relative positions.
@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert", "deberta-v2", "modernbert", "gpt2", "t5"])
@torch.no_grad()
def test_each_row_goes_through_its_adapter(architecture: str) -> None:
    model = two_adapters(architecture)
    whole = {"default": logits(model)}
    model.set_adapter("second")
    whole["second"] = logits(model)
    model.set_adapter("default")
    whole["__base__"] = logits(tiny_model(architecture))
    assert (whole["default"] - whole["second"]).abs().max() > 1e-3
    mixed = logits(model, adapter_names=NAMES)
    for row, name in enumerate(NAMES):
        torch.testing.assert_close(mixed[row], whole[name][row], rtol=1e-4, atol=1e-5)
    assert torch.equal(logits(model), whole["default"])
    assert model.active_adapters == ["default"]
    assert all(mask.trains for mask in model.base_model.masks("default").values())


@torch.no_grad()
def test_hidden_states_and_attentions_come_in_rows_too() -> None:
    model = two_adapters("bert")
    batch = tiny_batch(model, labels=False)
    more = {"output_hidden_states": True}
    alone = model(**batch, **more)
    mixed = model(**batch, **more, adapter_names=["default", "second", "default", "default"])
    assert len(mixed.hidden_states) == len(alone.hidden_states)
    for row in (0, 2, 3):
        torch.testing.assert_close(mixed.hidden_states[-1][row], alone.hidden_states[-1][row])
    assert not torch.allclose(mixed.hidden_states[-1][1], alone.hidden_states[-1][1])


def test_what_cannot_be_right_is_refused() -> None:
    model = two_adapters("bert")
    batch = tiny_batch(model)
    with pytest.raises(ConfigurationError, match="evaluation mode"):
        model.train()(**batch, adapter_names=NAMES)
    model.eval()
    forward = model.base_model.model.forward
    with pytest.raises(ConfigurationError, match="leave out labels"):
        model(**batch, adapter_names=NAMES)
    del batch["labels"]
    with pytest.raises(ConfigurationError, match=r"input_ids has not the 3 rows.*attention_mask has not the 3 rows"):
        model(**batch, adapter_names=NAMES[:3])
    with pytest.raises(ConfigurationError, match="past_key_values cannot be shared out"):
        model(**batch, past_key_values=object(), adapter_names=NAMES)
    with pytest.raises(UnknownNameError, match="no adapter 'third'; adapters: default, second"):
        model(**batch, adapter_names=["third", *NAMES[1:]])
    assert model.base_model.model.forward == forward
    model.merge_adapter()
    with pytest.raises(DeltaStateError, match="rows cannot differ"):
        model(**batch, adapter_names=NAMES)
    assert model.base_model.model.forward == forward


def test_generation_is_refused() -> None:
    base = AutoModelForCausalLM.from_config(tiny_config("llama"))
    model = get_peft_model(base, SupermaskConfig(task_type="CAUSAL_LM"))
    ids = torch.full((2, 3), 7)
    assert model.eval().generate(input_ids=ids, max_new_tokens=2, do_sample=False).shape == (2, 5)
    with pytest.raises(ConfigurationError, match="generate for one adapter at a time"):
        model.generate(input_ids=ids, max_new_tokens=2, adapter_names=["default", "__base__"])
