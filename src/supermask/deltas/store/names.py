"""What a delta in a store may be called: a name that is a folder's name on every system."""

from __future__ import annotations

import re
from typing import Final

from supermask.deltas.document import TaskRecord
from supermask.errors import ConfigurationError

__all__ = ["BESIDE", "default_name", "name_fault", "require_name"]

BESIDE: Final = frozenset({"store.json", "readme.md", "license"})
"""Files that may stand in a store beside its deltas, in lower case."""

_LONGEST = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_STRANGE = re.compile(r"[^A-Za-z0-9._-]+")
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))]
)
_RULE = f"a name has 1 to {_LONGEST} letters A-Z and a-z, digits, '.', '_' and '-', and starts with a letter or digit"


def name_fault(name: str) -> str | None:
    """What is wrong with a name; None if nothing is.

    Example:
        >>> name_fault("mrpc-seed0") is None
        True
        >>> name_fault("aux.v2")
        "'aux.v2' is a device's name on Windows"
    """
    shown = repr(name if len(name) <= _LONGEST else name[:_LONGEST] + "...")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        return f"{shown} is no name for a delta: {_RULE}"
    lowered = name.lower()
    if lowered.partition(".")[0] in _DEVICES:
        return f"{shown} is a device's name on Windows"
    if lowered in BESIDE:
        return f"{shown} is the name of a store's own file"
    if lowered.endswith("."):
        return f"{shown} ends in a dot, which Windows drops"
    if lowered.endswith(".safetensors"):
        return f"{shown} ends as the name of a single file does"
    return None


def require_name(name: str) -> None:
    """Refuse what is no name.

    Raises:
        ConfigurationError: saying why.

    Example:
        >>> require_name("../mrpc")
        Traceback (most recent call last):
        supermask.errors.ConfigurationError: '../mrpc' is no name for a delta: a name has 1 to 100 letters ...
    """
    if fault := name_fault(name):
        raise ConfigurationError(f"{fault}; choose another name")


def default_name(task: TaskRecord) -> str:
    """The name that a delta gets if none is given: its task's, with '-' for what a name may not hold.

    Args:
        task: the task as a delta's document has it.

    Raises:
        ConfigurationError: if no name can be made of it.

    Example:
        >>> default_name(TaskRecord(name="stars & stripes"))
        'stars-stripes'
    """
    told = task.name or ""
    name = _STRANGE.sub("-", told).strip("-._")[:_LONGEST].rstrip("-._")
    if fault := name_fault(name):
        raise ConfigurationError(
            f"the delta's task is called {told[:_LONGEST]!r}, which gives no name for it ({fault}); pass a name"
        )
    return name
