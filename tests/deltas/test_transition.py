from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deltas.tiny_deltas import snapshot, surface, unchanged
from supermask.deltas import (
    Change,
    DenseValues,
    KeepMask,
    SparseValues,
    TaskDelta,
    application,
    base_fingerprint,
    named_tensors,
    overwriting,
)
from supermask.deltas.application import applied_digest, apply_delta_, remove_delta_
from supermask.deltas.transition import groups_sharing_memory, overlaps_itself
from supermask.errors import BaseMismatchError, DeltaFormatError, DeltaStateError

DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
]


class Strange(nn.Module):
    """Every way in which tensors are laid out in memory, and two that share it without meeting."""

    def __init__(self, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        size = torch.tensor([], dtype=dtype).element_size()

        def bits(*shape: int) -> Tensor:
            drawn = torch.randint(0, 256, (*shape, size), generator=generator).to(torch.uint8)
            return drawn.view(dtype).reshape(shape)

        fused, columns = bits(12, 10), bits(9, 14)
        parameters = {
            "plain": bits(17, 13),
            "transposed": bits(11, 7).t(),
            "query": fused[:6],
            "key": fused[6:],
            "left": columns[:, :5],
            "right": columns[:, 5:],
            "tied": bits(8, 6),
            "scalar": bits(),
            "empty": bits(0, 4),
            "vector": bits(130),
        }
        for name, tensor in parameters.items():
            self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
        self.register_parameter("twin", self.tied)
        self.register_buffer("buffer", bits(5, 5))
        self.register_buffer("counter", torch.tensor(3))


def random_changes(model: nn.Module, generator: torch.Generator) -> dict[str, Change]:
    """Some of the model's tensors, each changed in some way at some sparsity, by hand of a generator."""

    def draw(most: int) -> int:
        return int(torch.randint(most, (), generator=generator))

    changes: dict[str, Change] = {}
    for name, tensor in named_tensors(model).items():
        if name in ("twin", "counter") or draw(3) == 0:
            continue
        keep = torch.rand(tensor.shape, generator=generator) >= (0.0, 0.02, 0.13, 0.5, 0.9, 1.0)[draw(6)]
        drawn = torch.randint(0, 256, (tensor.numel(), tensor.element_size()), generator=generator).to(torch.uint8)
        values = drawn.view(tensor.dtype).reshape(tensor.shape)
        changes[name] = (KeepMask(keep), SparseValues(keep, values[keep]), DenseValues(values))[max(draw(5) - 2, 0)]
    return changes or {"plain": KeepMask(torch.arange(221).reshape(17, 13) % 5 != 0)}


def coded(model: nn.Module, changes: Mapping[str, Change], number: int) -> TaskDelta:
    """A delta of the changes; all but the first of a few are coded against the base's tensors."""
    return TaskDelta.create(
        changes,
        base=base_fingerprint(model),
        base_tensors=named_tensors(model) if number else None,
        task={"name": f"task {number}"},
    )


def random_delta(model: nn.Module, generator: torch.Generator, number: int) -> TaskDelta:
    return coded(model, random_changes(model, generator), number)


def expected_with(model: nn.Module, changes: Mapping[str, Change]) -> dict[str, bytes]:
    """What the model holds with a delta on it: each change as a pure function, no tensor changed."""
    found = snapshot(model)
    for name, change in changes.items():
        found[name] = bytes(
            change.apply(named_tensors(model)[name]).contiguous().reshape(-1).view(torch.uint8).tolist()
        )
        if name == "tied":
            found["twin"] = found[name]
    return found


STEPS = st.lists(st.tuples(st.sampled_from(["apply", "switch", "remove"]), st.integers(0, 2)), max_size=8)


@settings(max_examples=100)
@given(st.sampled_from(DTYPES), st.integers(0, 2**32), STEPS, st.sampled_from([None, 1, 3]), st.booleans())
def test_any_way_between_deltas_shows_each_exactly_and_ends_at_the_base(
    dtype: torch.dtype, seed: int, steps: list[tuple[str, int]], threads: int | None, verify: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    model = Strange(dtype, generator)
    changes = [random_changes(model, generator) for _ in range(3)]
    first, second, third = (coded(model, changes[number], number) for number in range(3))
    deltas = [first, second.decode(model, threads=threads), third]
    states = {None: snapshot(model), **{number: expected_with(model, changes[number]) for number in range(3)}}
    outside, on = surface(model), None
    for step, number in steps:
        delta = deltas[number]
        if step == "remove" and on == number:
            delta.remove_(model, threads=threads)
            on = None
        elif step == "remove" or (step == "apply" and on is not None):
            with pytest.raises(DeltaStateError):
                delta.remove_(model) if step == "remove" else delta.apply_(model)
        else:
            delta.apply_(model, verify=verify, switch=step == "switch", threads=threads)
            on = number
        assert snapshot(model) == states[on]
        assert [delta.is_applied(model) for delta in deltas] == [on == number for number in range(3)]
    if on is not None:
        deltas[on].remove_(model, threads=threads)
    assert snapshot(model) == states[None]
    assert surface(model) == outside
    assert applied_digest(model) is None


class Failing(Mapping[str, Change]):
    """Changes of which one fails when it is decoded."""

    def __init__(self, changes: Mapping[str, Change], at: str, error: type[BaseException]) -> None:
        self._changes, self._at, self._error = changes, at, error

    def __getitem__(self, name: str) -> Change:
        if name == self._at:
            raise self._error(name)
        return self._changes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._changes)

    def __len__(self) -> int:
        return len(self._changes)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("error", [DeltaFormatError, KeyboardInterrupt])
@pytest.mark.parametrize("verify", [True, False])
def test_a_failure_at_any_tensor_leaves_what_was_there(error: type[BaseException], threads: int, verify: bool) -> None:
    generator = torch.Generator().manual_seed(7)
    model = Strange(torch.float32, generator)
    first, second = (random_delta(model, generator, number) for number in range(2))
    changes, names = second.changes_for(model), [record.name for record in second.document.changes]
    assert len(names) > 5

    def fails(at: str, *, switch: bool) -> None:
        with unchanged(model), pytest.raises(error, match=at if error is DeltaFormatError else None):
            apply_delta_(
                model, second.document, Failing(changes, at, error), verify=verify, switch=switch, threads=threads
            )

    for name in names:
        fails(name, switch=False)
        assert applied_digest(model) is None
    with unchanged(model):
        first.apply_(model, verify=verify)
        for name in names:
            fails(name, switch=True)
            assert first.is_applied(model)
        second.apply_(model, switch=True, verify=verify)
        second.remove_(model)


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("switch", [False, True])
def test_an_interrupt_after_the_last_tensor_leaves_what_was_there(
    monkeypatch: pytest.MonkeyPatch, switch: bool, overlapping: bool
) -> None:
    if overlapping:
        model: nn.Module = Overlapping()
        values, keep = torch.zeros(8, 4), torch.arange(32).reshape(8, 4) % 3 != 0
        first = overlapping_delta(DenseValues(values), KeepMask(keep), "first")
        second = overlapping_delta(DenseValues(values + 5), SparseValues(keep, values[keep]), "second")
    else:
        model = Strange(torch.bfloat16, torch.Generator().manual_seed(3))
        first, second = (random_delta(model, torch.Generator().manual_seed(seed), seed) for seed in range(2))
    if switch:
        first.apply_(model)
    register, interrupts = application._register, iter([KeyboardInterrupt, KeyboardInterrupt])

    def interrupted(*arguments: object) -> None:
        register(*arguments)  # type: ignore[arg-type]
        if error := next(interrupts, None):
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(application, "_register", interrupted)
        with unchanged(model), pytest.raises(KeyboardInterrupt):
            second.apply_(model, switch=switch)
    assert applied_digest(model) == (first.digest if switch else None)


def test_an_interrupted_removal_is_finished_first(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Strange(torch.float32, torch.Generator().manual_seed(3))
    before, delta = snapshot(model), random_delta(model, torch.Generator().manual_seed(1), 1)
    delta.apply_(model)
    undo, interrupts = overwriting.LiftedWeights.undo_, iter([KeyboardInterrupt, KeyboardInterrupt])

    def interrupted(record: overwriting.LiftedWeights, tensor: Tensor) -> None:
        undo(record, tensor)
        if error := next(interrupts, None):
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(overwriting.LiftedWeights, "undo_", interrupted)
        with pytest.raises(KeyboardInterrupt):
            delta.remove_(model)
    assert snapshot(model) == before
    assert applied_digest(model) is None


class Watching(Mapping[str, Change]):
    """Changes that look at the model while they are decoded, as those do that are coded against the base."""

    def __init__(self, changes: Mapping[str, Change], model: nn.Module) -> None:
        self._changes, self._model = changes, model
        self.seen: dict[str, bytes] = {}
        self.threads: set[int] = set()

    def __getitem__(self, name: str) -> Change:
        live = named_tensors(self._model)[name]
        self.seen[name] = bytes(live.detach().contiguous().reshape(-1).view(torch.uint8).tolist())
        self.threads.add(threading.get_ident())
        return self._changes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._changes)

    def __len__(self) -> int:
        return len(self._changes)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("switch", [False, True])
def test_a_change_is_decoded_while_its_tensor_is_the_bases(switch: bool, threads: int) -> None:
    generator = torch.Generator().manual_seed(5)
    model = Strange(torch.float16, generator)
    base, (first, second) = snapshot(model), (random_delta(model, generator, number) for number in range(2))
    watching = Watching(second.changes_for(model), model)
    if switch:
        first.apply_(model)
    apply_delta_(model, second.document, watching, switch=switch, threads=threads)
    assert watching.seen == {record.name: base[record.name] for record in second.document.changes}
    remove_delta_(model, second.document)
    assert snapshot(model) == base


# Tensors that share memory.


class Overlapping(nn.Module):
    """Two tensors that have rows in common."""

    def __init__(self) -> None:
        super().__init__()
        whole = torch.arange(1, 49, dtype=torch.float32).reshape(12, 4)
        self.upper = nn.Parameter(whole[:8])
        self.lower = nn.Parameter(whole[4:])


def overlapping_delta(upper: Change, lower: Change, name: str) -> TaskDelta:
    return TaskDelta.create({"upper": upper, "lower": lower}, base=base_fingerprint(Overlapping()), task={"name": name})


@pytest.mark.parametrize("threads", [1, 4])
def test_overlapping_tensors_are_changed_in_order_and_come_off_in_reverse(threads: int) -> None:
    keep = torch.arange(32).reshape(8, 4) % 3 != 0
    values = torch.arange(100, 132, dtype=torch.float32).reshape(8, 4)
    kinds: list[Callable[[], Change]] = [
        lambda: KeepMask(keep),
        lambda: KeepMask(~keep),
        lambda: DenseValues(values),
        lambda: SparseValues(keep, values[keep]),
    ]
    deltas = [
        overlapping_delta(one(), two(), f"{number}") for number, (one, two) in enumerate(product(kinds, repeat=2))
    ]
    model = Overlapping()
    base = snapshot(model)
    for number, delta in enumerate(deltas):
        whole = Overlapping().upper.detach().as_strided((12, 4), (4, 1)).clone()
        for name, rows in (("upper", slice(0, 8)), ("lower", slice(4, 12))):
            whole[rows] = delta.changes_for(model)[name].apply(whole[rows])
        watching = Watching(delta.changes_for(model), model)
        apply_delta_(model, delta.document, watching, switch=number > 0, threads=threads)
        assert model.upper.tolist() == whole[:8].tolist()
        assert model.lower.tolist() == whole[4:].tolist()
        assert watching.seen == base
        other = deltas[number - 1]
        with unchanged(model), pytest.raises(KeyboardInterrupt):
            failing = Failing(other.changes_for(model), "lower", KeyboardInterrupt)
            apply_delta_(model, other.document, failing, switch=True, threads=threads)
        assert delta.is_applied(model)
    deltas[-1].remove_(model, threads=threads)
    assert snapshot(model) == base


def test_names_in_one_stretch_of_memory_are_one_group() -> None:
    whole, apart = torch.zeros(100), torch.zeros(10)
    tensors = {
        "d": whole[50:60],
        "a": whole[:30],
        "x": apart,
        "c": whole[40:52],
        "b": whole[10:35],
        "e": whole[60:61],
        "none": whole[20:20],
    }
    assert groups_sharing_memory(tensors) == [["d", "c"], ["a", "b"], ["x"], ["e"], ["none"]]
    within = {"whole": whole[:30], "first": whole[5:8], "last": whole[20:25], "behind": whole[30:]}
    assert groups_sharing_memory(within) == [["whole", "first", "last"], ["behind"]]
    matrix = torch.zeros(4, 6)
    assert groups_sharing_memory({"left": matrix[:, :3], "right": matrix[:, 3:]}) == [["left", "right"]]
    assert groups_sharing_memory({}) == []


def test_elements_that_share_memory_are_found() -> None:
    whole = torch.zeros(60)
    apart = [whole, whole[:0], whole.reshape(3, 4, 5).permute(2, 0, 1), whole[::7], whole.reshape(6, 10)[:, 2:5]]
    assert not any(overlaps_itself(tensor) for tensor in apart)
    assert not overlaps_itself(torch.tensor(1.0).expand(1, 1))
    shared = [torch.zeros(1).expand(2), whole.unfold(0, 3, 1), torch.zeros(2, 1).expand(2, 3)]
    assert all(overlaps_itself(tensor) for tensor in shared)


def test_an_expanded_tensor_is_refused() -> None:
    model = nn.Linear(3, 4)
    keep = KeepMask(torch.arange(12).reshape(4, 3) % 2 == 0)
    delta = TaskDelta.create({"weight": keep}, base=base_fingerprint(model))
    model.weight = nn.Parameter(torch.ones(1, 3).expand(4, 3))
    with pytest.raises(BaseMismatchError, match=r"weight has elements that share memory .*clone"):
        delta.apply_(model)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_switches_on_a_device(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(11)
    model = Strange(dtype, generator)
    changes = [random_changes(model, generator) for _ in range(3)]
    base, deltas = snapshot(model), [coded(model, changes[number], number) for number in range(3)]
    expected = [expected_with(model, change) for change in changes]
    model.to("cuda")
    for turn in range(6):
        delta = (
            deltas[turn % 3] if turn < 3 else deltas[turn % 3].decode(Strange(dtype, torch.Generator().manual_seed(11)))
        )
        delta.apply_(model, switch=True, threads=3)
        assert snapshot(model) == expected[turn % 3]
        if turn == 3:
            model.to("cpu")
    deltas[2].remove_(model)
    assert snapshot(model) == base
