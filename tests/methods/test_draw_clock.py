import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from supermask.core import DrawKey
from supermask.methods.draw_clock import DrawClock


def test_passes_of_a_step_share_its_draw_unless_they_are_numbered() -> None:
    module = nn.Linear(1, 1)
    for numbered in (False, True):
        clock, keys = DrawClock(seed=4, numbers_passes=numbered), []
        for step in (None, None, 3, None):
            if step is not None:
                clock.begin_step(step, micro_batch=1)
            clock.before_forward(module, ())
            keys.append(clock.key)
        again = "training/1" if numbered else "training"
        assert keys == [
            DrawKey(seed=4),
            DrawKey(seed=4, stream=again),
            DrawKey(seed=4, step=3, micro_batch=1),
            DrawKey(seed=4, step=3, micro_batch=1, stream=again),
        ]
        clock.before_forward(module.eval(), ())
        assert clock.key == keys[-1]
        module.train()


def test_a_key_holds_before_the_first_forward_pass_too() -> None:
    """As where only a part of the model is called."""
    clock = DrawClock(seed=1)
    assert clock.mask_key("w", training=True) == DrawKey(seed=1).words("w")
    clock.begin_step(2)
    assert clock.mask_key("w", training=True) == DrawKey(seed=1, step=2).words("w")
    assert clock.mask_key("w", training=True, seed=0) == DrawKey(seed=0, step=2).words("w")
    clock.rank = 3
    assert clock.key == DrawKey(seed=1, step=2, rank=3)
    clock.begin_step(4)
    assert clock.key == DrawKey(seed=1, step=4, rank=3) and clock.rank == 3, "the rank is in every draw of training"


def test_evaluation_has_a_draw_of_its_own_or_none() -> None:
    clock = DrawClock(seed=1)
    assert clock.mask_key("w", training=False) is None
    for key in (None, DrawKey(seed=1, step=2, stream="evaluation"), None):
        clock.evaluate_with(key)
        assert clock.mask_key("w", training=False) == (key and key.words("w"))


class Noted(nn.Module):
    """A layer that notes the key of each of its forward passes, and of each replay of one."""

    def __init__(self, clock: DrawClock, *, reentrant: bool) -> None:
        super().__init__()
        self.clock = clock
        self.reentrant = reentrant
        self.linear = nn.Linear(2, 2)
        self.steps: list[int] = []

    def inner(self, inputs: Tensor) -> Tensor:
        self.steps.append(self.clock.key.step)
        return torch.tanh(self.linear(inputs))

    def forward(self, inputs: Tensor) -> dict[str, list[Tensor]]:
        return {"outputs": [checkpoint(self.inner, inputs, use_reentrant=self.reentrant) * 2]}


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_replays_repeat_the_draw_of_their_forward_pass(order: tuple[int, ...], reentrant: bool) -> None:
    clock = DrawClock()
    model = Noted(clock, reentrant=reentrant)
    clock.watch_(model)
    losses = []
    for step in range(3):
        clock.begin_step(step)
        losses.append(model(torch.ones(1, 2, requires_grad=True))["outputs"][0].sum())
    assert model.steps == [0, 1, 2]
    for step in order:
        losses[step].backward()
    assert model.steps[3:] == list(order)
    model(torch.ones(1, 2, requires_grad=True))
    assert model.steps[-1] == 2, "the next forward pass has the draw that is due, whatever was replayed before it"


def test_a_checkpoint_over_the_whole_model_replays_it_too() -> None:
    clock = DrawClock(numbers_passes=True)
    keys: list[DrawKey] = []

    class Model(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            keys.append(clock.key)
            return torch.tanh(super().forward(inputs))

    model = Model(2, 2)
    clock.watch_(model)
    losses = [checkpoint(model, torch.ones(1, 2), use_reentrant=False).sum() for _ in range(2)]
    for loss in losses:
        loss.backward()
    assert [key.stream for key in keys] == ["training", "training/1"] * 2


def test_hooks_come_off_and_a_copy_of_the_model_has_a_clock_of_its_own() -> None:
    clock = DrawClock()
    model = Noted(clock, reentrant=False)
    hooks = clock.watch_(model)
    clock.begin_step(1)
    other = copy.deepcopy(model)
    other.clock.begin_step(5)
    other(torch.ones(1, 2))
    model(torch.ones(1, 2))
    assert (model.steps, other.steps) == ([1], [5])
    for hook in hooks:
        hook.remove()
    assert not model._forward_hooks and not model._forward_pre_hooks
