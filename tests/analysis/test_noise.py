import math

import pytest
import torch

from supermask.analysis import (
    count_overlap,
    learnt_sparsity,
    noise_floor,
    noise_overlap,
    sampled_magnitude_overlap,
    sampled_overlap,
    sampled_sparsity,
)
from supermask.core import DrawKey, magnitude_keep_mask, sample_keep_mask
from supermask.errors import ConfigurationError

N = 400_000


def drawn(logits: torch.Tensor, step: int, name: str = "weight") -> torch.Tensor:
    return sample_keep_mask(logits, DrawKey(step=step, stream="evaluation"), name)


def overlap_with_the_smallest(weight: torch.Tensor, keep: torch.Tensor) -> float:
    """The fraction of the zeros that magnitude pruning of the same sparsity has, too."""
    smallest = magnitude_keep_mask(weight, sparsity=share(keep))
    return float((~keep & ~smallest).sum() / (~keep).sum())


def share(keep_mask: torch.Tensor) -> float:
    return 1.0 - float(keep_mask.float().mean())


def test_the_floor_is_what_untouched_masks_show() -> None:
    found = share(drawn(torch.full((N,), 5.0), 0))
    assert found == pytest.approx(noise_floor(), abs=4 * math.sqrt(0.0067 / N) + 1 / 65536)
    assert noise_floor(3.0) == pytest.approx(1 - float(torch.sigmoid(torch.tensor(3.0, dtype=torch.float64))))


@pytest.mark.parametrize(("zeros", "certain"), [(0.0, True), (0.03, True), (0.4, False), (0.9, False)])
def test_sparsity_of_a_draw(zeros: float, certain: bool) -> None:
    logits = torch.full((N,), 5.0)
    logits[: int(zeros * N)] = -20.0 if certain else -5.0
    wanted = sampled_sparsity(zeros, certain=certain)
    assert share(drawn(logits, 1)) == pytest.approx(wanted, abs=5 * math.sqrt(0.01 / N) + 2 / 65536)


def test_what_was_learnt_comes_back_from_a_draw() -> None:
    for zeros in (0.0, 0.003, 0.2, 1.0):
        assert learnt_sparsity(sampled_sparsity(zeros)) == pytest.approx(zeros)
    assert learnt_sparsity(0.001) == 0.0  # below the floor


def test_overlap_with_magnitude_pruning_of_masks_whose_small_weights_never_moved() -> None:
    """The paper's Table 4 has 0.7 % at 2.9, 2.2, 1.3 and 1.0 % zeros: the floor, whatever the sparsity."""
    weight = torch.randn(N, generator=torch.Generator().manual_seed(0))
    order = weight.abs().argsort()
    for wanted in (0.029, 0.013):
        logits = torch.full((N,), 5.0)
        logits[order[-int(learnt_sparsity(wanted) * N) :]] = -20.0  # learnt at the largest
        keep = drawn(logits, 2)
        expected = noise_overlap(wanted, smallest_moved=False)
        assert expected == noise_floor()
        assert overlap_with_the_smallest(weight, keep) == pytest.approx(
            expected, abs=4 * math.sqrt(expected / (wanted * N))
        )


def test_overlap_with_magnitude_pruning_of_zeros_anywhere_is_the_sparsity() -> None:
    weight = torch.randn(N, generator=torch.Generator().manual_seed(1))
    keep = drawn(torch.full((N,), 3.0), 3)
    found = overlap_with_the_smallest(weight, keep)
    assert found == pytest.approx(noise_overlap(share(keep), smallest_moved=True), abs=4 * math.sqrt(0.05 / 19_000))


@pytest.mark.parametrize("among_smallest", [0, 1500, 6000])
def test_overlap_with_magnitude_pruning_of_a_learnt_mask_on_draws(among_smallest: int) -> None:
    weight = torch.randn(N, generator=torch.Generator().manual_seed(3))
    order = weight.abs().argsort()
    zeros = torch.cat([order[:among_smallest], order[-(9000 - among_smallest) :]])
    logits = torch.full((N,), 5.0)
    logits[zeros] = -20.0
    half = N // 2  # two tensors, ranked together
    weights = {"a": weight[:half], "b": weight[half:]}
    wanted = sampled_magnitude_overlap(weights, {"a": logits[:half] > 0, "b": logits[half:] > 0})
    keep = drawn(logits, 6)
    found = overlap_with_the_smallest(weight, keep)
    assert found == pytest.approx(wanted, abs=5 * math.sqrt(noise_floor() / (~keep).sum()) + 1e-3)


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan")])
def test_what_is_no_fraction_and_what_does_not_fit_is_refused(wrong: float) -> None:
    for function in (sampled_sparsity, learnt_sparsity, lambda value: noise_overlap(value, smallest_moved=True)):
        with pytest.raises(ConfigurationError, match="fraction"):
            function(wrong)
    for weights, masks in (({}, {}), ({"a": torch.ones(2)}, {"b": torch.ones(2, dtype=torch.bool)})):
        with pytest.raises(ConfigurationError, match="same names"):
            sampled_magnitude_overlap(weights, masks)


def test_what_draws_of_two_masks_share() -> None:
    generator = torch.Generator().manual_seed(2)
    learnt = [torch.rand(N, generator=generator) < density for density in (0.05, 0.02)]
    learnt[1][:4000] |= learnt[0][:4000]
    keeps = []
    for which, zeros in enumerate(learnt):
        logits = torch.full((N,), 5.0)
        logits[zeros] = -20.0
        keeps.append(drawn(logits, 4 + which))
    seen = count_overlap(*keeps)
    wanted = sampled_overlap(count_overlap(~learnt[0], ~learnt[1]))
    for name in ("first_zeros", "second_zeros", "shared"):
        expected = getattr(wanted, name)
        assert getattr(seen, name) == pytest.approx(expected, abs=5 * math.sqrt(expected)), name
