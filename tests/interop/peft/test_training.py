"""A Trainer trains adapters, and resumes them exactly where they were."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from interop.peft.tiny_adapters import keep_masks, loaded, logits, tiny_adapter
from supermask.errors import ConfigurationError
from supermask.interop.peft import SupermaskCallback, make_optimizer, supermask_tuner
from tiny_models import tiny_batch, tiny_model


def rows() -> list[dict[str, torch.Tensor]]:
    batch = tiny_batch(tiny_model("bert"), batch_size=16)
    return [{name: tensor[row] for name, tensor in batch.items()} for row in range(16)]


def trainer_of(model: Any, folder: Path, **settings: Any) -> Trainer:
    arguments = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 4,
        "max_grad_norm": 0.0,
        "save_steps": 2,
        "save_strategy": "steps",
        "logging_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        **settings,
    }
    return Trainer(
        model,
        TrainingArguments(str(folder), **arguments),
        train_dataset=rows(),
        callbacks=[SupermaskCallback()],
        optimizers=(make_optimizer(model, mask_learning_rate=0.8), None),
    )


def test_training_and_resuming(tmp_path: Path) -> None:
    model = tiny_adapter()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    seen = []
    begin_step = model.base_model.begin_step
    model.base_model.begin_step = lambda *step: (seen.append(step), begin_step(*step))
    trainer_of(model, tmp_path / "whole").train()
    assert [step if len(step) == 2 else (*step, 0) for step in seen[:4]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {name for name, parameter in model.named_parameters() if parameter.requires_grad}

    halfway = load_file(tmp_path / "whole" / "checkpoint-2" / "adapter_model.safetensors")
    assert sum(key.endswith(".supermask_logits") for key in halfway) == len(model.base_model.masks())
    model.save_pretrained(tmp_path / "final")
    final = load_file(tmp_path / "final" / "adapter_model.safetensors")
    assert not any(key.endswith(".supermask_logits") for key in final)

    resumed = tiny_adapter()
    trainer_of(resumed, tmp_path / "resumed").train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for name, mask in model.base_model.masks().items():
        assert torch.equal(resumed.base_model.masks()[name].mask_logits, mask.mask_logits), name
    assert torch.equal(logits(resumed), logits(model))
    masks = keep_masks(loaded(tmp_path / "final"))
    assert all(torch.equal(mask, masks[name]) for name, mask in keep_masks(model).items())


def test_optimizers_that_would_go_wrong_are_refused(tmp_path: Path) -> None:
    def trainer_with(**changes: Any) -> Trainer:
        trainer = trainer_of(tiny_adapter(), tmp_path, save_strategy="no")
        group = trainer.optimizer.param_groups[0]
        assert group["name"] == "mask_logits"
        group.update(changes)
        return trainer

    with pytest.raises(ConfigurationError, match=r"weight decay of 0\.01 on mask logits"):
        trainer_with(weight_decay=0.01).train()
    with pytest.raises(ConfigurationError, match="no mask logits to train"):
        trainer_with(params=[]).train()
    with pytest.warns(UserWarning, match="4 steps of Adam cannot bring a mask logit from 1.0 to 0"):
        trainer_with(lr=2e-5).train()


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


def test_models_without_an_adapter_that_trains_are_refused(tmp_path: Path) -> None:
    tiny_adapter().save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="is_trainable=True"):
        make_optimizer(loaded(tmp_path))
    with pytest.raises(ConfigurationError, match="BertForSequenceClassification has no supermask adapter"):
        supermask_tuner(tiny_model("bert"))
    with pytest.raises(ConfigurationError, match="NoneType has no supermask adapter"):
        SupermaskCallback().on_step_begin(None, None, None)
