from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from supermask.configuration import Configuration, describe_faults
from supermask.errors import ConfigurationError, SupermaskError


class Rates(Configuration):
    learning_rate: Annotated[float, Field(ge=0.0)] = 0.2
    steps: int = 3
    gradient: Literal["stop", "through"] = "stop"
    names: tuple[str, ...] = ()


class Span(Configuration):
    begin: int
    end: int

    @model_validator(mode="after")
    def _ordered(self) -> "Span":
        if self.end < self.begin:
            raise ValueError(f"end={self.end} lies before begin={self.begin}")
        return self


def test_settings_are_compared_by_value_and_go_around_in_json() -> None:
    assert Rates(learning_rate=1, names=("a",)) == Rates(learning_rate=1.0, names=("a",))
    assert Rates() != Rates(steps=4)
    assert hash(Rates()) == hash(Rates())
    rates = Rates(learning_rate=0.125, names=("a", "b"))
    assert Rates.model_validate_json(rates.model_dump_json()) == Rates(**rates.model_dump(mode="json")) == rates


def test_the_docstring_ends_with_what_each_setting_says() -> None:
    class Described(Configuration):
        """Rates.

        Source: nowhere.
        """

        learning_rate: float = Field(0.2, description="Of mask logits.")
        steps: int = 3

    assert Described.__doc__ == "Rates.\n\nSource: nowhere.\n\nArgs:\n    learning_rate: Of mask logits."


def test_settings_never_change_and_are_given_by_name() -> None:
    rates = Rates()
    with pytest.raises(ValidationError):
        rates.steps = 4  # type: ignore[misc]
    assert rates.steps == 3
    with pytest.raises(TypeError):
        Rates(0.1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learnin_rate": 0.1}, "'learnin_rate' is no setting; settings: learning_rate, steps, gradient, names"),
        ({"learning_rate": -1.0}, "learning_rate should be greater than or equal to 0, received -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate should be a finite number, received nan"),
        ({"learning_rate": float("inf")}, "learning_rate should be a finite number, received inf"),
        ({"gradient": "thru"}, "gradient should be 'stop' or 'through', received 'thru'"),
        ({"names": ("a", 7)}, "names.1 should be a valid string, received 7"),
    ],
)
def test_a_fault_names_setting_range_and_value(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Rates(**settings)  # type: ignore[arg-type]
    assert str(caught.value) == f"Rates: {message}"


def test_all_faults_are_reported_together_in_an_error_of_ours() -> None:
    with pytest.raises(SupermaskError) as caught:
        Rates(learning_rate=-1.0, steps="many", typo=1)  # type: ignore[arg-type, call-arg]
    message = str(caught.value)
    assert message.count(";") >= 2 and "\n" not in message
    assert all(part in message for part in ("learning_rate should", "steps should", "'typo' is no setting"))
    assert isinstance(caught.value, ValueError)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__, "no chain of pydantic's"


def test_missing_settings_and_contradictions() -> None:
    with pytest.raises(ConfigurationError, match=r"^Span: begin is required; end is required$"):
        Span()
    with pytest.raises(ConfigurationError, match=r"^Span: end=1 lies before begin=2$"):
        Span(begin=2, end=1)


def test_defaults_are_checked_too() -> None:
    class Broken(Configuration):
        share: Annotated[float, Field(le=1.0)] = 2.0

    with pytest.raises(ConfigurationError, match="share should be less than or equal to 1, received 2"):
        Broken()


def test_faults_of_settings_within_settings_say_whose_they_are() -> None:
    class Plan(Configuration):
        span: Span
        rates: Rates = Rates()

    with pytest.raises(ConfigurationError) as caught:
        Plan(span={"begin": 2, "end": 1}, rates={"steps": "many", "typo": 1})
    assert str(caught.value) == (
        "Plan: span: Span: end=1 lies before begin=2; rates: Rates: steps should be a valid integer, "
        "unable to parse string as an integer, received 'many'; "
        "'typo' is no setting; settings: learning_rate, steps, gradient, names"
    )
    # Whoever reads a file knows its name, so pydantic's report is left to them to describe, in the same words.
    with pytest.raises(ValidationError) as read:
        Plan.model_validate_json('{"span": {"begin": 1}}')
    assert describe_faults(Plan, read.value) == "Plan: span: Span: end is required"
