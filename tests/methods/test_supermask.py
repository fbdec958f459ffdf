import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supermask.core import sparsity
from supermask.errors import ConfigurationError
from supermask.methods import Supermask, make_optimizer
from supermask.methods.supermask import SupermaskAttachment, initial_mask_logits
from tiny_models import NO_DROPOUT, checkpoint_, tiny_batch, tiny_model


def storages(tensors: Any) -> dict[int, int]:
    """Bytes by address, each piece of memory once."""
    return {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}


def attached(architecture: str = "bert", *, dropout: bool = True, **settings: Any) -> SupermaskAttachment:
    model = tiny_model(architecture, **({} if dropout else NO_DROPOUT))
    return Supermask(**{"init_logit": 1.0, **settings}).attach_(model.train(), seed=5)


def loss_of(attachment: SupermaskAttachment, *, seed: int = 0) -> Tensor:
    loss: Tensor = attachment.model(**tiny_batch(attachment.model, seed=seed)).loss
    return loss


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_the_base_is_never_copied(architecture: str) -> None:
    model = tiny_model(architecture)
    before = storages(model.parameters())
    attachment = Supermask().attach_(model)
    loss_of(attachment).backward()
    logits = storages(mask.mask_logits for mask in attachment.masks.values())
    assert storages(model.parameters()) == before | logits
    weights = sum(mask.mask_logits.numel() for mask in attachment.masks.values())
    assert sum(logits.values()) == 4 * weights
    copies = {"_pretrained": sum(tensor.numel() for tensor in vars(attachment)["_pretrained"].values())}
    assert copies == {"_pretrained": sum(model.get_parameter(name).numel() for name in attachment.parameters.head)}


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_nothing_of_the_size_of_a_matrix_is_kept_for_the_backward_pass(
    architecture: str, precision: torch.dtype | None
) -> None:
    """Bytes for each masked weight that are neither parameters nor what is kept of activations anyway."""
    kept = []
    for recompute in (True, False):
        attachment = attached(architecture)
        attachment.recompute = recompute
        assert attachment.recompute is recompute
        model = attachment.model
        known = storages((*model.parameters(), *model.buffers()))
        shapes = {tuple(mask.mask_logits.shape) for mask in attachment.masks.values()}
        found: dict[int, int] = {}

        def pack(tensor: Tensor, known: Any = known, shapes: Any = shapes, found: Any = found) -> Tensor:
            storage = tensor.untyped_storage()
            if shapes & {tuple(tensor.shape), tuple(reversed(tensor.shape))} and storage.data_ptr() not in known:
                found[storage.data_ptr()] = storage.nbytes()
            return tensor

        batch = tiny_batch(model, batch_size=5, length=7)  # no activation has a matrix's shape
        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held),
            torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None),
        ):
            loss = model(**batch).loss
        kept.append(sum(found.values()) / sum(mask.mask_logits.numel() for mask in attachment.masks.values()))
        loss.backward()
    assert kept == [0.0, 4.0 if precision is None else 2.0]


def test_frozen_embeddings_have_neither_gradient_nor_optimizer_state() -> None:
    attachment = attached()
    optimizer = make_optimizer(attachment)
    loss_of(attachment).backward()
    optimizer.step()
    trained = {id(mask.mask_logits) for mask in attachment.masks.values()}
    trained |= {id(attachment.model.get_parameter(name)) for name in attachment.parameters.head}
    with_gradient = {id(p) for p in attachment.model.parameters() if p.grad is not None}
    assert with_gradient == trained == {id(parameter) for parameter in optimizer.state}
    embeddings = [m.weight for m in attachment.model.modules() if isinstance(m, nn.Embedding)]
    assert len(embeddings) == 3 and not any(weight.requires_grad for weight in embeddings)


def test_sampled_evaluations_hold_the_weights_of_one_mask_at_a_time() -> None:
    attachment = attached()
    module = attachment.model.bert.encoder.layer[0].attention.self.query  # type: ignore[union-attr]
    before: list[weakref.ref[Tensor]] = []
    for draw in range(10):
        with attachment.evaluating(draw):
            loss_of(attachment)
            assert not any(weight() is not None for weight in before)
            weight = module.weight
            assert weight is module.weight, "applied once, not for every batch"
            before.append(weakref.ref(weight))
            del weight
    assert not any(weight() is not None for weight in before)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("recompute", [True, False])
def test_checkpointed_passes_of_two_steps_repeat_their_own_draws(recompute: bool, reentrant: bool) -> None:
    """Two forward passes, of two steps, before one backward pass: the later draw is the wrong one for the first."""
    gradients = []
    for checkpointed in (False, True):
        attachment = attached(dropout=False, init_logit=0.1, gradient="stop")
        attachment.recompute = recompute
        model: Any = attachment.model
        if checkpointed:
            checkpoint_(model, reentrant=reentrant)
            model.enable_input_require_grads()
        losses = []
        for step in (0, 1):
            attachment.begin_step(step)
            losses.append(loss_of(attachment, seed=step))
        assert float(losses[0].detach()) != float(losses[1].detach())
        (losses[0] + losses[1]).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert gradient is not None and gradient.abs().sum() > 0, name
        assert torch.equal(gradient, gradients[1][name]), name


def test_ranks_agree_until_they_are_told_apart() -> None:
    attachment = attached(dropout=False, init_logit=0.1)
    losses = []
    for rank in (0, 0, 1, 2):
        attachment.rank = rank
        attachment.begin_step(3)
        losses.append(float(loss_of(attachment).detach()))
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3
    with attachment.evaluating(0):
        of_two = float(loss_of(attachment))
    attachment.rank = 0
    with attachment.evaluating(0):
        assert float(loss_of(attachment)) == of_two, "evaluation is the same everywhere"


def test_evaluations_within_one_another_come_back_to_the_outer_one() -> None:
    attachment = attached()
    with attachment.evaluating(1):
        outer = float(loss_of(attachment))
        with attachment.evaluating():
            assert float(loss_of(attachment)) != outer
        assert float(loss_of(attachment)) == outer


def test_statistics_are_those_of_the_masks() -> None:
    attachment = attached()
    for index, mask in enumerate(attachment.masks.values()):
        with torch.no_grad():
            mask.mask_logits.copy_(
                3 * torch.randn(mask.mask_logits.shape, generator=torch.Generator().manual_seed(index))
            )
    masks, draws = attachment.keep_masks(), [attachment.keep_masks(draw) for draw in range(20)]

    def zeros(keep_masks: dict[str, Tensor]) -> float:
        return sparsity(torch.cat([mask.reshape(-1) for mask in keep_masks.values()]))

    logits = torch.cat([mask.mask_logits.detach().reshape(-1) for mask in attachment.masks.values()]).double()
    assert attachment.statistics() == {
        "sparsity": zeros(masks),
        "sampled_sparsity": pytest.approx(float(torch.sigmoid(-logits).mean()), rel=1e-6),
    }
    mean = sum(zeros(draw) for draw in draws) / len(draws)
    assert attachment.statistics()["sampled_sparsity"] == pytest.approx(mean, abs=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 1.0])
def test_the_smallest_start_dropped(sparsity: float, dtype: torch.dtype) -> None:
    weight = torch.randn(20, 10, generator=torch.Generator().manual_seed(0)).to(dtype)
    logits = initial_mask_logits(weight, initial_sparsity=sparsity, init_logit=2.5)
    order = weight.abs().reshape(-1).argsort(stable=True)
    wanted = torch.full((200,), 2.5)
    wanted[order[: round(200 * sparsity)]] = -2.5
    assert logits.dtype == torch.float32
    assert torch.equal(logits.reshape(-1), wanted)


def test_nothing_is_ranked_where_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranking BERT's 85 million weights takes seconds; and infinities of both signs are numbers."""
    infinite = torch.tensor([float("inf"), float("-inf"), 1.0])
    assert torch.equal(initial_mask_logits(infinite, initial_sparsity=0.0, init_logit=5.0), torch.full((3,), 5.0))
    monkeypatch.setattr(torch.Tensor, "kthvalue", lambda *_: pytest.fail("ranked"))
    monkeypatch.setattr(torch.Tensor, "abs", lambda *_: pytest.fail("took magnitudes"))
    found = initial_mask_logits(torch.randn(4, 4), initial_sparsity=0.0, init_logit=5.0)
    assert torch.equal(found, torch.full((4, 4), 5.0))


@pytest.mark.parametrize(
    ("sparsity", "value", "message"),
    [(0.0, float("nan"), "not a number"), (0.5, float("nan"), "not a number"), (-0.1, 1.0, "fraction of zeros")],
)
def test_what_has_no_ranking_is_refused(sparsity: float, value: float, message: str) -> None:
    weight = torch.ones(3, 3)
    weight[1, 1] = value
    with pytest.raises(ConfigurationError, match=message):
        initial_mask_logits(weight, initial_sparsity=sparsity, init_logit=5.0)
