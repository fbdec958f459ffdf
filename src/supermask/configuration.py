"""The parent of every settings object: frozen, keyword-only, checked, and closed to unknown keys."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from supermask.errors import ConfigurationError

__all__ = ["Configuration", "describe_fault", "describe_faults"]


class Configuration(BaseModel):
    """Settings that are checked when they are made and never change afterwards.

    Raises:
        ConfigurationError: naming every fault of the settings together, not just the first.

    Example:
        >>> class Rates(Configuration):
        ...     learning_rate: float = 0.2
        >>> Rates(learnin_rate=0.1)
        Traceback (most recent call last):
        supermask.errors.ConfigurationError: Rates: 'learnin_rate' is no setting; settings: learning_rate
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """End the docstring with what each setting says it is."""
        described = [
            f"    {name}: {field.description}" for name, field in cls.model_fields.items() if field.description
        ]
        if cls.__doc__ and described:
            cls.__doc__ = "\n".join([inspect.cleandoc(cls.__doc__), "", "Args:", *described])

    def __init__(self, /, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ConfigurationError(describe_faults(type(self), error)) from None


def describe_faults(kind: type[BaseModel], error: ValidationError) -> str:
    """All faults of a settings object in one line: which setting, what is wrong, what was received.

    Args:
        kind: the settings class.
        error: pydantic's report.
    """
    return f"{kind.__name__}: " + "; ".join(describe_fault(kind, fault) for fault in error.errors())


def describe_fault(kind: type[BaseModel], fault: Any) -> str:
    """One fault of a settings object: which setting, what is wrong, what was received.

    Args:
        kind: the settings class.
        fault: of pydantic's report, one of its `errors()`.
    """
    name = ".".join(str(part) for part in fault["loc"])
    cause = fault.get("ctx", {}).get("error")
    if fault["type"] == "extra_forbidden":
        return f"{name!r} is no setting; settings: {', '.join(kind.model_fields)}"
    if fault["type"] == "missing":
        return f"{name} is required"
    if isinstance(cause, ConfigurationError):  # settings within settings, or read from JSON: described already
        described = str(cause).removeprefix(f"{kind.__name__}: ")
        return f"{name}: {described}" if name else described
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    received = repr(fault["input"])
    shown = received if len(received) <= 80 else f"{received[:77]}..."
    return f"{name} {message}, received {shown}" if name else message
