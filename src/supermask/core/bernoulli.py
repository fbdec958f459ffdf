"""From mask logits to keep masks: one Bernoulli draw, or the threshold.

A mask logit ν gives each weight the keep probability σ(ν); at an untouched ν = 5 that is 0.99331, a floor of 0.669 %
zeros in every draw that no training has put there. *Sampled* masks are single draws; the *thresholded* mask
keeps ν > 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from torch import Tensor

from supermask.core.counter_random import KeyWords, key_words
from supermask.core.kernels import kernels_for

__all__ = ["DrawKey", "sample_keep_mask", "threshold_keep_mask"]


@final
@dataclass(frozen=True)
class DrawKey:
    """Which draw: a mask is a pure function of this key, the tensor's name and the index.

    Args:
        seed: the run's seed.
        step: the optimizer step that the draw belongs to.
        micro_batch: which micro-batch of that step, under gradient accumulation.
        rank: the process, where ranks are to draw different masks; 0 where they are to agree.
        stream: what the draw is for, so that evaluation never repeats a mask of training.
    """

    seed: int = 0
    step: int = 0
    micro_batch: int = 0
    rank: int = 0
    stream: str = "training"

    def at(self, *, step: int, micro_batch: int = 0) -> DrawKey:
        """The same run's key at another step."""
        return replace(self, step=step, micro_batch=micro_batch)

    def words(self, tensor_name: str) -> KeyWords:
        """The two words that key the random bits of one tensor, as `supermask.core.kernels` take them."""
        return key_words(self.seed, self.step, self.micro_batch, self.rank, self.stream, tensor_name)


def sample_keep_mask(mask_logits: Tensor, key: DrawKey, tensor_name: str) -> Tensor:
    """Draw one keep mask μ ~ Bern(σ(ν)), the same for the same key on every device.

    With 16 random bits u per weight, the mask keeps where ν > logit((u + 1/2) / 65536). Comparing on the side of the
    logits needs no exponential, so nothing depends on whose exponential it is. Probabilities come out to within 1/65536
    of σ(ν), and |ν| > 11.8 is never drawn against. The work is done by `supermask.core.kernels`, in whichever form is
    the fastest on the device.

    Args:
        mask_logits: ν, any shape, floating point; taken in float32.
        key: which draw.
        tensor_name: the tensor's name in its model; other names draw independently.

    Returns:
        Boolean tensor of the same shape, True where the weight survives; False where ν is not a number.

    Example:
        >>> import torch
        >>> logits = torch.full((4, 4), 5.0)
        >>> first, again = (sample_keep_mask(logits, DrawKey(seed=1), "layer.weight") for _ in range(2))
        >>> torch.equal(first, again)
        True

    Source: equation 4 of the paper; the counter-based draw is ours.
    """
    return kernels_for(mask_logits.device).draw_keep_mask(mask_logits.detach(), key.words(tensor_name))


def threshold_keep_mask(mask_logits: Tensor) -> Tensor:
    """Keep the weights that more draws would keep than drop, ν > 0; what is not a number is dropped.

    Example:
        >>> import torch
        >>> threshold_keep_mask(torch.tensor([-1.0, 0.0, 0.5]))
        tensor([False, False,  True])
    """
    return mask_logits.detach() > 0
