"""What a study is: which runs make one table or figure, what it claims, and which numbers the paper prints for it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Annotated, Any, Literal, TypeVar, final

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

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

_ValuesT = TypeVar("_ValuesT", bound=Iterable[Hashable])


def _distinct(values: _ValuesT) -> _ValuesT:
    seen: set[Hashable] = set()
    twice = [value for value in values if value in seen or seen.add(value)]  # type: ignore[func-returns-value]
    if twice:
        raise ConfigurationError(f"given twice: {', '.join(map(str, twice))}")
    return values


def _known(tasks: tuple[str, ...]) -> tuple[str, ...]:
    for task in tasks:
        try:
            name = find_task(task).name
        except SupermaskError as error:
            raise ConfigurationError(str(error)) from None  # which pydantic tells with its place, being a ValueError
        if name != task:
            raise ConfigurationError(f"write the task {task!r} as {name!r}")
    return _distinct(tasks)


def _is_method(method: dict[str, Any]) -> dict[str, Any]:
    try:
        method_from_description(method)
    except SupermaskError as error:
        raise ConfigurationError(str(error)) from None
    except TypeError:
        raise ConfigurationError("the kind of a method is a word") from None
    return method


def _is_config(config: dict[str, Any]) -> dict[str, Any]:
    if "seed" in config:
        raise ConfigurationError("a seed stands under seeds, not in config")
    TrainingConfig(**config)
    return config


_Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
_Text = Annotated[str, Field(min_length=1)]
_Seed = Annotated[int, Field(ge=0, lt=2**32)]
_Config = Annotated[dict[str, Any], AfterValidator(_is_config)]


@final
class Arm(Configuration):
    """One line of a table, or one curve of a figure: a method with its settings.

    Args:
        name: how its records are called; the same name means the same method in every study.
        label: what stands in the table or the legend.
        method: kind and settings, as `supermask.methods.method_from_description` reads them.
        config: settings of the training, where they are not the study's.
    """

    name: _Name
    label: _Text
    method: Annotated[dict[str, Any], AfterValidator(_is_method)]
    config: _Config = Field(default_factory=dict)

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
        name, title: how it is called on the command line, and what the table or figure is of.
        paper, claim: which one of the paper, or which question of ours; and what the paper says about it.
        tasks, arms, seeds: every arm, a line or curve, is run on every task with every seed.
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
    tasks: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_known)]
    arms: tuple[Arm, ...]
    seeds: Annotated[tuple[_Seed, ...], Field(min_length=1), AfterValidator(_distinct)] = (0,)
    draws: Annotated[int, Field(ge=1)] = 10
    base: _Text = "minilm-l6"
    config: _Config = Field(default_factory=dict)
    measures: Annotated[tuple[MeasureKind, ...], AfterValidator(_distinct)] = ()
    expected: tuple[Expected, ...] = ()
    notes: str = ""

    @field_validator("arms", mode="after")
    @classmethod
    def _have_names(cls, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
        if not arms:
            raise ConfigurationError("a study has at least one arm")
        _distinct([arm.name for arm in arms])
        return arms

    @field_validator("expected", mode="after")
    @classmethod
    def _refer(cls, expected: tuple[Expected, ...], info: ValidationInfo) -> tuple[Expected, ...]:
        # What is itself at fault is absent from `data` and has been told already.
        names = [arm.name for arm in info.data.get("arms", ())]
        tasks = info.data.get("tasks", ())
        faults = []
        for position, number in enumerate(expected):
            if names and number.arm is not None and number.arm not in names:
                faults.append(f"number {position} names the arm {number.arm!r}; arms: {', '.join(names)}")
            if tasks and number.task is not None and number.task not in tasks:
                faults.append(f"number {position} names the task {number.task!r}; tasks: {', '.join(tasks)}")
        if faults:
            raise ConfigurationError("; ".join(faults))
        _distinct([f"the {number.quantity} of arm {number.arm} on {number.task}" for number in expected])
        return expected

    @model_validator(mode="after")
    def _configs_agree(self) -> Study:
        for arm in self.arms:
            _is_config({**self.config, **arm.config})
        return self

    def arm(self, name: str) -> Arm:
        """The arm of this name; a KeyError if there is none."""
        return {arm.name: arm for arm in self.arms}[name]
