"""Adam over an attachment's groups, with clipping before each step and the method's constraint after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast, final, get_args

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from supermask.core.counter_random import key_words
from supermask.core.kernels import kernels_for
from supermask.core.kernels.adam8 import EightBitMoments
from supermask.core.kernels.arguments import AdamStep
from supermask.errors import ConfigurationError
from supermask.methods.attachment import Attachment
from supermask.methods.gradient_norms import clip_by_norm_, gradient_norm
from supermask.methods.sharding import is_sharded, local_part

__all__ = ["MaskState", "MethodOptimizer", "make_optimizer"]

MaskState = Literal["float32", "8bit"]

_MASKS = "mask_logits"
_CODES = ("first", "second")
_FUSED_DEVICES = ("cpu", "cuda")


@final
class MethodOptimizer(torch.optim.Optimizer):
    """AdamW by torch's own kernels; the moments of mask logits in float32, or in 8 bits by our kernel.

    `make_optimizer` makes one from an attachment's parameter groups, and says what its settings are. Parameters may be
    sharded by FSDP2: a step works on the part that this process holds, with norms over the whole.
    """

    def __init__(
        self,
        attachment: Attachment,
        groups: list[dict[str, Any]],
        *,
        max_grad_norm: float,
        mask_state: MaskState = "float32",
        fused: bool | None = None,
    ) -> None:
        for group in groups:
            if mask_state == "8bit" and group["name"] == _MASKS:
                group["state_bits"] = 8
        defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "name": "", "state_bits": 32}
        super().__init__(groups, defaults)
        self._attachment = attachment
        self._max_grad_norm = max_grad_norm
        self._fused = fused
        self._norms: tuple[Tensor, Tensor] | None = None

    def measure_gradient_norm(self) -> Tensor:
        """The L2 norm of all gradients, to be logged; `step` clips by what was measured here if it comes next.

        Gradients must not change in between.
        """
        self._norms = (gradient_norm(self._gradients(masks=True)), gradient_norm(self._gradients(masks=False)))
        masks, others = self._norms
        return torch.hypot(masks.to(others.device), others)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Clip, update, and restore the constraint.

        Args:
            closure: computes loss and gradients anew, as torch's optimizers take it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
            self._norms = None
        if self._max_grad_norm > 0:
            if self._norms is None:
                self.measure_gradient_norm()
            for masks, norm in zip((True, False), cast("tuple[Tensor, Tensor]", self._norms), strict=True):
                clip_by_norm_(self._gradients(masks=masks), norm, max_norm=self._max_grad_norm)
        self._norms = None
        for group in self.param_groups:
            (self._step_8bit if group["state_bits"] == 8 else self._step_32bit)(group)
        self._attachment.after_step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state, to be saved.

        Raises:
            ConfigurationError: if processes hold parts of moments in 8 bits. Their blocks begin where a part begins, so
                distributed checkpoints would take one process's for all.
        """
        for group in self.param_groups:
            if group["state_bits"] == 8 and any(is_sharded(parameter) for parameter in group["params"]):
                raise ConfigurationError(
                    "8-bit moments of a sharded model cannot be saved; make the optimizer with mask_state='float32', "
                    "or do without checkpoints"
                )
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state.

        Args:
            state_dict: of `state_dict()`.

        Raises:
            ConfigurationError: if the moments of mask logits were kept in another form.
        """
        for saved, group in zip(state_dict["param_groups"], self.param_groups, strict=False):
            if saved.get("state_bits") != group["state_bits"]:
                raise ConfigurationError(
                    f"the saved state keeps the moments of {group['name']} in {saved.get('state_bits')} bits, this "
                    f"optimizer in {group['state_bits']}; make it with the same mask_state"
                )
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            fused = self._fuses(group["params"])
            for parameter in group["params"]:
                state = self.state.get(parameter, {})
                if group["state_bits"] == 32 and fused and "step" in state:
                    state["step"] = state["step"].to(parameter.device)  # fused kernels count where they compute
                # torch casts a state's tensors to the parameter's dtype. Bytes are exact in it, so nothing is lost.
                state.update({name: state[name].to(torch.uint8) for name in _CODES if name in state})

    def _gradients(self, *, masks: bool) -> list[Tensor]:
        """The gradients that share one norm: those of mask logits, or all others."""
        return [
            parameter.grad
            for group in self.param_groups
            if (group["name"] == _MASKS) == masks
            for parameter in group["params"]
            if parameter.grad is not None
        ]

    def _fuses(self, parameters: list[nn.Parameter]) -> bool:
        """Whether torch's fused kernels are to update these."""
        if self._fused is not None:
            return self._fused
        return all(
            parameter.dtype == torch.float32 and parameter.device.type in _FUSED_DEVICES for parameter in parameters
        )

    def _step_32bit(self, group: dict[str, Any]) -> None:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not parameters:
            return
        fused = self._fuses(parameters)
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), device=parameter.device if fused else "cpu")
                state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            [local_part(parameter) for parameter in parameters],
            [local_part(_gradient(parameter)) for parameter in parameters],
            [local_part(state["exp_avg"]) for state in states],
            [local_part(state["exp_avg_sq"]) for state in states],
            [],
            [state["step"] for state in states],
            fused=fused,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _step_8bit(self, group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        for index, parameter in enumerate(group["params"]):
            if parameter.grad is None:
                continue
            logits, state = local_part(parameter), self.state[parameter]
            if not state:
                state |= EightBitMoments.zeros(logits.numel(), logits.device)._asdict() | {"step": torch.zeros(())}
            state["step"] += 1
            step = int(state["step"])
            kernels_for(logits.device).adam_step_8bit_(
                logits,
                local_part(parameter.grad),
                EightBitMoments(**{name: state[name] for name in EightBitMoments._fields}),
                AdamStep(float(group["lr"]), beta1, beta2, group["eps"], step),
                key=key_words("8-bit moments", index, step),
            )


def make_optimizer(
    attachment: Attachment,
    *,
    learning_rate: float = 2e-5,
    head_learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    eps: float = 1e-6,
    max_grad_norm: float = 1.0,
    mask_state: MaskState = "float32",
    fused: bool | None = None,
) -> MethodOptimizer:
    """AdamW that clips before each step and restores the attachment's constraint after it.

    Both happen inside `optimizer.step()`, so they hold in any loop: plain, `transformers.Trainer`, accelerate, with a
    gradient scaler or without. Mask logits are clipped apart from weights and head: their gradients are of another
    size, and one joint norm would let either starve the other.

    Under FSDP2, shard the model after the method is attached, and make the optimizer after that.

    Args:
        attachment: the method at work.
        learning_rate: of weights that train by value.
        head_learning_rate: of the task head.
        weight_decay: of matrices that train by value; mask logits, biases and norms are never decayed.
        eps: Adam's epsilon for weights and head; mask logits have their method's own.
        max_grad_norm: largest L2 norm of the gradients, of mask logits and of all else; 0 clips nothing.
        mask_state: Adam's two moments of the mask logits in `float32`, 8 bytes a mask logit, or in `8bit`, 2.03 bytes:
            see `supermask.core.kernels.adam8`. Moments of weights and head are always float32.
        fused: torch's fused Adam kernels. By default for groups whose parameters are all float32.

    Returns:
        The optimizer, a `torch.optim.Optimizer`; put a learning-rate schedule on it as on any other.

    Raises:
        ConfigurationError: if mask_state is unknown, or the method has no mask logits to keep 8-bit moments of.

    Example:
        >>> from supermask.methods import Supermask
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> model = BertForSequenceClassification(BertConfig(num_hidden_layers=1, hidden_size=12, vocab_size=9))
        >>> [group["name"] for group in make_optimizer(Supermask().attach_(model)).param_groups]
        ['mask_logits', 'head', 'head_no_decay']

    Source: hyper-parameters of section 3.3 and Appendix C of the paper, after Devlin et al. (2018).
    """
    if mask_state not in get_args(MaskState):
        raise ConfigurationError(f"mask_state is one of {', '.join(get_args(MaskState))}; received {mask_state!r}")
    groups = attachment.param_groups(
        learning_rate=learning_rate, head_learning_rate=head_learning_rate, weight_decay=weight_decay, eps=eps
    )
    if mask_state == "8bit" and not any(group["name"] == "mask_logits" for group in groups):
        raise ConfigurationError(
            f"mask_state='8bit' is for mask logits, and {attachment.method['kind']} has none; leave it at 'float32'"
        )
    return MethodOptimizer(attachment, groups, max_grad_norm=max_grad_norm, mask_state=mask_state, fused=fused)


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
