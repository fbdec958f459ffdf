"""What a study is: which runs make one table or figure, what it claims, and which numbers the paper prints for it."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal, final

from pydantic import Field, ValidationInfo, field_validator, model_validator

from supermask.configuration import Configuration
from supermask.errors import ConfigurationError, SupermaskError
from supermask.methods import Method, method_from_description
from supermask.tasks import find_task
from supermask.training import TrainingConfig

__all__ = ["Arm", "Expected", "MeasureKind", "Quantity", "Study"]

MeasureKind = Literal["distances", "zeros", "magnitudes", "overlap"]

Quantity = Literal[
    "score",  # primary metric on the task's first report split
    "score_mismatched",  # the same on the second, which MNLI alone has
    "sparsity",
    "steps",
    "additional_parameters",
    "parameters",
    "parameter_share",
    "l1_min",
    "l1_max",
    "l1_uniform",
    "l1_normal",
    "angular_min",
    "angular_max",
    "angular_uniform",
    "angular_normal",
    "pruned_max",
    "supermask_max",
    "pruned_mean",
    "supermask_mean",
    "overlap",  # share of a supermask's zeros that magnitude pruning at the same sparsity zeroes, too
]

_Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
_Text = Annotated[str, Field(min_length=1)]
_Seed = Annotated[int, Field(ge=0, lt=2**32)]


@final
class Arm(Configuration):
    """One line of a table, or one curve of a figure: a method with its settings.

    Args:
        name: how its records are called; the same name means the same method in every study.
        label: what stands in the table or the legend.
        method: kind and settings, as `supermask.methods.method_from_description` reads them.
        config: settings of the training, where they are not the study's.
        tasks: the tasks it is run on, where they are not the study's.
        seeds: the seeds it is run with, where they are not the study's.
    """

    name: _Name
    label: _Text
    method: dict[str, Any]
    config: dict[str, Any] = Field(default_factory=dict)
    tasks: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    seeds: Annotated[tuple[_Seed, ...], Field(min_length=1)] | None = None

    @field_validator("method", mode="after")
    @classmethod
    def _is_method(cls, method: dict[str, Any]) -> dict[str, Any]:
        _valid(functools.partial(method_from_description, method))
        return method

    @field_validator("config", mode="after")
    @classmethod
    def _is_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        return _checked_config(config)

    @field_validator("tasks", mode="after")
    @classmethod
    def _are_tasks(cls, tasks: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if tasks is None else _checked_tasks(tasks)

    @field_validator("seeds", mode="after")
    @classmethod
    def _are_distinct(cls, seeds: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if seeds is None else _distinct("seed", seeds)

    @property
    def parsed_method(self) -> Method:
        """The method, all its settings filled in."""
        return method_from_description(self.method)


@final
class Expected(Configuration):
    """A number that the paper prints.

    Args:
        arm: of which arm; None for a number that belongs to none, such as an analytic value.
        task: of which task; None for a number over several.
        quantity: what is measured.
        value: the number; scores, sparsities, shares and overlaps as fractions, so 84.3 is 0.843.
        spread: the standard deviation printed beside it, in the same unit.
        source: where it stands, such as `Table 5`.
    """

    arm: str | None = None
    task: str | None = None
    quantity: Quantity
    value: float
    spread: Annotated[float, Field(ge=0.0)] | None = None
    source: _Text


@final
class Study(Configuration):
    """Many runs that make one table or figure.

    Args:
        version: of the layout of a spec.
        name: how it is called on the command line.
        title: what the table or figure is of.
        shows: whether it is a table or a figure.
        paper: which one of the paper, or which question of ours.
        claim: what the paper says about it, in plain words.
        tasks: the tasks that every arm is run on.
        arms: the lines or curves.
        seeds: one run each.
        draws: masks to sample for a sampled score.
        base: the model to start from.
        config: settings of all trainings, where they are not the defaults.
        measures: what is measured on the deltas besides the scores.
        expected: the paper's numbers.
        notes: what a reader must know: departures from the paper, and what it leaves open.
    """

    version: Literal[1]
    name: _Name
    title: _Text
    shows: Literal["table", "figure"]
    paper: _Text
    claim: _Text
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    arms: tuple[Arm, ...]
    seeds: Annotated[tuple[_Seed, ...], Field(min_length=1)] = (0,)
    draws: Annotated[int, Field(ge=1)] = 10
    base: _Text = "minilm-l6"
    config: dict[str, Any] = Field(default_factory=dict)
    measures: tuple[MeasureKind, ...] = ()
    expected: tuple[Expected, ...] = ()
    notes: str = ""

    @field_validator("tasks", mode="after")
    @classmethod
    def _are_tasks(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        return _checked_tasks(tasks)

    @field_validator("arms", mode="after")
    @classmethod
    def _have_names(cls, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
        if not arms:
            raise ConfigurationError("a study has at least one arm")
        _distinct("arm", tuple(arm.name for arm in arms))
        return arms

    @field_validator("seeds", "measures", mode="after")
    @classmethod
    def _are_distinct(cls, values: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        return _distinct(f"one of {info.field_name}", values)

    @field_validator("config", mode="after")
    @classmethod
    def _is_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        return _checked_config(config)

    @field_validator("expected", mode="after")
    @classmethod
    def _refer(cls, expected: tuple[Expected, ...], info: ValidationInfo) -> tuple[Expected, ...]:
        # What is itself at fault is absent from `data` and has been told already.
        arms = [arm.name for arm in info.data.get("arms", ())]
        tasks = {*info.data.get("tasks", ()), *(task for arm in info.data.get("arms", ()) for task in arm.tasks or ())}
        faults = []
        for position, number in enumerate(expected):
            if arms and number.arm is not None and number.arm not in arms:
                faults.append(f"number {position} names the arm {number.arm!r}; arms: {', '.join(arms)}")
            if tasks and number.task is not None and number.task not in tasks:
                faults.append(f"number {position} names the task {number.task!r}; tasks: {', '.join(sorted(tasks))}")
        twice = _repeated([(number.arm, number.task, number.quantity) for number in expected])
        faults += [f"the {quantity} of arm {arm} on {task} is given twice" for arm, task, quantity in twice]
        if faults:
            raise ValueError("; ".join(faults))
        return expected

    @model_validator(mode="after")
    def _configs_agree(self) -> Study:
        for arm in self.arms:
            _checked_config({**self.config, **arm.config})
        return self

    def arm(self, name: str) -> Arm:
        """The arm of this name.

        Raises:
            KeyError: if there is none.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise KeyError(name)


def _checked_tasks(tasks: tuple[str, ...]) -> tuple[str, ...]:
    for task in tasks:
        name = _valid(functools.partial(find_task, task)).name
        if name != task:
            raise ValueError(f"write the task {task!r} as {name!r}")
    return _distinct("task", tasks)


def _checked_config(config: dict[str, Any]) -> dict[str, Any]:
    if "seed" in config:
        raise ValueError("a seed stands under seeds, not in config")
    _valid(functools.partial(TrainingConfig, **config))
    return config


def _valid(make: Any) -> Any:
    """Faults of other rooms, told as faults of this setting."""
    try:
        return make()
    except SupermaskError as error:
        raise ConfigurationError(str(error)) from None  # which pydantic tells with its place, being a ValueError
    except TypeError:
        raise ConfigurationError("a setting has a name that is a word") from None


def _distinct(what: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = _repeated(values)
    if twice:
        raise ValueError(f"{what} given twice: {', '.join(map(str, twice))}")
    return values


def _repeated(values: Any) -> list[Any]:
    seen: set[Any] = set()
    return [value for value in values if value in seen or seen.add(value)]  # type: ignore[func-returns-value]
