"""Every error that supermask raises on purpose.

Each is a `SupermaskError`, so one `except` catches all of them, and each is also the builtin that Python programmers
would expect, so code that knows nothing of supermask still handles it. A message says what was wrong, what was
received, where, and the remedy.
"""

from __future__ import annotations

__all__ = [
    "BaseMismatchError",
    "ConfigurationError",
    "DataError",
    "DeltaFormatError",
    "DeltaStateError",
    "ExportError",
    "MissingDependencyError",
    "OutputError",
    "SelectionError",
    "SupermaskError",
    "UnknownNameError",
]


class SupermaskError(Exception):
    """The parent of all errors raised by supermask."""


class ConfigurationError(SupermaskError, ValueError):
    """A setting is outside its range, or two settings contradict each other."""


class SelectionError(SupermaskError, LookupError):
    """A selector names nothing in the model, or a selection is empty."""


class UnknownNameError(SupermaskError, LookupError):
    """A task, base, method or other registered thing has no such name."""


class DataError(SupermaskError, ValueError):
    """A data set is missing, unreadable or malformed; the message names the file and the line."""


class DeltaFormatError(SupermaskError, ValueError):
    """A delta's file is truncated, edited, of an unknown version, or not a delta at all."""


class BaseMismatchError(SupermaskError, ValueError):
    """A delta was learnt on another base than the model at hand."""


class DeltaStateError(SupermaskError, RuntimeError):
    """A delta is applied, attached or removed where that is not possible now."""


class ExportError(SupermaskError, RuntimeError):
    """A model cannot be turned into another format, or the result would not compute the same."""


class OutputError(SupermaskError, OSError):
    """A result cannot be written: the place is taken, not writable, or full."""


class MissingDependencyError(SupermaskError, ImportError):
    """An optional library is needed for what was asked; the message names the extra that installs it."""
