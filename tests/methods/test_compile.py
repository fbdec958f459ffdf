"""`torch.compile` of a whole forward and backward pass: one graph, compiled once, with the same numbers."""

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supermask.core import DrawKey
from supermask.methods import Supermask
from tiny_models import checkpoint_, tiny_batch, tiny_model

pytestmark = [
    # The compiler makes an object that torch would rather it did not, and looks for gradients where none can be.
    pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning"),
]
STEPS = 5
CLOSE = {"rtol": 1e-5, "atol": 1e-7}


def still(architecture: str) -> Any:
    """A model of one block in which masks alone are random."""
    model = tiny_model(architecture, **{"n_layer" if architecture == "gpt2" else "num_hidden_layers": 1})
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def gradients_by_step(
    architecture: str, *, backend: str | None, precision: torch.dtype | None = None, recompute: bool = True
) -> list[dict[str, Tensor]]:
    """Gradients of a few steps, each with a draw of its own."""
    torch._dynamo.reset()
    model = still(architecture).train()
    attachment = Supermask(init_logit=1.0).attach_(model, seed=3)
    attachment.recompute = recompute
    run = torch.compile(model, fullgraph=True, backend=backend) if backend else model
    batch, found = tiny_batch(model), []
    for step in range(STEPS):
        attachment.begin_step(step)
        no_more = backend and step and hasattr(torch.compiler, "set_stance")  # torch 2.6 on
        with (
            torch.compiler.set_stance("fail_on_recompile") if no_more else contextlib.nullcontext(),
            torch.autocast("cpu", precision) if precision else contextlib.nullcontext(),
        ):
            loss = run(**batch).loss
        loss.backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        model.zero_grad()
    attachment.detach_()
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor uses what torch will drop
@pytest.mark.parametrize(
    ("architecture", "settings", "tolerances"),
    [
        ("bert", {"backend": "aot_eager"}, CLOSE),
        pytest.param("bert", {"backend": "aot_eager", "precision": torch.bfloat16}, CLOSE, marks=pytest.mark.slow),
        pytest.param("bert", {"backend": "aot_eager", "recompute": False}, CLOSE, marks=pytest.mark.slow),
        pytest.param("bert", {"backend": "inductor"}, {"rtol": 1e-4, "atol": 1e-6}, marks=pytest.mark.slow),
        pytest.param("gpt2", {"backend": "inductor"}, {"rtol": 1e-4, "atol": 1e-6}, marks=pytest.mark.slow),
    ],
)
def test_one_graph_serves_all_steps(architecture: str, settings: dict[str, Any], tolerances: dict[str, float]) -> None:
    ours = gradients_by_step(architecture, **settings)
    theirs = gradients_by_step(architecture, backend=None, precision=settings.get("precision"))
    for first, second in zip(ours, theirs, strict=True):
        assert first.keys() == second.keys()
        for name in first:
            torch.testing.assert_close(first[name], second[name], **tolerances, msg=lambda text, name=name: name + text)
    assert not any(torch.equal(ours[0][name], ours[1][name]) for name in ours[0]), "every step has a draw of its own"


@torch.no_grad()
def test_a_compiled_model_is_evaluated_with_every_mask() -> None:
    torch._dynamo.reset()
    model = still("bert")
    attachment = Supermask(init_logit=1.0).attach_(model, seed=3)
    for index, mask in enumerate(attachment.masks.values()):
        mask.mask_logits.copy_(torch.randn(mask.mask_logits.shape, generator=torch.Generator().manual_seed(index)))
    run = torch.compile(model, fullgraph=True, backend="aot_eager")
    batch = tiny_batch(model)
    found = []
    for draw in (None, 0, 1, None):
        with attachment.evaluating(draw):
            found.append(run(**batch).logits)
            torch.testing.assert_close(found[-1], model(**batch).logits)
    assert torch.equal(found[0], found[3])
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[1], found[2])
    attachment.detach_()


def test_a_compiled_block_is_replayed_with_its_own_draw() -> None:
    """Blocks compiled one by one within a model that is not, under gradient checkpointing."""
    gradients = []
    for compiled in (False, True):
        torch._dynamo.reset()
        model = still("bert").train()
        attachment = Supermask(init_logit=0.1, gradient="stop").attach_(model, seed=3)
        checkpoint_(model)
        if compiled:
            for layer in model.bert.encoder.layer:
                layer.intermediate.compile(backend="aot_eager", fullgraph=True)
        losses = []
        for step in range(2):
            attachment.begin_step(step)
            losses.append(model(**tiny_batch(model)).loss)
        for loss in losses:
            loss.backward()
        gradients.append([mask.mask_logits.grad for mask in attachment.masks.values()])
        attachment.detach_()
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_keys_of_graphs_say_what_keys_say() -> None:
    attachment = Supermask().attach_(still("bert"), seed=11)
    attachment.rank = 2
    attachment.begin_step(4, micro_batch=1)
    mask = next(iter(attachment.masks.values()))

    def key() -> Any:
        return mask.clock.mask_key("w", training=True).draw

    draw = torch.compile(key, fullgraph=True, backend="eager")()
    assert draw[:3].tolist() == [4, 1, 2]
    assert attachment._clock.key == DrawKey(seed=11, step=4, micro_batch=1, rank=2)
