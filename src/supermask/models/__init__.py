"""Which weights a model has: load a base, map every parameter to its role and block, and select among them.

This is the one room that knows architectures by name. Importing it imports neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supermask.models.bases import Base, load_base
    from supermask.models.embedded import DEFAULT_BASE, KnownBase, known_bases
    from supermask.models.mapping import map_parameters
    from supermask.models.roles import ParameterInfo, ParameterMap, Role
    from supermask.models.selection import MATRICES, MATRICES_IF_PRESENT, select_parameters

__all__ = [
    "DEFAULT_BASE",
    "MATRICES",
    "MATRICES_IF_PRESENT",
    "Base",
    "KnownBase",
    "ParameterInfo",
    "ParameterMap",
    "Role",
    "known_bases",
    "load_base",
    "map_parameters",
    "select_parameters",
]

_HOMES = {
    "Base": "bases",
    "load_base": "bases",
    "DEFAULT_BASE": "embedded",
    "KnownBase": "embedded",
    "known_bases": "embedded",
    "map_parameters": "mapping",
    "ParameterInfo": "roles",
    "ParameterMap": "roles",
    "Role": "roles",
    "MATRICES": "selection",
    "MATRICES_IF_PRESENT": "selection",
    "select_parameters": "selection",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'supermask.models' has no attribute '{name}'")
    return getattr(importlib.import_module(f"supermask.models.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
