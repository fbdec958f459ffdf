"""Supermask training: a learned binary mask over frozen pretrained weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, cast, final

import torch
from torch import Tensor, nn

from supermask.core import DrawKey, magnitude_keep_mask, sample_keep_mask, threshold_keep_mask
from supermask.core.magnitude import zeros_at
from supermask.core.sparsity import zeros_of_logits
from supermask.deltas import Change, KeepMask
from supermask.errors import SelectionError
from supermask.methods.attachment import Attachment
from supermask.methods.draw_clock import DrawClock
from supermask.methods.mask_parametrization import MaskedWeight, applied_once, mask_, multiplies_transposed, unmask_
from supermask.methods.method import Method
from supermask.methods.selecting import chosen, constrained_matrices, left_as_they_are
from supermask.methods.sharding import whole_tensor
from supermask.models import ParameterInfo, ParameterMap, map_parameters
from supermask.settings import SupermaskSettings

__all__ = ["Supermask", "SupermaskAttachment", "initial_mask_logits"]


def initial_mask_logits(weight: Tensor, *, initial_sparsity: float, init_logit: float) -> Tensor:
    """ν at the start: -init_logit for the smallest magnitudes, +init_logit for the rest (a soft magnitude-pruning
    mask).

    Example:
        >>> initial_mask_logits(torch.tensor([0.1, -2.0]), initial_sparsity=0.5, init_logit=5.0)
        tensor([-5.,  5.])

    Source: section 3.3 of the paper.
    """
    # float32 whatever the weight's dtype: bfloat16 steps by 0.031 near 5, so smaller updates would vanish.
    logits = torch.full(weight.shape, init_logit, dtype=torch.float32, device=weight.device)
    # Where none is dropped nothing is ranked; a sum shows in one pass whether every weight is a number. Infinities of
    # both signs are none either when added, and are left to the ranking to judge.
    if zeros_at(initial_sparsity, weight.numel()) == 0 and not bool(weight.detach().sum().isnan()):
        return logits
    keep_mask = magnitude_keep_mask(weight, sparsity=initial_sparsity)
    return logits.masked_fill_(keep_mask.logical_not_(), -init_logit)


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
        self._clock = DrawClock(seed=seed)
        self._hooks = self._clock.watch_(model)
        self._owners: list[tuple[nn.Module, str, list[str]]] = []
        self._places: dict[str, tuple[nn.Module, str]] = {}
        self.masks: dict[str, MaskedWeight] = {}
        owners = _owners(model)
        for name, weight in weights.items():
            # A tied weight has several owners; all of them must see it masked.
            places = owners[weight]
            mask = MaskedWeight(
                start[name],
                name=name,
                clock=self._clock,
                gradient=settings.gradient,
                multiplied=all(multiplies_transposed(module) is not None for module, _ in places),
            )
            mask.train(model.training)
            for module, attribute in places:
                self._owners.append((module, attribute, mask_(module, attribute, mask)))
            self._places[name] = places[0]
            self.masks[name] = mask

    @property
    def samples(self) -> bool:
        """True: a mask can be drawn."""
        return True

    @property
    def rank(self) -> int:
        """Which process this is, if processes are to draw different masks; 0, at the start, where they are to agree."""
        return self._clock.rank

    @rank.setter
    def rank(self, rank: int) -> None:
        self._clock.rank = rank

    @property
    def recompute(self) -> bool:
        """Whether linear layers draw their masked weight again in the backward pass, instead of keeping it until then.

        The numbers are the same. True, at the start, keeps no more than plain fine-tuning does. False spares the second
        draw and holds a copy of every masked weight from the forward to the backward pass, which on a CPU is no faster.
        """
        return all(mask.recompute for mask in self.masks.values())

    @recompute.setter
    def recompute(self, recompute: bool) -> None:
        for mask in self.masks.values():
            mask.recompute = recompute

    def begin_step(self, step: int, micro_batch: int = 0) -> None:
        """As `Attachment.begin_step`; keys the draws of this forward pass and its replays."""
        super().begin_step(step, micro_batch)
        self._clock.begin_step(step, micro_batch)

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
        before = self._clock.evaluation
        self._clock.evaluate_with(None if draw is None else self._evaluation_key(draw))
        try:
            with super().evaluating(draw), applied_once(self.masks.values()):
                yield
        finally:
            self._clock.evaluate_with(before)

    def keep_masks(self, draw: int | None = None) -> dict[str, Tensor]:
        """The thresholded masks, or those of one numbered draw, by parameter name."""
        if draw is None:
            return {name: threshold_keep_mask(logits) for name, logits in self._whole_logits()}
        key = self._evaluation_key(draw)
        return {name: sample_keep_mask(logits, key, name) for name, logits in self._whole_logits()}

    def statistics(self) -> dict[str, float]:
        """Fractions of zeros among the masked weights: of the thresholded mask, and of a draw in expectation."""
        zeros, expected = zeros_of_logits(logits for _, logits in self._whole_logits())
        weights = sum(mask.mask_logits.numel() for mask in self.masks.values())
        return {"sparsity": zeros / weights, "sampled_sparsity": expected / weights}

    def base_tensors(self) -> dict[str, Tensor]:
        """As `Attachment.base_tensors`, with the weights under the masks."""
        return super().base_tensors() | {name: whole_tensor(self._base_weight(name)) for name in self.masks}

    def constrained_changes(self, draw: int | None = None) -> dict[str, Change]:
        """The keep masks."""
        return {name: KeepMask(keep=keep_mask.cpu()) for name, keep_mask in self.keep_masks(draw).items()}

    def _whole_logits(self) -> Iterator[tuple[str, Tensor]]:
        """Mask logits by name, gathered one tensor at a time where processes hold parts of them."""
        for name, mask in self.masks.items():
            yield name, whole_tensor(mask.mask_logits.detach())

    def _base_weight(self, name: str) -> Tensor:
        """The weight under a mask: frozen, so it stays the base's. Looked up, because FSDP replaces parameters."""
        module, attribute = self._places[name]
        return cast(Tensor, cast(Any, module).parametrizations[attribute].original).detach()

    def _evaluation_key(self, draw: int) -> DrawKey:
        return DrawKey(seed=self._clock.seed, step=draw, stream="evaluation")

    def _detach_constraint_(self) -> None:
        for module, attribute, order in self._owners:
            unmask_(module, attribute, order)
        for hook in self._hooks:
            hook.remove()


def _owners(model: nn.Module) -> dict[Tensor, list[tuple[nn.Module, str]]]:
    """Every module that holds a parameter, and under which attribute; tensors are told apart by identity."""
    owners: dict[Tensor, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for attribute, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            owners.setdefault(parameter, []).append((module, attribute))
    return owners
