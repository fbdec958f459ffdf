"""Making the method known to PEFT, and saying which versions of PEFT that is tested with."""

from __future__ import annotations

import warnings
from typing import Any

from supermask.errors import MissingDependencyError

__all__ = ["PEFT_VERSIONS", "check_peft_version", "register"]

PEFT_VERSIONS = ("0.18", "0.22")
"""The oldest version that works, and the first that is untested."""

_HOOKED = "0.21"  # from here on a tuner says itself what its part of a state dictionary is


def check_peft_version(version: str) -> None:
    """Refuse a PEFT that is too old, and warn of one that is too new.

    Example:
        >>> check_peft_version("0.17.1")
        Traceback (most recent call last):
        supermask.errors.MissingDependencyError: peft 0.17.1 is too old ... pip install 'peft>=0.18,<0.22'
    """
    oldest, untested = PEFT_VERSIONS
    remedy = f"pip install 'peft>={oldest},<{untested}'"
    if _release(version) < _release(oldest):
        raise MissingDependencyError(f"peft {version} is too old for supermask's adapters; {remedy}")
    if _release(version) >= _release(untested):
        warnings.warn(
            f"peft {version} is newer than any that supermask's adapters are tested with; {remedy}",
            RuntimeWarning,
            stacklevel=3,
        )


def register(peft: Any, *, name: str, config: type, tuner: type, prefix: str) -> None:
    """Enter the method in PEFT's mappings; twice is once.

    PEFT's own `register_peft_method` takes names of its enumeration `PeftType` alone. The mappings that it fills are
    public, and what reads them compares strings. Before version 0.21 the state dictionary functions ask the enumeration
    as well, so there it gets another member.
    """
    if _release(peft.__version__) < _release(_HOOKED):
        _extend(peft.PeftType, name)
    peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[name] = config
    peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING[name] = tuner
    peft.mapping.PEFT_TYPE_TO_PREFIX_MAPPING[name] = prefix


def _extend(enumeration: Any, name: str) -> None:
    """Add a member to an enumeration of strings, which the standard library has no public way for."""
    if name in enumeration.__members__:
        return
    member: Any = str.__new__(enumeration, name)
    member._name_ = member._value_ = name
    enumeration._member_map_[name] = member
    enumeration._value2member_map_[name] = member
    enumeration._member_names_.append(name)


def _release(version: str) -> tuple[int, ...]:
    from packaging.version import Version

    return Version(version).release[:2]
