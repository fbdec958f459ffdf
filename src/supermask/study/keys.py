"""What a result depends on, as one short name: the content address of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from supermask.training import TrainingConfig

__all__ = ["WITHOUT_EFFECT", "address", "result_config", "run_key"]

WITHOUT_EFFECT: Final = frozenset({"checkpoint_steps", "logging_steps", "eval_batch_size", "tensorboard"})
"""Settings of a training that do not decide what is learnt."""

_DIGITS = 16


def result_config(config: TrainingConfig) -> dict[str, Any]:
    """The settings that decide what is learnt; precision left out, as `auto` stands for another on each machine."""
    settings = config.model_dump(mode="json")
    return {name: value for name, value in settings.items() if name not in WITHOUT_EFFECT and name != "precision"}


def run_key(task: str, task_version: int, method: Mapping[str, Any], config: TrainingConfig) -> str:
    """What a run is, apart from base, data, precision and code: the same key, the same cell of a table.

    Args:
        task: the task's name.
        task_version: and its version.
        method: the method's description, every setting filled in.
        config: the training's settings.

    Returns:
        16 hexadecimal digits.
    """
    return _digest({"task": task, "task_version": task_version, "method": method, "config": result_config(config)})


def address(
    key: str, *, base_fingerprint: str, data: Mapping[str, str], precision: str, draws: int | None, version: str
) -> str:
    """The content address of a run: everything that its result is a function of.

    Args:
        key: of the run, see `run_key`.
        base_fingerprint: of the base.
        data: split to the hash of its content.
        precision: arithmetic, `auto` resolved.
        draws: masks sampled for the sampled score; None for a method that does not sample.
        version: of supermask.

    Returns:
        16 hexadecimal digits.
    """
    return _digest(
        {
            "key": key,
            "base": base_fingerprint,
            "data": dict(data),
            "precision": precision,
            "draws": draws,
            "version": version,
        }
    )


def _digest(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGITS]
