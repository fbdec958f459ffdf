from __future__ import annotations

import pytest
import torch

from supermask.core import magnitude
from supermask.errors import ConfigurationError
from supermask.methods.supermask import initial_mask_logits


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
    """Ranking BERT's 85 million weights takes seconds."""
    monkeypatch.setattr(torch.Tensor, "kthvalue", lambda *_: pytest.fail("ranked"))
    monkeypatch.setattr(torch.Tensor, "abs", lambda *_: pytest.fail("took magnitudes"))
    assert torch.equal(
        initial_mask_logits(torch.randn(4, 4), initial_sparsity=0.0, init_logit=5.0), torch.full((4, 4), 5.0)
    )


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_a_weight_that_is_not_a_number_is_refused(sparsity: float) -> None:
    weight = torch.ones(3, 3)
    weight[1, 1] = float("nan")
    with pytest.raises(ConfigurationError, match="not a number"):
        initial_mask_logits(weight, initial_sparsity=sparsity, init_logit=5.0)


def test_infinities_of_both_signs_are_numbers() -> None:
    weight = torch.tensor([float("inf"), float("-inf"), 1.0])
    assert torch.equal(initial_mask_logits(weight, initial_sparsity=0.0, init_logit=5.0), torch.full((3,), 5.0))


def test_sparsities_are_fractions() -> None:
    assert magnitude.zeros_at(0.0, 9) == 0
    with pytest.raises(ConfigurationError, match="fraction of zeros"):
        initial_mask_logits(torch.ones(3), initial_sparsity=-0.1, init_logit=5.0)
