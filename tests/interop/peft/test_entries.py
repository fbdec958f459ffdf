"""An adapter's entries: all of them are saved, and all of them are loaded."""

from __future__ import annotations

import warnings

import pytest
import torch

from interop.peft.tiny_adapters import tiny_adapter
from supermask.errors import DeltaFormatError, DeltaStateError
from supermask.interop.peft import SupermaskConfig
from supermask.interop.peft.entries import adapter_entries


def test_an_adapter_gets_its_own_entries_alone() -> None:
    model = tiny_adapter(target_modules=["query"], save_logits=True)
    model.add_adapter("second", SupermaskConfig(task_type="SEQ_CLS", target_modules=["query", "key"]))
    entries = adapter_entries(model, "default", model.state_dict())
    layers = [f"base_model.model.bert.encoder.layer.{block}.attention.self.query" for block in (0, 1)]
    assert sorted(entries) == [f"{layer}.supermask_{kind}.default" for layer in layers for kind in ("keep", "logits")]
    assert len(adapter_entries(model, "second", model.state_dict())) == 4
    with pytest.raises(DeltaStateError, match=r"no mask for .*layer\.0\.attention\.self\.query"):
        adapter_entries(model, "default", {})


def test_masks_that_are_missing_or_left_over_are_refused() -> None:
    model = tiny_adapter(target_modules=["query", "key"])
    adapter = adapter_entries(model, "default", model.state_dict())
    first = next(iter(adapter))
    with pytest.raises(DeltaFormatError, match=r"no mask for 1 of the 4 modules of adapter 'default': .*query"):
        model.load_state_dict({key: tensor for key, tensor in adapter.items() if key != first}, strict=False)
    spare = first.replace("query", "value")
    with pytest.raises(DeltaFormatError, match=r"does not target: .*value\.supermask_keep\.default"):
        model.load_state_dict({**adapter, spare: adapter[first]}, strict=False)
    logits = {first.replace("keep", "logits"): torch.zeros(32, 32)}
    with pytest.raises(DeltaFormatError, match="logits and no mask"):
        model.load_state_dict(logits, strict=False)


def test_what_is_no_mask_is_nobodys_business() -> None:
    model = tiny_adapter(target_modules=["query"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapter = adapter_entries(model, "default", model.state_dict())
        assert model.load_state_dict(adapter, strict=False).unexpected_keys == []
        assert model.base_model.model.load_state_dict({"other": torch.ones(1)}, strict=False).unexpected_keys == [
            "other"
        ]
