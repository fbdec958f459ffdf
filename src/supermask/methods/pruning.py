"""Sparse fine-tuning: iterative magnitude pruning while the surviving weights train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from pydantic import model_validator
from torch import Tensor, nn

from supermask.core import cubic_sparsity, global_magnitude_keep_masks, magnitude_keep_mask
from supermask.deltas import Change, SparseValues
from supermask.errors import DeltaStateError
from supermask.methods.attachment import Attachment
from supermask.methods.method import Method
from supermask.methods.selecting import constrained_matrices, left_as_they_are
from supermask.methods.sharding import local_part, part_of_whole, whole_tensor
from supermask.models import ParameterInfo, ParameterMap, map_parameters
from supermask.settings import PruningSettings

__all__ = ["Pruning"]


@final
class Pruning(PruningSettings, Method):
    """Zero the smallest weights step by step while training the rest.

    Sparsity follows the cubic schedule from 0 at `begin` to `sparsity` at `end`, re-ranked every `period` steps, and
    the mask is put back after every optimizer step, because Adam's momentum and weight decay would revive pruned
    weights. The final count of zeros is exact to one weight. The delta stores the keep mask and the surviving values.

    Example:
        >>> Pruning(sparsity=0.3, exclude="word_embedding").sparsity
        0.3

    Source: section 3.3, "Sparse (L0-small) fine-tuning", and Figure 8 of the paper; schedule of Zhu and Gupta (2017).
    The paper states neither begin, end nor period: these defaults are ours.
    """

    kind: ClassVar[str] = "pruning"

    @model_validator(mode="after")
    def _ordered(self) -> Pruning:
        if self.end < self.begin:
            raise ValueError(f"pruning would end (end={self.end}) before it begins (begin={self.begin})")
        return self

    def attach_(self, model: nn.Module, *, seed: int = 0) -> Attachment:
        """Prepare a model for pruning, in place; see `Method.attach_`."""
        parameters = map_parameters(model)
        pruned = constrained_matrices(parameters, select=self.select, exclude=self.exclude, verb="prune")
        frozen = left_as_they_are(parameters, self.exclude) | set(parameters.head)
        trained = [info.name for info in parameters.infos if info.name not in frozen]
        return PruningAttachment(model, settings=self, parameters=parameters, trained=trained, pruned=pruned)


@final
class PruningAttachment(Attachment):
    """`Pruning` at work.

    Keep masks live as buffers on their modules, so checkpoints carry them and a resumed run goes on exactly.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        settings: Pruning,
        parameters: ParameterMap,
        trained: Sequence[str],
        pruned: Sequence[ParameterInfo],
    ) -> None:
        super().__init__(model, method=settings.describe(), parameters=parameters, trained=trained)
        self.settings = settings
        self._places = {info.name: (model.get_submodule(info.module), f"{info.attribute}_keep_mask") for info in pruned}
        for name, (module, buffer) in self._places.items():
            module.register_buffer(buffer, torch.ones_like(model.get_parameter(name), dtype=torch.bool))

    def keep_masks(self) -> dict[str, Tensor]:
        """The keep mask in force, by parameter name."""
        return {name: module.get_buffer(buffer) for name, (module, buffer) in self._places.items()}

    def begin_step(self, step: int, micro_batch: int = 0) -> None:
        """As `Attachment.begin_step`; the schedule needs `begin_training` first."""
        if self.total_steps is None:
            raise DeltaStateError(
                "pruning lays its schedule over all steps; call begin_training(total_steps=...) first"
            )
        super().begin_step(step, micro_batch)

    def after_step(self) -> None:
        """Rank again if this step is due, then zero what is pruned."""
        begin, end = (round(share * (self.total_steps or 0)) for share in (self.settings.begin, self.settings.end))
        end = max(end, 1)  # at least one step happens before anything can be pruned
        done = self.step + 1
        if done == end or (begin <= done < end and (done - begin) % self.settings.period == 0):
            self._rank_(cubic_sparsity(done, begin_step=begin, end_step=end, final_sparsity=self.settings.sparsity))
        live = self._live
        with torch.no_grad():
            for name, keep_mask in self.keep_masks().items():
                local_part(live[name]).masked_fill_(~part_of_whole(keep_mask, live[name]), 0.0)

    def statistics(self) -> dict[str, float]:
        """The fraction of zeros among the selected weights."""
        masks = self.keep_masks().values()
        kept = sum(int(keep_mask.count_nonzero()) for keep_mask in masks)
        return {"sparsity": 1.0 - kept / sum(keep_mask.numel() for keep_mask in masks)}

    def constrained_changes(self, draw: int | None = None) -> dict[str, Change]:
        """The surviving values and where they stand."""
        changes: dict[str, Change] = {}
        live = self._live
        for name, keep_mask in self.keep_masks().items():
            kept = keep_mask.detach().to("cpu", copy=True)
            changes[name] = SparseValues(keep=kept, values=whole_tensor(live[name].detach()).cpu()[kept])
        return changes

    def _rank_(self, sparsity: float) -> None:
        live = self._live
        weights = {name: whole_tensor(live[name].detach()) for name in self._places}
        if self.settings.scope == "global":
            masks = global_magnitude_keep_masks(weights, sparsity=sparsity)
        else:
            masks = {name: magnitude_keep_mask(weight, sparsity=sparsity) for name, weight in weights.items()}
        for name, keep_mask in self.keep_masks().items():
            keep_mask.copy_(masks[name])

    def _detach_constraint_(self) -> None:
        for module, buffer in self._places.values():
            delattr(module, buffer)
