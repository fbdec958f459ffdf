"""Starting the task head at the answer that needs no input: the base rate of the labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from supermask.tasks import Task

__all__ = ["base_rate_bias", "start_head_at_base_rate_"]


def base_rate_bias(task: Task, labels: Sequence[float]) -> list[float]:
    """The head's bias that predicts the labels' base rate whatever the input.

    The mean for squared error; log frequencies for cross-entropy, a class that never occurs counted half a time.

    Args:
        task: says what labels are.
        labels: of the training examples.

    Returns:
        One number an output of the head.
    """
    if task.regression:
        return [sum(labels) / len(labels)]
    counts = Counter(labels)
    return [math.log(max(counts[index], 0.5) / len(labels)) for index in range(task.num_labels)]


def start_head_at_base_rate_(model: nn.Module, head: Sequence[str], task: Task, labels: Sequence[float]) -> bool:
    """Set the head's last bias to the base rate, in place.

    A head that starts at 0 on labels around 2.7 (STS-B) sends one large common gradient through every weight until its
    bias has caught up. Values hardly notice; mask logits are pushed across zero by it and the model is damaged for
    good: see docs/methods.

    Args:
        model: with its task head.
        head: names of the head's parameters.
        task: says what labels are.
        labels: of the training examples.

    Returns:
        Whether the head has such a bias; a head without one starts as it is.
    """
    named = {name: model.get_parameter(name) for name in head}
    biases = [parameter for parameter in named.values() if tuple(parameter.shape) == (task.num_labels,)]
    if not biases:
        return False
    with torch.no_grad():
        biases[-1].copy_(torch.tensor(base_rate_bias(task, labels)))
    return True
