"""The bridge between `transformers.Trainer` and a method."""

from __future__ import annotations

import math
from typing import Any, final

from transformers import TrainerCallback

from supermask.methods import Attachment
from supermask.training.encoding import LengthGroupedSampler

__all__ = ["MethodCallback"]


@final
class MethodCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Tells an attachment which step comes next.

    For a Trainer of your own: pass this callback and `optimizers=(make_optimizer(attachment), None)`. Nothing else is
    needed; the constraint itself is kept by the optimizer. `attachment.statistics()` has what is worth logging.

    Args:
        attachment: the method at work on the Trainer's model.
        sampler: the sampler of the training loader, if it is to follow the epochs.
    """

    def __init__(self, attachment: Attachment, sampler: LengthGroupedSampler | None = None) -> None:
        self.attachment = attachment
        self.sampler = sampler
        self._micro_batch = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say how long the training is."""
        self.attachment.begin_training(total_steps=state.max_steps)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Give the sampler its epoch; a run that resumes within an epoch is in it already."""
        if self.sampler is not None:
            self.sampler.epoch = math.floor(state.epoch or 0.0)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Key the draws of the step's first micro-batch."""
        self._micro_batch = 0
        self.attachment.begin_step(state.global_step)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Key the draws of the next micro-batch."""
        self._micro_batch += 1
        self.attachment.begin_step(state.global_step, self._micro_batch)
