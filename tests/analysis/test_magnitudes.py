import numpy as np
import pytest
import torch

from supermask.analysis import MAGNITUDE_BINS, compare_with_magnitude_pruning, magnitudes
from supermask.errors import ConfigurationError


def matrices(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "a": 0.05 * torch.randn(40, 30, generator=generator),
        "b": 0.2 * torch.randn(25, 8, generator=generator),
        "c": torch.full((7, 3), -0.01),  # all tied
    }


def test_summary_is_numpys() -> None:
    tensors = matrices()
    flat = np.abs(np.concatenate([tensor.numpy().ravel() for tensor in tensors.values()]))
    found = magnitudes(tensors.values())
    assert found.weights == flat.size
    assert found.max == flat.max()
    assert found.mean == pytest.approx(flat.astype(np.float64).mean(), rel=1e-12)
    edges = np.array([0.0, *MAGNITUDE_BINS, np.inf])
    assert list(found.histogram) == np.histogram(flat.astype(np.float64), bins=edges)[0].tolist()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_bin_holds_from_its_edge_to_the_next(dtype: torch.dtype) -> None:
    edges = torch.tensor(MAGNITUDE_BINS, dtype=torch.float64)
    exact = edges.to(dtype).double() == edges  # float16 has no numbers as small as the first edges
    for place in exact.nonzero().reshape(-1).tolist():
        values = torch.tensor([MAGNITUDE_BINS[place]], dtype=dtype)
        assert magnitudes([-values]).histogram[place + 1] == 1
    assert magnitudes([torch.tensor([0.0, -0.0, 1e30])]).histogram[0] == 2
    assert magnitudes([torch.tensor([0.0, -0.0, 1e30])]).histogram[-1] == 1
    assert len(MAGNITUDE_BINS) == 97 and MAGNITUDE_BINS[-1] == 16.0


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_nothing_has_no_magnitude_and_what_is_not_finite_is_refused(wrong: float) -> None:
    found = magnitudes([torch.empty(0)])
    assert (found.weights, found.max, found.mean, sum(found.histogram)) == (0, 0.0, 0.0, 0)
    with pytest.raises(ConfigurationError, match="not finite"):
        magnitudes([torch.tensor([1.0, wrong])])


@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("density", [0.0, 0.05, 0.6])
def test_one_shot_pruning_is_sorting(scope: str, density: float) -> None:
    weights = matrices()
    generator = torch.Generator().manual_seed(3)
    keeps = {name: torch.rand(weight.shape, generator=generator) >= density for name, weight in weights.items()}
    found = compare_with_magnitude_pruning(weights, keeps, scope=scope)  # type: ignore[arg-type]
    groups = [list(weights)] if scope == "global" else [[name] for name in weights]
    shared, pruned = 0, []
    for group in groups:
        size = np.abs(np.concatenate([weights[name].numpy().ravel() for name in group]))
        dropped = ~np.concatenate([keeps[name].numpy().ravel() for name in group])
        smallest = np.argsort(size, kind="stable")[: dropped.sum()]  # ties by index
        shared += dropped[smallest].sum()
        pruned.append(size[smallest])
    sizes = np.concatenate(pruned).astype(np.float64)
    assert found.shared == shared
    assert found.pruned.weights == sizes.size == sum(int((~keep).sum()) for keep in keeps.values())
    assert found.overlap == (shared / sizes.size if sizes.size else None)
    if sizes.size:
        assert found.pruned.max == sizes.max()
        assert found.pruned.mean == pytest.approx(sizes.mean())


def test_the_mask_of_magnitude_pruning_overlaps_itself() -> None:
    from supermask.core import global_magnitude_keep_masks

    weights = matrices()
    keeps = global_magnitude_keep_masks(weights, sparsity=0.1)
    assert compare_with_magnitude_pruning(weights, keeps).overlap == 1.0


def test_masks_that_do_not_fit_are_refused() -> None:
    weights = matrices()
    keeps = {name: torch.ones(weight.shape, dtype=torch.bool) for name, weight in weights.items()}
    with pytest.raises(ConfigurationError, match="without: c"):
        compare_with_magnitude_pruning(weights, {name: keep for name, keep in keeps.items() if name != "c"})
    with pytest.raises(ConfigurationError, match="a: the weight has shape"):
        compare_with_magnitude_pruning(weights, {**keeps, "a": keeps["a"].t()})
