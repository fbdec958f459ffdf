"""The paper as data: one study a table or figure, the runs behind it, their records, and what they show."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supermask.study.catalogue import load_study, study_names
    from supermask.study.expansion import RunSpec, overridden, runs_of
    from supermask.study.records import RecordStore
    from supermask.study.spec import Arm, Expected, Study

_HOMES = {
    "Arm": "spec",
    "Expected": "spec",
    "RecordStore": "records",
    "RunSpec": "expansion",
    "Study": "spec",
    "load_study": "catalogue",
    "overridden": "expansion",
    "runs_of": "expansion",
    "study_names": "catalogue",
}

__all__ = [
    "Arm",
    "Expected",
    "RecordStore",
    "RunSpec",
    "Study",
    "load_study",
    "overridden",
    "runs_of",
    "study_names",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'supermask.study' has no attribute {name!r}")
    return getattr(importlib.import_module(f"supermask.study.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
