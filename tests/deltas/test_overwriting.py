from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supermask.deltas import Change, DenseValues, KeepMask, SparseValues, mask_kernels
from supermask.deltas.overwriting import LiftedWeights, OldTensor, Overwritten, Reserve, overwrite_
from supermask.errors import ConfigurationError

DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.bool,
]
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda tensor: tensor,
    "transposed": lambda tensor: tensor.t().contiguous().t(),
    "every other column": lambda tensor: tensor.repeat_interleave(2, dim=1)[:, ::2],
}


def raw(tensor: Tensor) -> list[int]:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).tolist()


def random_bits(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    size = torch.tensor([], dtype=dtype).element_size()
    high = 2 if dtype is torch.bool else 256
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, high, (*shape, size), generator=generator).to(torch.uint8).view(dtype).reshape(shape)


def changes(dtype: torch.dtype) -> dict[str, Change]:
    shape, generator = (16, 24), torch.Generator().manual_seed(1)
    made: dict[str, Change] = {"dense": DenseValues(random_bits(shape, dtype, seed=2))}
    for sparsity in (0.0, 0.01, 0.3, 0.6, 0.99, 1.0):
        keep = torch.rand(shape, generator=generator) >= sparsity
        made[f"mask {sparsity}"] = KeepMask(keep)
        made[f"positions {sparsity}"] = KeepMask(KeepMask(keep).positions)
        made[f"sparse {sparsity}"] = SparseValues(keep, random_bits((int(keep.sum()),), dtype, seed=3))
    return made


def overwritten_by(tensor: Tensor, change: Change, reserve: Reserve | None = None) -> Overwritten:
    records: list[Overwritten] = []
    overwrite_(tensor, change, records.append, reserve=reserve)
    assert len(records) == 1
    return records[0]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place_is_what_the_pure_change_gives_and_comes_off_again(dtype: torch.dtype, layout: str) -> None:
    original = random_bits((16, 24), dtype)
    for name, change in changes(dtype).items():
        tensor = LAYOUTS[layout](original)
        strides, expected = tensor.stride(), raw(change.apply(original))
        reserve = Reserve([(50, 384, 8)], holds_places=True)
        record = overwritten_by(tensor, change, reserve if "positions" in name else None)
        assert raw(tensor) == expected, name
        record.undo_(tensor)
        record.undo_(tensor)
        assert raw(tensor) == raw(original), name
        if isinstance(record, LiftedWeights):
            for _ in range(2):
                record.redo_(tensor)
                assert raw(tensor) == expected, name
            record.undo_(tensor)
            assert raw(tensor) == raw(original), name
        assert tensor.stride() == strides


def test_masks_keep_the_dropped_weights_alone_and_others_the_whole_tensor() -> None:
    kinds = {}
    for name, change in changes(torch.float32).items():
        record = overwritten_by(random_bits((16, 24), torch.float32), change)
        kinds[name] = type(record)
        if isinstance(record, LiftedWeights):
            assert record.nbytes == 4 * change.zeros + min(4 * change.zeros, 384 // 8)  # type: ignore[union-attr]
        else:
            assert record.nbytes == 4 * 384
    few = {f"{form} {sparsity}" for form in ("mask", "positions") for sparsity in (0.0, 0.01, 0.3)}
    assert {name for name, kind in kinds.items() if kind is LiftedWeights} == few


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (2, 3, 5)])
def test_tensors_of_any_shape(shape: tuple[int, ...]) -> None:
    original = random_bits(shape, torch.float32)
    for keep in (torch.ones(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)):
        tensor = original.clone()
        record = overwritten_by(tensor, KeepMask(keep))
        assert raw(tensor) == raw(KeepMask(keep).apply(original))
        record.undo_(tensor)
        assert raw(tensor) == raw(original)


def test_more_than_two_strides() -> None:
    original = random_bits((4, 5, 6), torch.float16)
    tensor = original.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert not tensor.is_contiguous()
    change = KeepMask((torch.arange(120) % 7 != 0).reshape(4, 5, 6))
    record = overwritten_by(tensor, change)
    assert raw(tensor) == raw(change.apply(original))
    record.undo_(tensor)
    assert raw(tensor) == raw(original)


def test_a_change_for_another_tensor_is_refused_before_anything_is_on_record() -> None:
    tensor = torch.ones(3)
    for change, message in (
        (KeepMask(torch.tensor([[True, False, True]])), r"\(1, 3\)"),
        (DenseValues(torch.ones(3, dtype=torch.float64)), "float64"),
        (SparseValues(torch.tensor([True, False, True]), torch.ones(2, dtype=torch.int32)), "int32"),
    ):
        records: list[Overwritten] = []
        with pytest.raises(ConfigurationError, match=message):
            overwrite_(tensor, change, records.append)
        assert not records
    assert tensor.tolist() == [1, 1, 1]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("kernel", ["lift_positions", "lift_bits"])
def test_an_interrupt_before_or_after_the_loop_is_undone(
    monkeypatch: pytest.MonkeyPatch, kernel: str, late: bool
) -> None:
    original = random_bits((16, 24), torch.float32)
    tensor, lift = original.clone(), getattr(mask_kernels, kernel)
    change = changes(torch.float32)["mask 0.01" if kernel == "lift_positions" else "mask 0.3"]

    def interrupted(*arguments: object) -> None:
        if late:
            lift(*arguments)
        raise KeyboardInterrupt

    records: list[Overwritten] = []
    with monkeypatch.context() as patch:
        patch.setattr(mask_kernels, kernel, interrupted)
        with pytest.raises(KeyboardInterrupt):
            overwrite_(tensor, change, records.append)
    assert (raw(tensor) == raw(original)) is not late
    records[0].undo_(tensor)
    assert raw(tensor) == raw(original)


@pytest.mark.parametrize(
    ("method", "change"),
    [("__setitem__", "mask 0.3"), ("zero_", "mask 0.6"), ("masked_scatter_", "sparse 0.3"), ("zero_", "sparse 0.6")],
)
def test_a_write_that_fails_halfway_is_undone(monkeypatch: pytest.MonkeyPatch, method: str, change: str) -> None:
    original = random_bits((16, 24), torch.float32)
    tensor = LAYOUTS["transposed"](original)

    def half(bits: Tensor, *arguments: Any) -> None:
        if method == "__setitem__":
            bits.index_put_(tuple(index[::2] for index in arguments[0]), torch.tensor(0, dtype=bits.dtype))
        else:
            bits[:8].fill_(77)
        raise RuntimeError("out of memory")

    records: list[Overwritten] = []
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, method, half)
        with pytest.raises(RuntimeError, match="out of memory"):
            overwrite_(tensor, changes(torch.float32)[change], records.append)
    assert raw(tensor) != raw(original)
    records[0].undo_(tensor)
    assert raw(tensor) == raw(original)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_graph_from_before_does_not_go_backward_through_changed_weights(layout: str) -> None:
    for change in changes(torch.float32).values():
        weight = LAYOUTS[layout](random_bits((16, 24), torch.float32)).requires_grad_()
        loss = (weight**2).sum()
        with torch.no_grad():
            record = overwritten_by(weight, change)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
        loss = (weight**2).sum()
        with torch.no_grad():
            record.undo_(weight)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_a_reserve_gives_each_its_own_and_never_runs_out() -> None:
    masks = [(3, 100, 4), (80, 100, 4)]  # the second mask drops most: it keeps the whole tensor elsewhere
    reserve = Reserve(masks, holds_places=True)
    first, second, third = reserve.take(3, np.int32), reserve.take(3, np.int32), reserve.take(1000, np.int64)
    for value, array in enumerate((first, second, third)):
        array[:] = value
    assert [set(array.tolist()) for array in (first, second, third)] == [{0}, {1}, {2}]
    assert first.base is not None and first.base is second.base
    assert (third.size, third.base) == (1000, None)
    assert second.ctypes.data % 64 == first.ctypes.data % 64
    alone = Reserve(masks, holds_places=False)
    assert alone.take(3, np.int32).base is not None
    assert alone.take(3, np.int32).base is None


def test_a_reserve_takes_over_memory_that_is_large_enough() -> None:
    spare = Reserve([(10, 100, 4)], holds_places=False)
    memory = spare.take(10, np.int32).base
    assert Reserve([(10, 100, 4)], holds_places=False, spare=spare).take(10, np.int32).base is memory
    assert Reserve([(30, 100, 4)], holds_places=False, spare=spare).take(30, np.int32).base is not memory


def test_what_is_on_record_does_not_follow_the_change() -> None:
    keep = torch.arange(384).reshape(16, 24) % 3 != 0
    original = random_bits((16, 24), torch.float32)
    tensor = original.clone()
    record = overwritten_by(tensor, KeepMask(keep))
    keep.fill_(True)
    record.undo_(tensor)
    assert raw(tensor) == raw(original)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_on_a_device_and_across_devices(dtype: torch.dtype, layout: str) -> None:
    original = random_bits((16, 24), dtype)
    for name, change in changes(dtype).items():
        tensor = LAYOUTS[layout](original.to("cuda"))
        record = overwritten_by(tensor, change, Reserve([(50, 384, 8)], holds_places=True))
        assert raw(tensor) == raw(change.apply(original)), name
        moved = tensor.cpu()
        record.undo_(moved)
        record.undo_(tensor)
        assert raw(moved) == raw(tensor) == raw(original), name
        if isinstance(record, LiftedWeights):
            record.redo_(moved)
            record.redo_(tensor)
            assert raw(moved) == raw(tensor) == raw(change.apply(original)), name
        else:
            assert isinstance(record, OldTensor)
