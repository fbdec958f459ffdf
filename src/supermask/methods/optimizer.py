"""The optimizer of a training loop."""

from __future__ import annotations

from typing import get_args

from supermask.errors import ConfigurationError
from supermask.methods.attachment import Attachment
from supermask.methods.method_optimizer import MaskState, MethodOptimizer

__all__ = ["make_optimizer"]


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
