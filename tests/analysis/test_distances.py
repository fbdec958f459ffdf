import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supermask.analysis import (
    change_distance,
    delta_distances,
    distances,
    iterate_distances,
    summarise_distances,
    tensor_distance,
)
from supermask.deltas import ChangePlace, DenseValues, KeepMask, SparseValues, TaskDelta, base_fingerprint
from supermask.errors import BaseMismatchError, ConfigurationError
from tiny_models import tiny_model


def pair(shape: tuple[int, ...], seed: int = 0, scale: float = 0.01) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    base = 0.05 * torch.randn(shape, generator=generator)
    changed = base + scale * torch.randn(shape, generator=generator)
    changed.reshape(-1)[::3] = base.reshape(-1)[::3]
    changed.reshape(-1)[1::7] = 0.0
    return base, changed


def angle(first: Tensor, second: Tensor) -> float:
    a, b = (tensor.double().reshape(-1).numpy() for tensor in (first, second))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return float(2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b)) / np.pi)


@pytest.mark.parametrize(
    ("shape", "dtypes"),
    [
        *((shape, ("float32", "float32")) for shape in ((6, 5), (300, 17), (700, 900), (4, 3, 2), (37,))),
        # Narrow dtypes are widened, not rounded.
        *(((40, 8), pair) for pair in (("float16", "float32"), ("bfloat16", "bfloat16"), ("float32", "float64"))),
    ],
)
def test_a_tensors_distances_are_numpys(shape: tuple[int, ...], dtypes: tuple[str, str]) -> None:
    base, changed = (tensor.to(getattr(torch, dtype)) for tensor, dtype in zip(pair(shape), dtypes, strict=True))
    found = tensor_distance(base, changed, name="it", role="key", block=3)
    assert (found.name, found.role, found.block, found.shape) == ("it", "key", 3, shape)
    a, b = base.double().numpy(), changed.double().numpy()
    off = np.abs(b - a)
    assert found.changed == (off > 0).sum()
    assert found.zeroed == ((b == 0) & (a != 0)).sum() > 0
    assert found.l1 == pytest.approx(off.sum() / math.sqrt(off.size), rel=1e-12)
    assert found.angular == pytest.approx(angle(base, changed), rel=1e-9)
    if len(shape) == 1:
        assert found.largest_column_sum is None and found.largest_row_sum is None
    else:
        matrix = off.reshape(shape[0], -1)
        assert found.largest_column_sum == pytest.approx(np.linalg.norm(matrix, 1), rel=1e-12)
        assert found.largest_row_sum == pytest.approx(np.linalg.norm(matrix.T, 1), rel=1e-12)


def test_transposed_storage_changes_nothing_but_rows_and_columns() -> None:
    base, changed = pair((30, 20))
    one, other = tensor_distance(base, changed), tensor_distance(base.t(), changed.t())
    assert other.l1 == pytest.approx(one.l1)
    assert other.angular == pytest.approx(one.angular)
    assert (other.largest_row_sum, other.largest_column_sum) == pytest.approx(
        (one.largest_column_sum, one.largest_row_sum)
    )


def test_equal_tensors_are_at_distance_0_and_zeros_have_no_direction() -> None:
    base, _ = pair((5, 4))
    same = tensor_distance(base, base.clone())
    assert (same.changed, same.zeroed, same.l1, same.largest_column_sum, same.angular) == (0, 0, 0.0, 0.0, 0.0)
    gone = tensor_distance(base, torch.zeros(5, 4))
    assert gone.zeroed == 20 and gone.angular is None
    assert tensor_distance(torch.zeros(3), torch.zeros(3)).angular is None


def test_tensors_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="one shape"):
        tensor_distance(torch.zeros(2, 3), torch.zeros(3, 2))
    with pytest.raises(ConfigurationError, match="bad has values that are not finite"):
        tensor_distance(torch.tensor([1.0]), torch.tensor([float("inf")]), name="bad")
    with pytest.raises(ConfigurationError, match="it has values that are not finite"):
        change_distance(torch.full((2, 2), float("nan")), KeepMask(torch.tensor([[False, True]] * 2)), name="it")


@pytest.mark.parametrize("density", [0.0, 0.02, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(50, 30), (30, 4, 5), (64,)])
def test_a_masks_distance_from_its_zeros_alone_is_the_whole_tensors(shape: tuple[int, ...], density: float) -> None:
    base, _ = pair(shape, seed=1)
    base.reshape(-1)[5] = 0.0  # dropping it changes nothing
    keep = torch.rand(shape, generator=torch.Generator().manual_seed(2)) >= density
    found, whole = change_distance(base, KeepMask(keep)), tensor_distance(base, base * keep)
    assert (found.changed, found.zeroed) == (whole.changed, whole.zeroed)
    for name in ("l1", "largest_column_sum", "largest_row_sum", "angular"):
        assert getattr(found, name) == (
            None if getattr(whole, name) is None else pytest.approx(getattr(whole, name), rel=1e-9)
        ), name


def test_every_kind_of_change() -> None:
    base, changed = pair((9, 4))
    keep = changed != 0
    for change in (DenseValues(changed), SparseValues(keep, changed[keep])):
        assert change_distance(base, change) == tensor_distance(base, changed)


def test_a_deltas_distances_are_those_of_the_model_that_it_makes() -> None:
    model = tiny_model("bert")
    names = [name for name, parameter in model.named_parameters() if parameter.ndim == 2 and "layer.0" in name]
    keeps = {name: pair(tuple(model.get_parameter(name).shape))[1] != 0 for name in names}
    changes = {
        **{name: KeepMask(keep) for name, keep in keeps.items()},
        "classifier.bias": DenseValues(torch.ones(model.config.num_labels)),
    }
    delta = TaskDelta.create(
        changes,
        base=base_fingerprint(model, head=["classifier.bias"]),
        head=["classifier.bias"],
        places={names[0]: ChangePlace("query", 0)},
    )
    found = delta_distances(model, delta)
    assert [one.name for one in found] == names
    assert (found[0].role, found[0].block) == ("query", 0)
    before = copy.deepcopy(model)
    with delta.applied(model):
        whole = {one.name: one for one in distances(before, model)}
    for one in found:
        assert one.l1 == pytest.approx(whole[one.name].l1)
        assert one.angular == pytest.approx(whole[one.name].angular)
    with torch.no_grad():
        model.get_parameter(names[0])[0, 0] += 1.0
    with pytest.raises(BaseMismatchError):
        delta_distances(model, delta)
    delta_distances(model, delta, verify=False)


def test_models_have_roles_and_blocks_and_tied_weights_once() -> None:
    base = tiny_model("bert")
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "layer.1.attention.self.value" in name:
                parameter += 1.0
    found = {one.name: one for one in distances(base, tuned)}
    moved = {name for name, one in found.items() if one.changed}
    assert moved == {f"bert.encoder.layer.1.attention.self.value.{end}" for end in ("weight", "bias")}
    value = found["bert.encoder.layer.1.attention.self.value.weight"]
    assert (value.role, value.block, value.changed) == ("value", 1, value.weights)
    assert "bert.embeddings.position_ids" not in found

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3, bias=False)
            self.second = nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight

    assert [one.name for one in distances(Tied(), Tied())] == ["first.weight"]


def test_named_tensors_are_read_one_at_a_time() -> None:
    asked: list[str] = []

    class Lazy(dict[str, Tensor]):
        def __getitem__(self, name: str) -> Tensor:
            asked.append(name)
            return super().__getitem__(name)

    base = Lazy({"a": torch.ones(2), "b": torch.ones(3), "ids": torch.arange(3)})
    other = {"b": torch.zeros(3), "a": torch.ones(2), "ids": torch.arange(3), "c": torch.ones(1)}
    found = iterate_distances(base, other, places={"b": ChangePlace("key", 2)})
    assert next(found).name == "a" and asked == ["a"]
    assert [(one.name, one.role, one.block) for one in found] == [("b", "key", 2)]


def test_models_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(BaseMismatchError, match=r"weight has shape \(2, 3\) in the base and \(2, 4\)"):
        distances(nn.Linear(3, 2), nn.Linear(4, 2))
    with pytest.raises(ConfigurationError, match="no floating-point tensor of one name"):
        distances({"a": torch.ones(2)}, {"b": torch.ones(2)})


def test_ranges_are_over_the_tensors_of_a_place() -> None:
    pairs = [pair((20, 10), seed=seed, scale=0.01 * (seed + 1)) for seed in range(3)]
    found = [
        tensor_distance(*tensors, name=str(index), role="key" if index < 2 else None, block=index)
        for index, tensors in enumerate(pairs)
    ]
    vector = tensor_distance(torch.zeros(4), torch.ones(4), role="bias")
    table = summarise_distances([*found, vector], by=lambda one: one.role)
    assert list(table) == ["key", None, "bias"]
    key = table["key"]
    assert (key.tensors, key.weights) == (2, 400)
    assert key.changed == found[0].changed + found[1].changed
    assert key.l1 == pytest.approx((found[0].l1, (found[0].l1 + found[1].l1) / 2, found[1].l1))
    assert table["bias"].largest_column_sum is None and table["bias"].angular is None
    assert table[None].angular == (found[2].angular,) * 3
