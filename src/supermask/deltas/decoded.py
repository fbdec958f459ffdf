"""A delta whose changes are decoded once and kept: for a model that goes to and fro between a few tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, final

import torch
from torch import nn

from supermask.deltas.applying import applied_digest, apply_delta_, remove_delta_
from supermask.deltas.changes import Change
from supermask.deltas.document import DeltaDocument
from supermask.deltas.threads import WEIGHTS_AT_A_TIME, run_in_threads

__all__ = ["DecodedDelta", "decode_changes"]

_ModelT = TypeVar("_ModelT", bound=nn.Module)


@final
@dataclass(frozen=True, eq=False, repr=False)
class DecodedDelta:
    """A delta in the memory of its decoded changes, to put on a model again and again without decoding it again.

    A mask takes 4 bytes for each dropped weight or one bit for each weight, whichever is less; values take what they
    take. What is overwritten while it is applied comes on top, and its memory stays with the model for the next one.
    `TaskDelta.decode` makes one. To a model it is the same delta as the one that it comes from: either takes off
    what the other has put on.

    Args:
        document: what the delta says about itself.
        changes: by tensor name in model order. They are shared by all uses: do not write to them.

    Example:
        >>> from supermask.deltas import KeepMask, TaskDelta, base_fingerprint
        >>> base = nn.Linear(2, 2, bias=False)
        >>> keep = torch.tensor([[True, False], [True, True]])
        >>> delta = TaskDelta.create({"weight": KeepMask(keep)}, base=base_fingerprint(base)).decode(base)
        >>> with delta.applied(base):
        ...     base.weight.count_nonzero().item()
        3
    """

    document: DeltaDocument
    changes: Mapping[str, Change]

    @property
    def digest(self) -> str:
        """The identity of the delta, the same as that of the coded one."""
        return self.document.digest

    @property
    def nbytes(self) -> int:
        """The memory that the decoded changes take."""
        return sum(change.nbytes for change in self.changes.values())

    def apply_(
        self, model: _ModelT, *, verify: bool = True, switch: bool = False, threads: int | None = None
    ) -> _ModelT:
        """Turn the base into the task model, in place; see `TaskDelta.apply_`.

        The fingerprint takes some ten times as long as the rest: pass `verify=False` for a model that was checked.
        """
        apply_delta_(
            model,
            self.document,
            self.changes,
            verify=verify,
            switch=switch,
            threads=threads,
        )
        return model

    def remove_(self, model: _ModelT, *, threads: int | None = None) -> _ModelT:
        """Give the model back every bit that `apply_` overwrote; see `TaskDelta.remove_`."""
        remove_delta_(model, self.document, threads=threads)
        return model

    @contextmanager
    def applied(self, model: _ModelT, *, verify: bool = True, threads: int | None = None) -> Iterator[_ModelT]:
        """Apply the delta for the time of a `with` block; see `apply_` and `remove_`."""
        self.apply_(model, verify=verify, threads=threads)
        try:
            yield model
        finally:
            self.remove_(model, threads=threads)

    def is_applied(self, model: nn.Module) -> bool:
        """Whether this delta, decoded or not, is on the model."""
        return applied_digest(model) == self.digest

    def __repr__(self) -> str:
        return f"DecodedDelta(task={self.document.task.name!r}, {self.nbytes} bytes in memory)"


def decode_changes(
    document: DeltaDocument, changes: Mapping[str, Change], *, threads: int | None = None
) -> dict[str, Change]:
    """Decode every change of a delta, several at a time.

    Args:
        document: of the delta.
        changes: by tensor name, decoded on access.
        threads: how many, at least 1; by default one a core.

    Returns:
        The changes in their smallest decoded form, by name in model order.
    """
    decoded: dict[str, Change] = {}

    def decode(name: str) -> None:
        decoded[name] = changes[name]

    weights = {record.name: record.weights for record in document.changes}
    with torch.no_grad():
        run_in_threads(decode, weights, threads=threads, at_a_time=WEIGHTS_AT_A_TIME)
    return {record.name: decoded[record.name] for record in document.changes}
