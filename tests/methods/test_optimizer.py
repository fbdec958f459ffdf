from typing import Any

import pytest
import torch
from torch import nn

from supermask.errors import ConfigurationError
from supermask.methods import Attachment, Freezing, Method, Pruning, Supermask, make_optimizer
from supermask.methods.optimizer import MethodOptimizer
from tiny_models import NO_DROPOUT, tiny_batch, tiny_model
from tiny_tasks import take_steps

MASK = Supermask(learning_rate=0.5, train=["norm", "bias"])


def attached(method: Method = MASK) -> Attachment:
    attachment = method.attach_(tiny_model("bert", **NO_DROPOUT))
    attachment.begin_training(total_steps=6)
    attachment.model.train()
    return attachment


def backward(attachment: Attachment, step: int) -> torch.Tensor:
    attachment.begin_step(step)
    loss: torch.Tensor = attachment.model(**tiny_batch(attachment.model)).loss
    loss.backward()
    return loss


def trained(attachment: Attachment) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in attachment.model.named_parameters() if p.requires_grad}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("max_grad_norm", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize("fused", [True, False, None])
def test_it_is_adamw_with_each_kind_clipped_apart(max_grad_norm: float, fused: bool | None) -> None:
    ours, theirs = attached(), attached()
    optimizer = make_optimizer(ours, max_grad_norm=max_grad_norm, fused=fused)
    groups = theirs.param_groups(learning_rate=2e-5, head_learning_rate=1e-3, weight_decay=0.01, eps=1e-6)
    adamw = torch.optim.AdamW(groups, fused=fused is not False)
    for step in range(3):
        backward(ours, step)
        optimizer.step()
        optimizer.zero_grad()
        backward(theirs, step)
        for masks in (True, False):
            parameters = [p for g in groups if (g["name"] == "mask_logits") == masks for p in g["params"]]
            if max_grad_norm:
                nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        adamw.step()
        adamw.zero_grad()
        assert_equal(trained(ours), trained(theirs))


def test_the_norm_is_measured_once_and_is_that_of_all_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    from supermask.methods import optimizer as method_optimizer

    calls = []
    measure = method_optimizer.gradient_norm
    monkeypatch.setattr(method_optimizer, "gradient_norm", lambda found: calls.append(len(found)) or measure(found))
    attachment = attached()
    optimizer = make_optimizer(attachment, max_grad_norm=1e-3)
    backward(attachment, 0)
    everything = torch.cat([p.grad.flatten() for p in attachment.model.parameters() if p.grad is not None])
    assert optimizer.measure_gradient_norm().item() == pytest.approx(everything.norm().item(), rel=1e-5)
    optimizer.step()
    assert len(calls) == 2  # once for mask logits, once for all else
    optimizer.zero_grad()
    backward(attachment, 1)
    optimizer.step()
    assert len(calls) == 4  # what was measured before is not used again


def test_a_closure_is_called_with_gradients() -> None:
    attachment = attached()
    optimizer = make_optimizer(attachment)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        return backward(attachment, 0)

    before = trained(attachment)
    assert isinstance(optimizer.step(closure), torch.Tensor)
    assert any(not torch.equal(before[name], tensor) for name, tensor in trained(attachment).items())


def test_the_constraint_is_restored_after_each_step() -> None:
    attachment = attached(Pruning(sparsity=0.5, period=1, end=0.5))
    take_steps(attachment, make_optimizer(attachment, learning_rate=1e-2), range(4))
    for name, keep_mask in attachment.keep_masks().items():  # type: ignore[attr-defined]
        weight = attachment.model.get_parameter(name)
        assert not weight[~keep_mask].any()
        assert (~keep_mask).sum() == round(0.5 * keep_mask.numel())


def test_a_schedule_scales_every_group() -> None:
    attachment = attached()
    optimizer = make_optimizer(attachment)
    rates = [group["lr"] for group in optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.25)
    take_steps(attachment, optimizer, range(1))
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.25 * rate for rate in rates]


@pytest.mark.parametrize("mask_state", ["float32", "8bit"])
def test_a_saved_state_goes_on_bit_for_bit(mask_state: Any, tmp_path: Any) -> None:
    whole = attached()
    take_steps(whole, make_optimizer(whole, mask_state=mask_state), range(6))

    first = attached()
    optimizer = make_optimizer(first, mask_state=mask_state)
    take_steps(first, optimizer, range(3))
    torch.save((first.model.state_dict(), optimizer.state_dict()), tmp_path / "state.pt")
    second = attached()
    optimizer = make_optimizer(second, mask_state=mask_state)
    weights, state = torch.load(tmp_path / "state.pt", weights_only=True)
    second.model.load_state_dict(weights)
    optimizer.load_state_dict(state)
    take_steps(second, optimizer, range(3, 6))
    assert_equal(trained(whole), trained(second))


def test_8_bits_are_kept_for_mask_logits_alone() -> None:
    attachment = attached()
    optimizer = make_optimizer(attachment, mask_state="8bit")
    take_steps(attachment, optimizer, range(2))
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            held = sum(value.nbytes for name, value in state.items() if name != "step")
            if group["name"] == "mask_logits":
                assert state["first"].dtype == state["second"].dtype == torch.uint8
                assert held / parameter.numel() == pytest.approx(2 + 8 / 256)
            else:
                assert held == 8 * parameter.numel()


def test_8_bits_learn_nearly_the_same_and_no_state_goes_on_in_another_form() -> None:
    exact, coarse = attached(), attached()
    optimizer = make_optimizer(coarse, mask_state="8bit")
    take_steps(exact, make_optimizer(exact), range(6))
    take_steps(coarse, optimizer, range(6))
    for name, logits in trained(exact).items():
        if name.endswith("mask_logits"):
            moved, ours = logits - 5.0, trained(coarse)[name] - 5.0
            assert torch.corrcoef(torch.stack([moved.flatten(), ours.flatten()]))[0, 1] > 0.97
    with pytest.raises(ConfigurationError, match=r"mask_logits in 8 bits, this optimizer in 32; .* same mask_state"):
        make_optimizer(exact).load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize(
    ("method", "mask_state", "message"),
    [
        (MASK, "4bit", "mask_state is one of float32, 8bit; received '4bit'"),
        (Freezing(), "8bit", "freezing has none; leave it at 'float32'"),
    ],
)
def test_settings_without_sense_are_refused(method: Method, mask_state: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_optimizer(attached(method), mask_state=mask_state)


@pytest.mark.parametrize("mask_state", ["float32", "8bit"])
def test_a_gradient_scaler_hands_over_unscaled_gradients_and_skips_overflows(mask_state: Any) -> None:
    plain, scaled = attached(), attached()
    optimizer: MethodOptimizer = make_optimizer(plain, max_grad_norm=0.1, mask_state=mask_state)
    take_steps(plain, optimizer, range(2))

    # A power of two, so that scaling rounds nothing.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    optimizer = make_optimizer(scaled, max_grad_norm=0.1, mask_state=mask_state)
    for step in (0, 0, 1):
        scaled.begin_step(step)
        loss = scaler.scale(scaled.model(**tiny_batch(scaled.model)).loss)
        loss.backward()
        if optimizer.state and scaler.get_scale() == 2.0**10:
            # Between the two good steps one that overflows, and is not taken.
            scaled.model.get_parameter("classifier.bias").grad.fill_(torch.inf)
        before = trained(scaled)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if scaler.get_scale() < 2.0**10 and step == 0:
            assert_equal(before, trained(scaled))
    assert scaler.get_scale() == 2.0**9
    assert_equal(trained(plain), trained(scaled))
