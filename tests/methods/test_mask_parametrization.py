import copy
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from supermask.core import DrawKey, sample_keep_mask
from supermask.core.kernels import ops
from supermask.methods import mask_parametrization as parametrization
from supermask.methods.draw_clock import DrawClock
from supermask.methods.mask_parametrization import MaskedWeight, applied_once, mask_, multiplies_transposed, unmask_


class OwnForward(nn.Linear):
    """A linear layer that does something else with its weight."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight * 2.0, self.bias) + self.weight.sum()


class OtherName(nn.Linear):
    """A linear layer in all but its class's name."""


def masked(module: nn.Module, *, seed: int = 3, gradient: Any = "through") -> MaskedWeight:
    weight = module.get_parameter("weight").requires_grad_(False)
    logits = torch.randn(weight.shape, generator=torch.Generator().manual_seed(5)) + 0.5
    mask = MaskedWeight(
        logits,
        name="weight",
        clock=DrawClock(seed=seed),
        gradient=gradient,
        multiplied=multiplies_transposed(module) is not None,
    )
    mask_(module, "weight", mask)
    return mask


def inputs_of(module: nn.Module) -> Tensor:
    if isinstance(module, nn.Embedding):
        return torch.tensor([[1, 2, 3]])
    return torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(6)).requires_grad_()


MODULES = {
    "linear": lambda: nn.Linear(4, 6),
    "no bias": lambda: nn.Linear(4, 6, bias=False),
    "subclass": lambda: OtherName(4, 6),
    "own forward": lambda: OwnForward(4, 6),
    "conv1d": lambda: Conv1D(6, 4),
    "embedding": lambda: nn.Embedding(8, 5),
}
EXACT = {"linear": False, "no bias": False, "subclass": False, "own forward": None, "conv1d": True, "embedding": None}
every_module = pytest.mark.parametrize("kind", MODULES)


def test_only_what_multiplies_and_nothing_more_counts_as_multiplying() -> None:
    for kind, make in MODULES.items():
        assert multiplies_transposed(make()) is EXACT[kind]
    patched = nn.Linear(4, 6)
    patched.forward = lambda inputs: inputs  # type: ignore[method-assign]  # as accelerate does
    assert multiplies_transposed(patched) is None


@every_module
@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize("autocast", [False, True])
def test_every_module_computes_with_the_masked_weight(kind: str, recompute: bool, autocast: bool) -> None:
    module, plain = MODULES[kind](), MODULES[kind]()
    plain.load_state_dict(module.state_dict())
    mask = masked(module)
    mask.recompute = recompute
    keep = sample_keep_mask(mask.mask_logits, DrawKey(seed=3), "weight")
    with torch.no_grad():
        plain.weight[~keep] = 0.0
    outputs = []
    for layer in (module, plain):
        inputs = inputs_of(layer)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = layer(inputs)
        output.float().square().sum().backward()
        outputs.append((output.detach(), inputs.grad))
    assert outputs[0][0].dtype == outputs[1][0].dtype
    assert torch.equal(outputs[0][0], outputs[1][0])
    assert (outputs[0][1] is None and outputs[1][1] is None) or torch.equal(outputs[0][1], outputs[1][1])
    slope = torch.sigmoid(mask.mask_logits) * torch.sigmoid(-mask.mask_logits)
    base = module.parametrizations.weight.original
    torch.testing.assert_close(mask.mask_logits.grad, plain.weight.grad * base * slope.detach(), rtol=1e-5, atol=1e-7)
    assert mask.mask_logits.grad.dtype == torch.float32


@every_module
def test_outside_training_the_thresholded_mask_is_in_force(kind: str) -> None:
    module = MODULES[kind]()
    mask = masked(module).eval()
    module.eval()
    base = module.parametrizations.weight.original
    assert torch.equal(module.weight, torch.where(mask.mask_logits > 0, base, 0.0))
    module(inputs_of(module)).sum().backward()
    assert mask.mask_logits.grad is not None


@every_module
def test_the_masked_weight_is_in_the_dtype_that_its_user_takes_it_in(kind: str) -> None:
    module = MODULES[kind]()
    masked(module)
    with torch.autocast("cpu", torch.bfloat16):
        expected = torch.float32 if EXACT[kind] is None else torch.bfloat16
        assert module.weight.dtype == expected
        assert module.parametrizations.weight.original.dtype == torch.float32
    assert module.weight.dtype == torch.float32


def test_a_half_precision_base_stays_so_and_its_logits_do_not() -> None:
    for convert in (nn.Module.half, nn.Module.bfloat16, nn.Module.double):
        module = nn.Linear(4, 6)
        mask = masked(module)
        mask.mask_logits.grad = torch.ones(6, 4)
        before = mask.mask_logits.detach().clone()
        convert(module)
        assert module.weight.dtype == module.bias.dtype != torch.float32
        assert mask.mask_logits.dtype == mask.mask_logits.grad.dtype == torch.float32
        assert torch.equal(mask.mask_logits, before)
        module(torch.ones(1, 4, dtype=module.bias.dtype)).sum().backward()
        assert mask.mask_logits.grad.dtype == torch.float32


@pytest.fixture
def applications(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The dtype of every masked weight that is made."""
    made: list[torch.dtype] = []
    apply = parametrization.masked_by_logits

    def noted(*tensors: Any, dtype: torch.dtype, **options: Any) -> Tensor:
        made.append(dtype)
        return apply(*tensors, dtype=dtype, **options)

    monkeypatch.setattr(parametrization, "masked_by_logits", noted)
    return made


@torch.no_grad()
def test_a_mask_is_applied_once_in_each_dtype(applications: list[torch.dtype]) -> None:
    module = nn.Linear(4, 6)
    mask = masked(module)
    module.eval()
    inputs = inputs_of(module)
    wanted = module(inputs)
    applications.clear()
    with applied_once([mask]):
        for _ in range(3):
            assert torch.equal(module(inputs), wanted)
            with torch.autocast("cpu", torch.bfloat16):
                assert module(inputs).dtype == torch.bfloat16
        assert applications == [torch.float32, torch.bfloat16]
        with applied_once([mask]):
            module(inputs)
        assert len(applications) == 3
        module(inputs)
        assert len(applications) == 3
    module(inputs)
    assert len(applications) == 4


@torch.no_grad()
def test_what_was_applied_is_freed_afterwards_and_training_draws_anew_even_so(applications: list[torch.dtype]) -> None:
    module = nn.Linear(4, 6)
    mask = masked(module)
    with applied_once([mask]):
        module(inputs_of(module))
        module(inputs_of(module))
        assert len(applications) == 2
        module.eval()
        held = weakref.ref(module.weight)
        assert held() is module.weight
    assert held() is None


def test_several_owners_share_one_mask() -> None:
    embedding, linear = nn.Embedding(6, 4), nn.Linear(4, 6, bias=False)
    linear.weight = embedding.weight
    mask = masked(embedding)
    assert not mask.multiplied
    mask_(linear, "weight", mask)
    hidden = embedding(torch.arange(6))
    logits = linear(hidden)
    keep = sample_keep_mask(mask.mask_logits, DrawKey(seed=3), "weight")
    weight = torch.where(keep, embedding.parametrizations.weight.original, 0.0).requires_grad_()
    assert torch.equal(logits, weight @ weight.t())
    logits.square().sum().backward()
    (weight @ weight.t()).square().sum().backward()
    slope = torch.sigmoid(mask.mask_logits) * torch.sigmoid(-mask.mask_logits)
    torch.testing.assert_close(mask.mask_logits.grad, weight.grad * embedding.parametrizations.weight.original * slope)


def test_a_copy_of_a_module_computes_with_its_own_logits() -> None:
    module = nn.Linear(4, 6)
    masked(module)
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.parametrizations.weight[0].mask_logits.fill_(-20.0)
    inputs = inputs_of(module)
    assert torch.equal(other(inputs), other.bias.expand(2, 3, 6))
    assert not torch.equal(module(inputs), other(inputs))


def test_a_parametrization_on_top_of_the_mask_is_heeded() -> None:
    class Doubled(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    module = nn.Linear(4, 6, bias=False)
    masked(module)
    inputs = inputs_of(module)
    once = module(inputs)
    nn.utils.parametrize.register_parametrization(module, "weight", Doubled())
    assert torch.equal(module(inputs), 2 * once)


@every_module
def test_unmasking_leaves_no_trace(kind: str) -> None:
    module = MODULES[kind]()
    before = (type(module), list(module._parameters), {name: id(p) for name, p in module.named_parameters()})
    mask = masked(module)
    unmask_(module, "weight", before[1])
    assert (type(module), list(module._parameters), {n: id(p) for n, p in module.named_parameters()}) == before
    assert type(module).forward is type(MODULES[kind]()).forward
    assert mask.mask_logits.requires_grad
    assert ops.compute_dtype(module.weight) == torch.float32
