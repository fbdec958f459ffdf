"""From a study to its runs, and what makes a run this one: its key, and its content address."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from supermask.errors import ConfigurationError
from supermask.study.spec import Study
from supermask.tasks import find_task
from supermask.training import TrainingConfig, optimizer_steps

__all__ = ["RunSpec", "address", "narrowed", "overridden", "planned_steps", "run_key", "runs_of", "shared_runs"]

WITHOUT_EFFECT: Final = frozenset({"checkpoint_steps", "logging_steps", "eval_batch_size", "tensorboard"})
"""Settings of a training that do not decide what is learnt."""


@final
@dataclass(frozen=True)
class RunSpec:
    """One training of a study.

    Args:
        task, arm: their names.
        method: the method's description, every setting filled in.
        config: settings of the training, seed included.
        draws: masks to sample for the sampled score.
    """

    task: str
    arm: str
    method: dict[str, Any]
    config: TrainingConfig
    draws: int = 10

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.config.seed

    @property
    def label(self) -> str:
        """How its record is called, such as `supermask-init40-seed0`."""
        return f"{self.arm}-seed{self.seed}"

    @functools.cached_property
    def key(self) -> str:
        """What makes it this run and no other, whatever it is called."""
        return run_key(self.task, find_task(self.task).version, self.method, self.config)

    def with_seed(self, seed: int) -> RunSpec:
        """The same run with another seed."""
        return dataclasses.replace(self, config=self.config.model_copy(update={"seed": seed}))


def runs_of(study: Study) -> list[RunSpec]:
    """All runs of a study, task by task, arm by arm, seed by seed.

    Example:
        >>> from supermask.study import load_study
        >>> [run.label for run in runs_of(load_study("table6"))][:2]
        ['supermask-seed0', 'supermask-lr2e-02-seed0']
    """
    return [
        RunSpec(
            task=task,
            arm=arm.name,
            method=arm.parsed_method.describe(),
            config=TrainingConfig(**{**study.config, **arm.config, "seed": seed}),
            draws=study.draws,
        )
        for task in study.tasks
        for arm in study.arms
        for seed in study.seeds
    ]


def shared_runs(studies: Iterable[Study]) -> list[RunSpec]:
    """The runs that several studies need, each once, smallest seeds first, so that a first table is soon there."""
    found: dict[str, RunSpec] = {}
    for study in studies:
        for run in runs_of(study):
            found.setdefault(run.key, run)
    return sorted(found.values(), key=lambda run: run.seed)


def overridden(
    study: Study,
    *,
    base: str | None = None,
    tasks: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> Study:
    """A study with another base, other tasks or seeds.

    Raises:
        ConfigurationError: if a value does not fit.
        UnknownNameError: if there is no such task.
    """
    changes: dict[str, Any] = {} if base is None else {"base": base}
    if tasks is not None:
        changes["tasks"] = wanted = tuple(dict.fromkeys(find_task(task).name for task in tasks))
        changes["expected"] = tuple(number for number in study.expected if number.task in (None, *wanted))
    if seeds is not None:
        changes["seeds"] = tuple(dict.fromkeys(seeds))
    return Study(**{**dict(study), **changes})  # as `model_copy`, but checked anew


def narrowed(study: Study, tasks: Sequence[str]) -> Study | None:
    """A study on those of its tasks that are named; None if it has none of them."""
    wanted = {find_task(task).name for task in tasks}
    own = [task for task in study.tasks if task in wanted]
    return overridden(study, tasks=own) if own else None


def planned_steps(run: RunSpec, examples: int | None = None) -> int:
    """How many optimizer steps a run takes on so many training examples, by default the task's official number.

    Raises:
        ConfigurationError: if the number is neither given nor known.

    Source: Table 1 of the paper: 3 · ceil(n / 32).
    """
    task = find_task(run.task)
    known = task.expected_sizes.get(task.train_split) if examples is None else examples
    if known is None and run.config.max_steps is None:
        raise ConfigurationError(f"the number of training examples of {run.task!r} is not known; pass examples=")
    return optimizer_steps(known or 0, run.config)


def run_key(task: str, task_version: int, method: Mapping[str, Any], config: TrainingConfig) -> str:
    """What a run is, apart from base, data and code: the same key, the same cell of a table. 16 hexadecimal digits.

    Precision plays no part, as `auto` stands for another on each machine.
    """
    settings = config.model_dump(mode="json", exclude={*WITHOUT_EFFECT, "precision"})
    return _digest({"task": task, "task_version": task_version, "method": method, "config": settings})


def address(
    key: str, *, base_fingerprint: str, data: Mapping[str, str], precision: str, draws: int | None, version: str
) -> str:
    """The content address of a run: everything that its result is a function of, in 16 hexadecimal digits.

    Args:
        key: of the run, see `run_key`.
        data: split to the hash of its content.
        precision, draws: as they were asked for.
        version: of supermask.
    """
    content = {"key": key, "base": base_fingerprint, "data": dict(data)}
    return _digest({**content, "precision": precision, "draws": draws, "version": version})


def _digest(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
