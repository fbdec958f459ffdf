"""The methods by name, for command lines and stored descriptions."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from supermask.errors import UnknownNameError
from supermask.methods.freezing import Freezing
from supermask.methods.method import Method
from supermask.methods.pruning import Pruning
from supermask.methods.supermask import Supermask

__all__ = ["METHODS", "method_from_description"]

METHODS: Mapping[str, type[Method]] = {method.kind: method for method in (Supermask, Pruning, Freezing)}
"""Every method by its kind. A method added here is picked up by the command line and by the conformance tests."""


def method_from_description(description: Mapping[str, Any]) -> Method:
    """The method that `Method.describe` described.

    Raises:
        UnknownNameError: if the kind is no method.
        ConfigurationError: if a setting is unknown or out of range.

    Example:
        >>> method_from_description({"kind": "pruning", "sparsity": 0.9}).sparsity
        0.9
    """
    settings = dict(description)
    kind = settings.pop("kind", None)
    if kind not in METHODS:
        close = difflib.get_close_matches(str(kind), METHODS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ";"
        raise UnknownNameError(f"{kind!r} is no method{hint} methods: {', '.join(METHODS)}")
    return METHODS[kind](**settings)
