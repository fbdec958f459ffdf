"""Studies of a few seconds: a tiny random base, a probe, and arms that take 2 steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from supermask.study import Study

FULL = {"name": "full", "label": "Full", "method": {"kind": "freezing"}}
MASK = {"name": "mask", "label": "Mask", "method": {"kind": "supermask", "init_logit": 0.1}}
TASK = "probe-paraphrase"


def tiny_study(base: Path | str, **settings: Any) -> Study:
    """A study of one mask and one full fine-tuning on `TASK`."""
    content: dict[str, Any] = {
        "version": 1,
        "name": "tiny",
        "title": "A tiny study",
        "shows": "table",
        "paper": "none",
        "claim": "None.",
        "tasks": [TASK],
        "arms": [MASK, FULL],
        "draws": 2,
        "base": str(base),
        "config": {"max_steps": 2, "batch_size": 8, "max_length": 24, "logging_steps": 1},
    }
    return Study(**{**content, **settings})


def yaml_of(study: Study) -> str:
    """The study as a spec file."""
    import json

    return json.dumps(study.model_dump(mode="json"), indent=1)  # JSON is YAML


def weights_with(record: Path, base: Path) -> dict[str, Tensor]:
    """Every tensor of the base with the delta that lies beside a record."""
    from supermask.deltas import TaskDelta
    from supermask.study.records import delta_path
    from supermask.study.runner import load_base_model

    model = load_base_model(str(base))
    with TaskDelta.load(delta_path(record)).applied(model):
        return {name: tensor.clone() for name, tensor in model.state_dict().items()}
