from typing import Any

import pytest
import torch

from supermask.core.kernels import cpu, reference
from supermask.core.kernels.agreement import disagreement


@pytest.mark.parametrize("backend", ["eager", "cpu"])
def test_backends_agree_here(backend: str) -> None:
    assert disagreement(backend, "cpu") == ""  # type: ignore[arg-type]


def one_other_bit(keep_mask: torch.Tensor) -> torch.Tensor:
    keep_mask[-1] = ~keep_mask[-1]
    return keep_mask


@pytest.mark.parametrize(
    ("operation", "change", "name"),
    [
        ("draw_keep_mask", one_other_bit, "the keep mask"),
        ("threshold_masked_weight", lambda masked: torch.where(masked == 0, -0.0, masked), "the thresholded weight"),
        ("mask_logit_gradient", lambda gradient: 1.0001 * gradient, "the mask logits' gradient"),
    ],
)
def test_a_difference_is_seen(operation: str, change: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(reference, operation)
    monkeypatch.setattr(cpu, operation, lambda *given, **named: change(right(*given, **named)))
    assert disagreement("cpu", "cpu") == name
