"""A method at work on a live model: what trains, what is constrained, and how it comes off again."""

from __future__ import annotations

import contextlib
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from supermask.deltas import Change, ChangePlace, DenseValues, KeepMask, SparseValues, TaskDelta, base_fingerprint
from supermask.deltas.applying import applied_digest
from supermask.errors import ConfigurationError, DeltaStateError
from supermask.methods.sharding import is_sharded, whole_tensor
from supermask.models import ParameterMap, Role

__all__ = ["Attachment"]

_SIXTEEN_BITS = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_attached: weakref.WeakSet[nn.Module] = weakref.WeakSet()


class Attachment(ABC):
    """One method on one model, from `attach_` to `detach_`.

    In a training loop of your own: `begin_training` once, `begin_step` before each forward pass, an optimizer from
    `param_groups`, `after_step` after each of its steps, then `extract` and `detach_`.
    `supermask.methods.make_optimizer` and `supermask.training.MethodCallback` make these calls for you.

    Args:
        model: the model, changed in place.
        method: the method's JSON description, stored with the delta.
        parameters: the model's parameters by role and block, taken before anything was attached.
        trained: names of the weights, besides the head's, whose values train.
    """

    def __init__(
        self, model: nn.Module, *, method: Mapping[str, Any], parameters: ParameterMap, trained: Sequence[str]
    ) -> None:
        if model in _attached:
            raise DeltaStateError("a method is attached to this model already; call its attachment's detach_() first")
        if applied_digest(model) is not None:
            raise DeltaStateError("a delta is applied to this model, so it is not the base; remove the delta first")
        self.model = model
        self.method = dict(method)
        self.parameters = parameters
        self.trained = tuple(trained)
        self.step = 0
        self.total_steps: int | None = None
        self.base = base_fingerprint(model, head=parameters.head)
        self._requires_grad = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        # What trains by value is overwritten in place, so its pretrained values wait on the CPU for detach_().
        self._pretrained = {name: parameter.detach().to("cpu", copy=True) for name, parameter in self._live.items()}
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for parameter in self._live.values():
            parameter.requires_grad_(True)
        _attached.add(model)

    @property
    def _live(self) -> dict[str, nn.Parameter]:
        """What trains by value, by name. Looked up each time, because FSDP puts other parameters in their places."""
        return {name: self.model.get_parameter(name) for name in (*self.trained, *self.parameters.head)}

    # What a training loop calls.

    def begin_training(self, *, total_steps: int) -> None:
        """Say how many optimizer steps the training takes; schedules are laid over it."""
        self.total_steps = total_steps

    def begin_step(self, step: int, micro_batch: int = 0) -> None:
        """Say which optimizer step, counted from 0, and which of its micro-batches comes next."""
        self.step = step

    def after_step(self) -> None:
        """Restore the constraint after the optimizer has moved the weights."""

    def param_groups(
        self, *, learning_rate: float, head_learning_rate: float, weight_decay: float = 0.0, eps: float = 1e-6
    ) -> list[dict[str, Any]]:
        """Parameter groups for a torch optimizer, each named by the key `name`.

        Args:
            learning_rate: of weights that train by value.
            head_learning_rate: of the task head.
            weight_decay: of matrices; biases and norms are not decayed.
            eps: Adam's epsilon, of weights and head.

        Returns:
            Groups `weights`, `weights_no_decay`, `head` and `head_no_decay`, as far as they are not empty. `Supermask`
            adds `mask_logits`.
        """
        undecayed = {info.name for info in self.parameters.infos if info.role in (Role.NORM, Role.BIAS)}
        head = set(self.parameters.head)
        groups: dict[str, list[nn.Parameter]] = {"weights": [], "weights_no_decay": [], "head": [], "head_no_decay": []}
        for name, parameter in self._live.items():
            part = "head" if name in head else "weights"
            decays = parameter.ndim > 1 and name not in undecayed
            groups[part if decays else f"{part}_no_decay"].append(parameter)
        return [
            {
                "name": name,
                "params": parameters,
                "lr": head_learning_rate if name.startswith("head") else learning_rate,
                "weight_decay": 0.0 if name.endswith("no_decay") else weight_decay,
                "eps": eps,
            }
            for name, parameters in groups.items()
            if parameters
        ]

    # What the method knows about itself.

    @property
    def samples(self) -> bool:
        """Whether evaluation can draw masks at random."""
        return False

    @property
    def rank(self) -> int:
        """Which process this is, if processes are to draw different masks; 0, at the start, where they are to agree."""
        return 0

    @rank.setter
    def rank(self, rank: int) -> None:
        if rank != 0:
            raise DeltaStateError(
                f"{self.method['kind']} does not sample masks, so processes cannot draw different ones"
            )

    @contextlib.contextmanager
    def evaluating(self, draw: int | None = None) -> Iterator[None]:
        """Evaluate the task model without gradients: with its deterministic mask, or with the mask of one numbered
        draw.

        Raises:
            DeltaStateError: if a draw is asked for and the method does not sample.
        """
        if draw is not None and not self.samples:
            raise DeltaStateError(
                f"{self.method['kind']} does not sample masks, so there is no draw {draw} to evaluate"
            )
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train(was_training)

    @abstractmethod
    def statistics(self) -> dict[str, float]:
        """What to log beside the loss, by name."""

    def base_tensors(self) -> dict[str, Tensor]:
        """The base's values of what may have changed, by parameter name: what the delta is coded against."""
        return dict(self._pretrained)

    @abstractmethod
    def constrained_changes(self, draw: int | None = None) -> dict[str, Change]:
        """What the constraint has done to its weights so far, by parameter name."""

    # The end of the work.

    def extract(
        self,
        *,
        draw: int | None = None,
        round_values: Literal["bfloat16", "float16"] | None = None,
        base_name: str | None = None,
        base_revision: str | None = None,
        task: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> TaskDelta:
        """The task delta learnt so far; the model goes on as it is.

        Args:
            draw: store the mask of this numbered draw instead of the thresholded one.
            round_values: round the head, and values of 32 bits or more that moved, to what 16 bits of this kind hold,
                in the dtype that they have: their low bits are zeros, which take no room in the file. The delta is then
                the rounded task, to be scored as it is; by default every bit is kept.
            base_name: where the base came from, for the reader; the fingerprint is what is checked.
            base_revision: at which revision.
            task: the task as JSON.
            training: how it was trained, as JSON.

        Returns:
            All that turns the base into the task model, head included; weights that did not move are left out.

        Raises:
            ConfigurationError: if a value is beyond what it would be rounded to, or there is no such kind.
        """
        constrained, live = self.constrained_changes(draw), self._live
        head = set(self.parameters.head)
        changes: dict[str, Change] = {}
        for info in self.parameters.infos:
            if info.name in constrained:
                changes[info.name] = constrained[info.name]
            elif info.name in live:
                values = whole_tensor(live[info.name].detach()).to("cpu", copy=True)
                if info.name in head or not _same_bits(values, self._pretrained[info.name]):
                    changes[info.name] = DenseValues(values)
        places = {
            info.name: ChangePlace(role=info.role.value if info.role else None, block=info.block)
            for info in self.parameters.infos
        }
        if round_values is not None:
            if round_values not in _SIXTEEN_BITS:
                raise ConfigurationError(f"values round to {' or '.join(_SIXTEEN_BITS)}, received {round_values!r}")
            kind = _SIXTEEN_BITS[round_values]
            changes = {name: _rounded(name, change, kind) for name, change in changes.items()}
        return TaskDelta.create(
            changes,
            base=self.base,
            base_tensors=self.base_tensors(),
            head=self.parameters.head,
            places=places,
            architecture=self.parameters.architecture,
            base_name=base_name,
            base_revision=base_revision,
            method=self.method,
            task=dict(task or {}),
            training=dict(training or {}),
        )

    def detach_(self) -> nn.Module:
        """Take the method off: every tensor of the model, head included, is bit for bit what it was before `attach_`.

        Returns:
            The same model.

        Raises:
            DeltaStateError: if it is off already.
        """
        if self.model not in _attached:
            raise DeltaStateError("this method is not attached any more")
        if any(is_sharded(parameter) for parameter in self.model.parameters()):
            raise DeltaStateError(
                "the model has been sharded, which cannot be undone, so the method stays on it; extract the delta and "
                "apply it to a model that you load anew"
            )
        self._detach_constraint_()
        with torch.no_grad():
            for name, parameter in self._live.items():
                parameter.copy_(self._pretrained[name])
                parameter.grad = None
        for parameter, requires_grad in self._requires_grad:
            parameter.requires_grad_(requires_grad)
        _attached.discard(self.model)
        return self.model

    def _detach_constraint_(self) -> None:
        """Remove what the constraint put on the model's modules."""


def _rounded(name: str, change: Change, kind: torch.dtype) -> Change:
    """A change whose values are what 16 bits hold, to nearest."""
    if isinstance(change, KeepMask) or change.values.dtype not in (torch.float32, torch.float64):
        return change
    values = change.values.to(kind).to(change.values.dtype)
    if (beyond := values.isinf() & change.values.isfinite()).any():
        raise ConfigurationError(
            f"{name}: {change.values[beyond][0].item()} is beyond what {kind} holds; choose bfloat16, or keep every bit"
        )
    return DenseValues(values) if isinstance(change, DenseValues) else SparseValues(change.mask, values)


def _same_bits(first: Tensor, second: Tensor) -> bool:
    return torch.equal(first.reshape(-1).view(torch.uint8), second.reshape(-1).view(torch.uint8))
