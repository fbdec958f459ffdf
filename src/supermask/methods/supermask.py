"""Supermask training: a learned binary mask over frozen pretrained weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from supermask.core import (
    DrawKey,
    keep_probability,
    magnitude_keep_mask,
    masked_weight,
    sample_keep_mask,
    threshold_keep_mask,
)
from supermask.core.straight_through import GradientConvention
from supermask.deltas import Change, KeepMask
from supermask.errors import SelectionError
from supermask.methods.attachment import Attachment
from supermask.methods.method import Method
from supermask.methods.selecting import chosen, constrained_matrices, left_as_they_are
from supermask.models import MATRICES, ParameterInfo, ParameterMap, map_parameters

__all__ = ["Supermask", "initial_mask_logits"]


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

    def attach_(self, model: nn.Module, *, seed: int = 0) -> Attachment:
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


def initial_mask_logits(weight: Tensor, *, initial_sparsity: float, init_logit: float) -> Tensor:
    """ν at the start: -init_logit for the smallest magnitudes, +init_logit for the rest (a soft magnitude-pruning
    mask).

    Args:
        weight: θ̃, any shape.
        initial_sparsity: fraction that starts dropped, in [0, 1].
        init_logit: |ν|.

    Returns:
        float32 tensor of the same shape and device.

    Example:
        >>> initial_mask_logits(torch.tensor([0.1, -2.0]), initial_sparsity=0.5, init_logit=5.0)
        tensor([-5.,  5.])

    Source: section 3.3 of the paper.
    """
    keep_mask = magnitude_keep_mask(weight, sparsity=initial_sparsity)
    # float32 whatever the weight's dtype: bfloat16 steps by 0.031 near 5, so smaller updates would vanish.
    return torch.where(keep_mask, init_logit, -init_logit).to(torch.float32)


@final
class MaskClock:
    """Which draw is due; one object shared by all masks of an attachment."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.training = DrawKey(seed=seed)
        self.evaluation: DrawKey | None = None


@final
class MaskedWeight(nn.Module):
    """The parametrization on a weight: a sampled mask in training; the thresholded or a numbered draw in evaluation."""

    def __init__(self, mask_logits: Tensor, *, name: str, clock: MaskClock, gradient: GradientConvention) -> None:
        super().__init__()
        self.mask_logits = nn.Parameter(mask_logits)
        self.name = name
        self.clock = clock
        self.gradient: GradientConvention = gradient

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight, same shape and dtype."""
        return masked_weight(weight, self.mask_logits, self.keep_mask(), gradient=self.gradient)

    def keep_mask(self) -> Tensor:
        """The mask in force now."""
        key = self.clock.training if self.training else self.clock.evaluation
        if key is None:
            return threshold_keep_mask(self.mask_logits)
        return sample_keep_mask(self.mask_logits, key, self.name)


@final
class SupermaskAttachment(Attachment):
    """`Supermask` at work, by `torch.nn.utils.parametrize`: the base's tensors are never written."""

    def __init__(
        self,
        model: nn.Module,
        *,
        settings: Supermask,
        parameters: ParameterMap,
        trained: Sequence[str],
        masked: Sequence[ParameterInfo],
        seed: int,
    ) -> None:
        weights = {info.name: model.get_parameter(info.name) for info in masked}
        # First what may fail, then what changes the model.
        start = {
            name: initial_mask_logits(
                weight, initial_sparsity=settings.initial_sparsity, init_logit=settings.init_logit
            )
            for name, weight in weights.items()
        }
        super().__init__(model, method=settings.describe(), parameters=parameters, trained=trained)
        self.settings = settings
        self._clock = MaskClock(seed)
        self._masked = weights  # frozen, so these stay the base's
        self._owners: list[tuple[nn.Module, str, list[str]]] = []
        self.masks: dict[str, MaskedWeight] = {}
        for name, weight in weights.items():
            mask = MaskedWeight(start[name], name=name, clock=self._clock, gradient=settings.gradient)
            mask.train(model.training)
            # A tied weight has several owners; all of them must see it masked.
            for module, attribute in _owners(model, weight):
                self._owners.append((module, attribute, list(module._parameters)))
                parametrize.register_parametrization(module, attribute, mask, unsafe=True)
            self.masks[name] = mask

    @property
    def samples(self) -> bool:
        """True: a mask can be drawn."""
        return True

    def begin_step(self, step: int, micro_batch: int = 0) -> None:
        """As `Attachment.begin_step`; keys the draws of this forward pass and its replays."""
        super().begin_step(step, micro_batch)
        self._clock.training = self._clock.training.at(step=step, micro_batch=micro_batch)

    def param_groups(
        self, *, learning_rate: float, head_learning_rate: float, weight_decay: float = 0.0, eps: float = 1e-6
    ) -> list[dict[str, Any]]:
        """As `Attachment.param_groups`, and `mask_logits`: with its own learning rate and eps, and never any decay."""
        others = super().param_groups(
            learning_rate=learning_rate, head_learning_rate=head_learning_rate, weight_decay=weight_decay, eps=eps
        )
        masks = {
            "name": "mask_logits",
            "params": [mask.mask_logits for mask in self.masks.values()],
            "lr": self.settings.learning_rate,
            "weight_decay": 0.0,
            "eps": self.settings.eps,
        }
        return [masks, *others]

    @contextlib.contextmanager
    def evaluating(self, draw: int | None = None) -> Iterator[None]:
        """Evaluate with the thresholded mask or a numbered draw; a mask is applied once, not for every batch."""
        self._clock.evaluation = None if draw is None else self._evaluation_key(draw)
        try:
            with super().evaluating(draw), parametrize.cached():
                yield
        finally:
            self._clock.evaluation = None

    def keep_masks(self, draw: int | None = None) -> dict[str, Tensor]:
        """The thresholded masks, or those of one numbered draw, by parameter name."""
        if draw is None:
            return {name: threshold_keep_mask(mask.mask_logits) for name, mask in self.masks.items()}
        key = self._evaluation_key(draw)
        return {name: sample_keep_mask(mask.mask_logits, key, name) for name, mask in self.masks.items()}

    @torch.no_grad()
    def statistics(self) -> dict[str, float]:
        """Fractions of zeros among the masked weights: of the thresholded mask, and of a draw in expectation."""
        zeros = expected = weights = 0.0
        for mask in self.masks.values():
            zeros += float((mask.mask_logits <= 0).count_nonzero())
            expected += float((1.0 - keep_probability(mask.mask_logits)).sum(dtype=torch.float64))
            weights += mask.mask_logits.numel()
        return {"sparsity": zeros / weights, "sampled_sparsity": expected / weights}

    def base_tensors(self) -> dict[str, Tensor]:
        """As `Attachment.base_tensors`, with the weights under the masks."""
        return super().base_tensors() | {name: weight.detach() for name, weight in self._masked.items()}

    def constrained_changes(self, draw: int | None = None) -> dict[str, Change]:
        """The keep masks."""
        return {name: KeepMask(keep=keep_mask.cpu()) for name, keep_mask in self.keep_masks(draw).items()}

    def _evaluation_key(self, draw: int) -> DrawKey:
        return DrawKey(seed=self._clock.seed, step=draw, stream="evaluation")

    def _detach_constraint_(self) -> None:
        for module, attribute, order in self._owners:
            parametrize.remove_parametrizations(module, attribute, leave_parametrized=False)
            # The parameter comes back at the end; put all in their old order, which optimizers and checkpoints go by.
            for name in order:
                module._parameters[name] = module._parameters.pop(name)


def _owners(model: nn.Module, weight: Tensor) -> list[tuple[nn.Module, str]]:
    """Every module that holds this very parameter, and under which attribute."""
    return [
        (module, attribute)
        for module in model.modules()
        for attribute, parameter in module.named_parameters(recurse=False)
        if parameter is weight
    ]
