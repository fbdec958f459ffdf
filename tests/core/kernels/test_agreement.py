from __future__ import annotations

import pytest
import torch

from supermask.core.kernels import cpu, reference
from supermask.core.kernels.agreement import disagreement


@pytest.mark.parametrize("backend", ["eager", "cpu"])
def test_backends_agree_here(backend: str) -> None:
    assert disagreement(backend, "cpu") == ""  # type: ignore[arg-type]


def test_one_other_bit_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def off_by_one(mask_logits: torch.Tensor, key: tuple[int, int]) -> torch.Tensor:
        keep_mask = reference.draw_keep_mask(mask_logits, key)
        keep_mask[-1] = ~keep_mask[-1]
        return keep_mask

    monkeypatch.setattr(cpu, "draw_keep_mask", off_by_one)
    assert disagreement("cpu", "cpu") == "the keep mask"


def test_a_zero_of_the_other_sign_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def signed(*tensors: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        masked = reference.threshold_masked_weight(*tensors, dtype=dtype)
        return torch.where(masked == 0, -0.0, masked)

    monkeypatch.setattr(cpu, "threshold_masked_weight", signed)
    assert disagreement("cpu", "cpu") == "the thresholded weight"


def test_a_wrong_gradient_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        cpu, "mask_logit_gradient", lambda *given, **named: 1.0001 * reference.mask_logit_gradient(*given, **named)
    )
    assert disagreement("cpu", "cpu") == "the mask logits' gradient"
