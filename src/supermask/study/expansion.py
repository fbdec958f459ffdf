"""From a study to its runs."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

from supermask.errors import ConfigurationError
from supermask.study.keys import run_key
from supermask.study.spec import Arm, Study
from supermask.tasks import find_task
from supermask.training import TrainingConfig, optimizer_steps

__all__ = ["RunSpec", "narrowed", "overridden", "planned_steps", "runs_of", "shared_runs"]


@final
@dataclass(frozen=True)
class RunSpec:
    """One training of a study.

    Args:
        task: name of the task.
        arm: name of the arm in its study.
        method: the method's description, every setting filled in.
        config: settings of the training, seed included.
        label: how its record is called, such as `supermask-init40-seed0`.
        draws: masks to sample for the sampled score.
    """

    task: str
    arm: str
    method: dict[str, Any]
    config: TrainingConfig
    label: str
    draws: int = 10

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.config.seed

    @functools.cached_property
    def key(self) -> str:
        """What makes it this run and no other, whatever it is called: see `supermask.study.keys.run_key`."""
        return run_key(self.task, find_task(self.task).version, self.method, self.config)


def runs_of(study: Study) -> list[RunSpec]:
    """All runs of a study, task by task, arm by arm, seed by seed.

    Example:
        >>> from supermask.study import load_study
        >>> [run.label for run in runs_of(load_study("table6"))][:2]
        ['supermask-seed0', 'supermask-lr2e-02-seed0']
    """
    tasks = dict.fromkeys([*study.tasks, *(task for arm in study.arms for task in arm.tasks or ())])
    return [
        _run(study, arm, task, seed)
        for task in tasks
        for arm in study.arms
        if task in (arm.tasks or study.tasks)
        for seed in arm.seeds or study.seeds
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
    draws: int | None = None,
    config: dict[str, Any] | None = None,
) -> Study:
    """A study with some of its settings replaced.

    Args:
        study: the study.
        base: another base.
        tasks: other tasks; arms with tasks of their own keep those of them that are named, if any is.
        seeds: other seeds, of every arm.
        draws: another number of draws.
        config: further settings of all trainings.

    Raises:
        ConfigurationError: if a value does not fit.
        UnknownNameError: if there is no such task.
    """
    settings: dict[str, Any] = {name: getattr(study, name) for name in Study.model_fields}
    if tasks is not None:
        wanted = tuple(dict.fromkeys(find_task(task).name for task in tasks))
        settings["tasks"] = wanted
        settings["expected"] = tuple(e for e in study.expected if e.task is None or e.task in wanted)
        settings["arms"] = tuple(
            Arm(**{**dict(arm), "tasks": tuple(task for task in wanted if task in arm.tasks) or None})
            if arm.tasks
            else arm
            for arm in study.arms
        )
    if seeds is not None:
        settings["seeds"] = tuple(dict.fromkeys(seeds))
        settings["arms"] = tuple(Arm(**{**dict(arm), "seeds": None}) for arm in settings["arms"])
    settings |= {name: value for name, value in (("base", base), ("draws", draws)) if value is not None}
    if config is not None:
        settings["config"] = {**study.config, **config}
    return Study(**settings)


def narrowed(study: Study, tasks: Sequence[str]) -> Study | None:
    """A study on those of its tasks that are named; None if it has none of them.

    Args:
        study: the study.
        tasks: names of tasks.

    Raises:
        UnknownNameError: if there is no such task.
    """
    wanted = {find_task(task).name for task in tasks}
    left = {arm.name: tuple(task for task in arm.tasks or study.tasks if task in wanted) for arm in study.arms}
    arms = tuple(Arm(**{**dict(arm), "tasks": left[arm.name]}) for arm in study.arms if left[arm.name])
    if not arms:
        return None
    own = tuple(task for task in study.tasks if task in wanted) or arms[0].tasks
    expected = tuple(
        number
        for number in study.expected
        if (number.task is None or number.task in wanted) and (number.arm is None or left[number.arm])
    )
    settings = {name: getattr(study, name) for name in Study.model_fields}
    return Study(**{**settings, "tasks": own, "arms": arms, "expected": expected})


def planned_steps(run: RunSpec, examples: int | None = None) -> int:
    """How many optimizer steps a run takes.

    Args:
        run: the run.
        examples: training examples; the official number of the task by default.

    Raises:
        ConfigurationError: if the number is neither given nor known.

    Source: Table 1 of the paper: 3 · ceil(n / 32).
    """
    task = find_task(run.task)
    known = task.expected_sizes.get(task.train_split) if examples is None else examples
    if known is None and run.config.max_steps is None:
        raise ConfigurationError(f"the number of training examples of {run.task!r} is not known; pass examples=")
    return optimizer_steps(known or 0, run.config)


def _run(study: Study, arm: Arm, task: str, seed: int) -> RunSpec:
    return RunSpec(
        task=task,
        arm=arm.name,
        method=arm.parsed_method.describe(),
        config=TrainingConfig(**{**study.config, **arm.config, "seed": seed}),
        label=f"{arm.name}-seed{seed}",
        draws=study.draws,
    )
