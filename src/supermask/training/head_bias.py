"""Starting the task head at the answer that needs no input: the base rate of the labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from supermask.prediction.kinds import kind_of
from supermask.tasks import Task

__all__ = ["start_head_at_base_rate_"]


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
    named = [model.get_parameter(name) for name in head]
    biases = [parameter for parameter in named if tuple(parameter.shape) == (task.num_labels,)]
    if not biases:
        return False
    with torch.no_grad():
        biases[-1].copy_(torch.tensor(kind_of(task).constant_answer(task, labels)))
    return True
