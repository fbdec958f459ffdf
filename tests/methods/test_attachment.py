from typing import Any

import pytest
import torch

from supermask.deltas import DenseValues
from supermask.errors import ConfigurationError, DeltaStateError
from supermask.methods import Freezing, Pruning, Supermask
from tiny_models import tiny_batch, tiny_model


def test_one_method_at_a_time_on_a_model_without_a_delta() -> None:
    model = tiny_model("bert")
    attachment = Freezing.head_only().attach_(model)
    delta = attachment.extract()
    with pytest.raises(DeltaStateError, match="attached to this model already"):
        Supermask().attach_(model)
    attachment.detach_()
    with pytest.raises(DeltaStateError, match="not attached any more"):
        attachment.detach_()
    with delta.applied(model), pytest.raises(DeltaStateError, match="remove the delta first"):
        Supermask().attach_(model)
    Supermask().attach_(model).detach_()


def test_a_failed_attempt_leaves_the_model_as_it_was() -> None:
    model = tiny_model("bert")
    weight = model.get_parameter("bert.encoder.layer.1.output.dense.weight")
    value = weight[0, 0].item()
    with torch.no_grad():
        weight[0, 0] = float("nan")
    with pytest.raises(ConfigurationError, match="not a number"):
        Supermask(initial_sparsity=0.3).attach_(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        weight[0, 0] = value
    Supermask(initial_sparsity=0.3).attach_(model).detach_()


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_rounded_values_are_what_sixteen_bits_hold_and_what_did_not_move_is_left_out(kind: Any) -> None:
    model = tiny_model("bert")
    attachment = Freezing(exclude=["embeddings", "attention"]).attach_(model)
    moved = "bert.encoder.layer.1.output.dense.weight"
    with torch.no_grad():
        model.get_parameter(moved).add_(1e-3)
    base = attachment.base_tensors()
    exact, rounded = (dict(attachment.extract(round_values=to).changes_for(base)) for to in (None, kind))
    assert list(rounded) == list(exact) and moved in rounded
    for name, change in rounded.items():
        before = exact[name]
        assert isinstance(change, DenseValues) and isinstance(before, DenseValues)
        assert change.values.dtype is torch.float32
        assert torch.equal(change.values, before.values.to(getattr(torch, kind)).float())


def test_values_that_cannot_be_rounded_are_refused() -> None:
    model = tiny_model("bert")
    attachment = Freezing.head_only().attach_(model)
    with torch.no_grad():
        model.classifier.bias[0] = 7e4
    assert attachment.extract(round_values="bfloat16")
    for kind, message in (
        ("float16", r"classifier\.bias: 70000\.0 is beyond what torch\.float16 holds"),
        ("int8", "round to bfloat16 or float16, received 'int8'"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            attachment.extract(round_values=kind)  # type: ignore[arg-type]


def test_what_comes_too_early_or_never_is_refused() -> None:
    with pytest.raises(DeltaStateError, match="does not sample"):
        Freezing().attach_(tiny_model("bert")).evaluating(draw=0).__enter__()
    with pytest.raises(DeltaStateError, match="begin_training"):
        Pruning().attach_(tiny_model("bert")).begin_step(0)


def test_a_tied_weight_is_masked_wherever_it_is_used() -> None:
    model = tiny_model("t5")
    attachment = Supermask(select="word_embedding").attach_(model)
    (mask,) = attachment.masks.values()  # type: ignore[attr-defined]
    with torch.no_grad():
        mask.mask_logits.fill_(-5.0)
    with attachment.evaluating():
        embeddings = [model.transformer.encoder.embed_tokens.weight, model.transformer.decoder.embed_tokens.weight]
        assert all(not embedding.any() for embedding in embeddings)
        logits = model(**tiny_batch(model)).logits
    delta = attachment.extract()
    attachment.detach_()
    with delta.applied(model), torch.no_grad():
        assert torch.equal(model.eval()(**tiny_batch(model)).logits, logits)


def test_mask_logits_have_their_own_rate_eps_and_no_decay() -> None:
    attachment = Supermask(learning_rate=0.3, eps=1e-9, train=["norm", "bias"]).attach_(tiny_model("bert"))
    groups = {
        group["name"]: group
        for group in attachment.param_groups(learning_rate=1e-5, head_learning_rate=1e-3, weight_decay=0.1)
    }
    assert (groups["mask_logits"]["lr"], groups["mask_logits"]["eps"]) == (0.3, 1e-9)
    assert groups["mask_logits"]["weight_decay"] == groups["weights_no_decay"]["weight_decay"] == 0.0
    assert "weights" not in groups  # norms and biases alone train by value, and are not decayed
    assert all(parameter.dtype == torch.float32 for parameter in groups["mask_logits"]["params"])
