"""Supermask training: a learned binary mask over frozen pretrained weights."""

from __future__ import annotations

from typing import ClassVar, final

from torch import nn

from supermask.errors import SelectionError
from supermask.methods.method import Method
from supermask.methods.selecting import chosen, constrained_matrices, left_as_they_are
from supermask.methods.supermask_attachment import SupermaskAttachment
from supermask.models import map_parameters
from supermask.settings import SupermaskSettings

__all__ = ["Supermask"]


@final
class Supermask(SupermaskSettings, Method):
    """Learn only which pretrained weights to switch off.

    Each selected weight gets a mask logit ν; a forward pass in training draws μ ~ Bern(σ(ν)) and uses θ̃ ⊙ μ, and the
    gradient reaches ν straight through the draw. All weights stay frozen. The delta stores the thresholded mask, ν > 0,
    and the head.

    Example:
        >>> Supermask(initial_sparsity=0.3, exclude=["key", "top-2-blocks"]).initial_sparsity
        0.3

    Source: section 3.3, "Supermask training as fine-tuning", and Appendices C and D of the paper. The paper gives the
    learning rate and init_logit; eps and gradient are not stated there.
    """

    kind: ClassVar[str] = "supermask"

    def attach_(self, model: nn.Module, *, seed: int = 0) -> SupermaskAttachment:
        """Put mask logits over a model's weights, in place; see `Method.attach_`."""
        parameters = map_parameters(model)
        masked = constrained_matrices(parameters, select=self.select, exclude=self.exclude, verb="mask")
        trained = chosen(parameters, self.train) - left_as_they_are(parameters, self.exclude) - set(parameters.head)
        both = trained & {info.name for info in masked}
        if both:
            raise SelectionError(
                f"{min(both)!r} is selected both to be masked and to train by value; narrow select or train"
            )
        return SupermaskAttachment(
            model,
            settings=self,
            parameters=parameters,
            trained=[info.name for info in parameters.infos if info.name in trained],
            masked=masked,
            seed=seed,
        )
