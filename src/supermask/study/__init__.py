"""The paper as data: one study a table or figure, the runs behind it, and their records."""

from __future__ import annotations

from supermask.study.catalogue import load_study, study_names
from supermask.study.expansion import RunSpec, overridden, runs_of
from supermask.study.records import RecordStore
from supermask.study.spec import Arm, Expected, Study

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
