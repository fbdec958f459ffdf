"""How a task is learnt: three methods, and what puts them to work."""

from __future__ import annotations

from supermask.methods.attachment import Attachment
from supermask.methods.freezing import Freezing
from supermask.methods.method import Method
from supermask.methods.optimizer import make_optimizer
from supermask.methods.pruning import Pruning
from supermask.methods.registry import METHODS, method_from_description
from supermask.methods.supermask import Supermask

__all__ = [
    "METHODS",
    "Attachment",
    "Freezing",
    "Method",
    "Pruning",
    "Supermask",
    "make_optimizer",
    "method_from_description",
]
