"""L0-close fine-tuning: chosen groups of weights stay at their pretrained values."""

from __future__ import annotations

from typing import ClassVar, final

from torch import nn

from supermask.deltas import Change
from supermask.methods.attachment import Attachment
from supermask.methods.method import Method
from supermask.methods.selecting import left_as_they_are
from supermask.models import map_parameters

__all__ = ["Freezing"]


@final
class Freezing(Method):
    """Train everything but the excluded groups.

    Full fine-tuning is the end that freezes nothing, `Freezing()`; head-only training is the end that freezes the whole
    encoder, `Freezing.head_only()`. The delta stores the groups that moved.

    Example:
        >>> Freezing(exclude=["key", "top-2-blocks", "word_embedding"]).exclude
        ('key', 'top-2-blocks', 'word_embedding')

    Source: section 3.3, "L0-close fine-tuning", and Table 3 of the paper.
    """

    kind: ClassVar[str] = "freezing"

    @classmethod
    def head_only(cls) -> Freezing:
        """Freeze the whole encoder and train the task head alone (the paper's Appendix A)."""
        return cls(exclude=("encoder",))

    def attach_(self, model: nn.Module, *, seed: int = 0) -> Attachment:
        """Freeze the excluded weights of a model, in place; see `Method.attach_`."""
        parameters = map_parameters(model)
        frozen = left_as_they_are(parameters, self.exclude) | set(parameters.head)
        trained = [info.name for info in parameters.infos if info.name not in frozen]
        return FreezingAttachment(model, method=self.describe(), parameters=parameters, trained=trained)


@final
class FreezingAttachment(Attachment):
    """`Freezing` at work: the constraint is that nothing else has a gradient."""

    def statistics(self) -> dict[str, float]:
        """Freezing makes no zeros, so there is nothing to log."""
        return {}

    def constrained_changes(self, draw: int | None = None) -> dict[str, Change]:
        """Frozen weights do not change."""
        return {}
