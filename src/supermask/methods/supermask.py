"""Supermask training: a learned binary mask over frozen pretrained weights."""

from __future__ import annotations

from typing import Annotated, ClassVar, final

from pydantic import Field
from torch import nn

from supermask.core.straight_through import GradientConvention
from supermask.errors import SelectionError
from supermask.methods.method import Method
from supermask.methods.selecting import chosen, constrained_matrices, left_as_they_are
from supermask.methods.supermask_attachment import SupermaskAttachment
from supermask.models import MATRICES, map_parameters

__all__ = ["Supermask"]


@final
class Supermask(Method):
    """Learn only which pretrained weights to switch off.

    Each selected weight gets a mask logit ν; a forward pass in training draws μ ~ Bern(σ(ν)) and uses θ̃ ⊙ μ, and the
    gradient reaches ν straight through the draw. All weights stay frozen. The delta stores the thresholded mask, ν > 0,
    and the head.

    Args:
        select: selectors of the matrices that are masked.
        exclude: selectors of weights that are not masked.
        train: selectors of further weights whose values train beside the mask, for example `["norm", "bias"]`.
        initial_sparsity: fraction of each matrix, smallest magnitudes first, that starts at ν = -init_logit; the rest
            starts at +init_logit. It steers the final sparsity, softly.
        init_logit: |ν| at the start. At 5 a draw drops 0.67 % of the weights before anything is learnt.
        learning_rate: of ν under Adam.
        eps: Adam's epsilon for ν. It decides which weights may flip: far above the typical gradient only weights with
            consistently large gradients move, far below every ν walks a learning rate a step and zeros spread at
            random.
        gradient: the straight-through convention, see `supermask.core.masked_weight`.

    Example:
        >>> Supermask(initial_sparsity=0.3, exclude=["key", "top-2-blocks"]).initial_sparsity
        0.3

    Source: section 3.3, "Supermask training as fine-tuning", and Appendices C and D of the paper. The paper gives the
    learning rate and init_logit; eps and gradient are not stated there.
    """

    kind: ClassVar[str] = "supermask"
    select: tuple[str, ...] = MATRICES
    train: tuple[str, ...] = ()
    initial_sparsity: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    init_logit: Annotated[float, Field(gt=0.0)] = 5.0
    learning_rate: Annotated[float, Field(ge=0.0)] = 0.2
    eps: Annotated[float, Field(gt=0.0)] = 1e-8
    gradient: GradientConvention = "through"

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
