"""Any layout, any change: applied, removed, switched, failing midway, interrupted, and by several threads at once."""

import copy
import gc
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize

from deltas.any_changes import FLOATS, random_bits
from deltas.reference_format import raw
from deltas.tiny_deltas import HEAD, TinyModel, pattern, snapshot, surface, tiny_delta, tiny_model, unchanged
from supermask.deltas import (
    Change,
    DenseValues,
    KeepMask,
    SparseValues,
    TaskDelta,
    applying,
    base_fingerprint,
    keep_mask,
    named_tensors,
)
from supermask.deltas.applying import applied_digest, apply_delta_, holding_base, remove_delta_
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError, DeltaStateError


class Strange(nn.Module):
    """Every way in which tensors are laid out in memory, and pairs that share a stretch of it without meeting."""

    def __init__(self, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()

        def bits(*shape: int) -> Tensor:
            return random_bits(shape, dtype, generator)

        fused, columns = bits(12, 10), bits(9, 14)
        parameters = {
            "plain": bits(17, 13),
            "transposed": bits(11, 7).t(),
            "query": fused[:6],
            "key": fused[6:],
            "left": columns[:, :5],
            "right": columns[:, 5:],
            "tied": bits(8, 6),
            "cube": bits(4, 5, 6).permute(2, 0, 1),
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
    """Some of the model's tensors, each changed in some way at some sparsity."""

    def draw(most: int) -> int:
        return int(torch.randint(most, (), generator=generator))

    changes: dict[str, Change] = {}
    tied = ("tied", "twin")[draw(2)]
    for name, tensor in named_tensors(model).items():
        if (name in ("tied", "twin") and name != tied) or name == "counter" or draw(3) == 0:
            continue
        keep = torch.rand(tensor.shape, generator=generator) >= (0.0, 0.02, 0.13, 0.5, 0.9, 1.0)[draw(6)]
        values = random_bits(tuple(tensor.shape), tensor.dtype, generator)
        changes[name] = (KeepMask(keep), SparseValues(keep, values[keep]), DenseValues(values))[max(draw(5) - 2, 0)]
    return changes or {"plain": KeepMask(torch.arange(221).reshape(17, 13) % 5 != 0)}


def coded(model: nn.Module, changes: Mapping[str, Change], number: int) -> TaskDelta:
    """A delta of the changes; all but the first of a few are coded against the base's tensors."""
    tensors = named_tensors(model) if number else None
    return TaskDelta.create(
        changes, base=base_fingerprint(model), base_tensors=tensors, task={"name": f"task {number}"}
    )


def expected_with(model: nn.Module, changes: Mapping[str, Change]) -> dict[str, bytes]:
    """What the model holds with a delta on it: each change as a pure function, no tensor changed."""
    found, tensors = snapshot(model), named_tensors(model)
    for name, change in changes.items():
        for one in ("tied", "twin") if name in ("tied", "twin") else (name,):
            found[one] = raw(change.apply(tensors[name]))
    return found


STEPS = st.lists(st.tuples(st.sampled_from(["apply", "switch", "remove"]), st.integers(0, 2)), max_size=8)


@settings(max_examples=100)
@given(st.sampled_from(FLOATS), st.integers(0, 2**32), STEPS, st.sampled_from([None, 1, 3]), st.booleans())
def test_any_way_between_deltas_shows_each_exactly_and_ends_at_the_base(
    dtype: torch.dtype, seed: int, steps: list[tuple[str, int]], threads: int | None, verify: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    model = Strange(dtype, generator)
    made = [random_changes(model, generator) for _ in range(3)]
    deltas = [coded(model, made[number], number) for number in range(3)]
    decoded = [None, deltas[1].decode(model, threads=threads), None]
    states = {None: snapshot(model), **{number: expected_with(model, made[number]) for number in range(3)}}
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
            delta.apply_(model, decoded[number], verify=verify, switch=step == "switch", threads=threads)
            on = number
        assert snapshot(model) == states[on]
        assert [delta.is_applied(model) for delta in deltas] == [on == number for number in range(3)]
    if on is not None:
        deltas[on].remove_(model, threads=threads)
    assert snapshot(model) == states[None]
    assert surface(model) == outside
    assert applied_digest(model) is None


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", FLOATS[:4])
def test_apply_and_remove_leave_alone_what_they_do_not_name(dtype: torch.dtype, training: bool) -> None:
    model = tiny_model(dtype).train(training)
    delta, outside = tiny_delta(model), surface(model)
    model.dense.weight.grad = torch.ones(8, 8, dtype=dtype)
    with unchanged(model):
        assert delta.apply_(model) is model
        assert surface(model) == outside
        assert model.decoder.weight is model.embedding.weight
        assert model.dense.weight.is_leaf and bool((model.dense.weight.grad == 1).all())
        dropped = model.dense.weight.detach()[~pattern((8, 8), 4)]
        assert not any(raw(dropped)), "dropped weights are +0"
        assert delta.remove_(model) is model


def test_it_works_under_inference_mode_of_the_caller() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    with torch.inference_mode(), unchanged(model), delta.applied(model, threads=3) as applied:
        assert applied is model


# Failures in the middle.


class Watched(dict[str, Change]):
    """Changes that look at the model when they are asked for, as those do that are coded against it; one may fail."""

    def __init__(self, changes: Mapping[str, Change], model: nn.Module) -> None:
        super().__init__(changes)
        self._tensors = named_tensors(model)
        self.fails: tuple[str, type[BaseException]] | None = None
        self.seen: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> Change:
        self.seen[name] = raw(self._tensors[name])
        if self.fails and self.fails[0] == name:
            raise self.fails[1](name)
        return super().__getitem__(name)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("error", [DeltaFormatError, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("verify", [True, False])
def test_a_failure_at_any_tensor_leaves_what_was_there(error: type[BaseException], threads: int, verify: bool) -> None:
    generator = torch.Generator().manual_seed(7)
    model = Strange(torch.float32, generator)
    base = snapshot(model)
    first, second = (coded(model, random_changes(model, generator), number) for number in range(2))
    watched = Watched(second.changes_for(model), model)
    options: dict[str, Any] = {"verify": verify, "threads": threads}
    for switch in (False, True):
        if switch:
            first.apply_(model, verify=verify)
        for name in watched:
            watched.fails = (name, error)
            with unchanged(model), pytest.raises(error, match=name if error is DeltaFormatError else None):
                apply_delta_(model, second.document, lambda _: watched, switch=switch, **options)
            assert applied_digest(model) == (first.digest if switch else None)
    watched.fails, watched.seen = None, {}
    apply_delta_(model, second.document, lambda _: watched, switch=True, **options)
    assert watched.seen == {name: base[name] for name in watched}, "a change is decoded while its tensor is the base's"
    assert len(watched) > 5
    remove_delta_(model, second.document, threads=threads)
    assert snapshot(model) == base


@pytest.mark.parametrize("step", ["apply", "switch", "remove"])
def test_interrupts_wait_until_the_model_is_whole(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    model = Strange(torch.bfloat16, torch.Generator().manual_seed(3))
    base = snapshot(model)
    made = [random_changes(model, torch.Generator().manual_seed(seed)) for seed in range(2)]
    first, second = (coded(model, made[number], number) for number in range(2))
    if step != "apply":
        first.apply_(model)
    before, undo, interrupts = snapshot(model), keep_mask.Overwritten.take_off_, iter([KeyboardInterrupt] * 3)
    all_on = step == "remove"

    def interrupted(record: keep_mask.Overwritten, tensor: Tensor) -> None:
        undo(record, tensor)
        if all_on and (error := next(interrupts, None)):
            raise error

    def fail(*arguments: object) -> None:
        nonlocal all_on
        all_on = True
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(applying, "_Application", fail)  # the last thing that is done, when every tensor is changed
        patch.setattr(keep_mask.Overwritten, "take_off_", interrupted)
        with pytest.raises(KeyboardInterrupt):
            first.remove_(model) if step == "remove" else second.apply_(model, switch=True)
    assert next(interrupts, None) is None
    assert snapshot(model) == (base if step == "remove" else before)
    assert applied_digest(model) == (first.digest if step == "switch" else None)


def test_no_threads_are_refused() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    for use in (delta.apply_, delta.decode):
        with unchanged(model), pytest.raises(ConfigurationError, match="threads must be at least 1"):
            use(model, threads=0)
    assert applied_digest(model) is None


# Several threads on one model: one waits, then succeeds or is told why not.


def test_threads_that_race_on_one_model_never_leave_it_half_changed() -> None:
    model = Strange(torch.float32, torch.Generator().manual_seed(2))
    made = [random_changes(model, torch.Generator().manual_seed(seed)) for seed in range(2)]
    deltas = [coded(model, made[number], number) for number in range(2)]
    decoded = [delta.decode(model) for delta in deltas]
    states = {None: snapshot(model)} | {deltas[i].digest: expected_with(model, made[i]) for i in range(2)}
    barrier, refused, broken = threading.Barrier(3), [], list[BaseException]()

    def work(number: int) -> None:
        delta, changes = deltas[number], decoded[number]
        uses: list[Callable[[], object]] = [
            lambda: delta.apply_(model, changes, verify=False, threads=1),
            lambda: delta.apply_(model, changes, verify=False, switch=True, threads=2),
            lambda: delta.remove_(model, threads=2),
            lambda: delta.apply_(model, switch=True, threads=1),
            lambda: delta.decode(model, threads=1),
        ]
        for turn in range(60):
            barrier.wait(30)
            try:
                uses[(turn * (1 + number) + number) % len(uses)]()
            except DeltaStateError as error:
                refused.append(str(error))
            except BaseException as error:
                broken.append(error)
            barrier.wait(30)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        barrier.wait(30)
        barrier.wait(30)
        assert snapshot(model) == states[applied_digest(model)]
    for thread in threads:
        thread.join(30)
    assert not broken
    assert all("applied" in message for message in refused)


def test_a_base_that_is_held_stays_the_base() -> None:
    model = tiny_model()
    delta, done = tiny_delta(model), threading.Event()
    with holding_base(model) as tensors, unchanged(model):
        other = threading.Thread(target=lambda: (delta.apply_(model), done.set()))
        other.start()
        assert not done.wait(0.1)
        assert tensors["dense.weight"] is model.dense.weight
    other.join(30)
    assert delta.is_applied(model)
    with pytest.raises(DeltaStateError, match="remove the delta first"), holding_base(model):
        pass
    with holding_base({"a": model.dense.weight}) as tensors:
        assert list(tensors) == ["a"]


# Tensors that share memory.


class Overlapping(nn.Module):
    """Two tensors that have rows in common."""

    def __init__(self, *, overlap: int = 4) -> None:
        super().__init__()
        whole = torch.arange(1, 49, dtype=torch.float32).reshape(12, 4)
        self.upper = nn.Parameter(whole[: 6 + overlap // 2])
        self.lower = nn.Parameter(whole[6 - overlap // 2 :])


def test_tensors_with_some_bytes_in_common_are_refused_and_go_over_one_after_the_other() -> None:
    model = Overlapping()
    keep, values = torch.arange(32).reshape(8, 4) % 3 != 0, torch.arange(100, 132.0).reshape(8, 4)
    fingerprint = base_fingerprint(model)
    both = TaskDelta.create({"upper": KeepMask(keep), "lower": KeepMask(keep)}, base=fingerprint)
    with unchanged(model), pytest.raises(BaseMismatchError, match="upper and lower share memory here and are two"):
        both.apply_(model)
    deltas = [
        TaskDelta.create({name: change}, base=fingerprint, base_tensors=named_tensors(model), task={"name": name})
        for name in ("upper", "lower")
        for change in (KeepMask(keep), DenseValues(values), SparseValues(~keep, values[~keep]))
    ]
    with unchanged(model):
        for turn in range(2 * len(deltas)):
            delta, plain = deltas[5 * turn % len(deltas)], Overlapping()
            (name, change), *_ = delta.changes_for(plain).items()
            whole = change.apply(named_tensors(plain)[name])
            with torch.no_grad():
                named_tensors(plain)[name].copy_(whole)
            delta.apply_(model, switch=True, threads=2, verify=turn % 3 == 0)
            assert snapshot(model) == snapshot(plain)
        delta.remove_(model)


def test_one_tensor_under_two_changed_names_is_refused() -> None:
    untied = tiny_model()
    untied.decoder.weight = nn.Parameter(untied.embedding.weight.detach().clone())
    keep = KeepMask(pattern((12, 8), 5))
    delta = TaskDelta.create({"embedding.weight": keep, "decoder.weight": keep}, base=base_fingerprint(untied))
    message = refusal(delta, tiny_model(), BaseMismatchError)
    assert "embedding.weight and decoder.weight share memory here and are two tensors in the delta" in message


@pytest.mark.parametrize(
    "shared", [torch.ones(1, 3).expand(4, 3), torch.ones(6).unfold(0, 3, 1), torch.ones(4, 1).expand(4, 3)]
)
def test_a_tensor_whose_elements_share_memory_is_refused(shared: Tensor) -> None:
    model = nn.Linear(3, 4)
    delta = TaskDelta.create({"weight": KeepMask(pattern((4, 3), 2))}, base=base_fingerprint(model))
    model.weight = nn.Parameter(shared)
    with pytest.raises(BaseMismatchError, match=r"weight has elements that share memory .*clone"):
        delta.apply_(model)


# Refusals: each leaves the model as it is.


def refusal(delta: TaskDelta, model: nn.Module, error: type[Exception], **options: Any) -> str:
    on = applied_digest(model)
    with unchanged(model), pytest.raises(error) as caught:
        delta.apply_(model, **options)
    assert applied_digest(model) == on
    return str(caught.value)


def test_another_base_is_refused_by_name_and_with_the_remedy() -> None:
    delta = tiny_delta(tiny_model())
    model = tiny_model()
    with torch.no_grad():
        model.norm.bias.view(torch.int32)[3] ^= 1
    message = refusal(delta, model, BaseMismatchError)
    assert "'tiny'" in message
    assert "1 of 9 tensors differ (norm.bias)" in message
    assert "differ" in refusal(delta, tiny_model(seed=1), BaseMismatchError)
    message = refusal(delta, nn.Linear(2, 2), BaseMismatchError)
    assert "dense.weight of the delta's base is missing here" in message
    assert message.endswith("and 3 more")
    message = refusal(delta, tiny_model(torch.bfloat16), BaseMismatchError)
    assert "is torch.bfloat16 here, not float32: load the base with dtype=torch.float32" in message
    masked = TaskDelta.create({"dense.weight": KeepMask(pattern((8, 8), 2))}, base=base_fingerprint(tiny_model()))
    assert "load it with dtype=torch.float32" in refusal(masked, tiny_model(torch.float16), BaseMismatchError)
    message = refusal(delta, tiny_model(labels=2), BaseMismatchError)
    assert "classifier.weight has shape (2, 8) here and (3, 8) in the delta's head" in message
    assert "load the base with the task's number of labels" in message
    with torch.device("meta"):
        empty = TinyModel()
    with pytest.raises(BaseMismatchError, match="meta device"):
        delta.apply_(empty)


def test_changes_that_do_not_fit_the_document_are_refused() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    for name, change in (
        ("dense.weight", KeepMask(pattern((4, 4), 2))),
        ("norm.weight", DenseValues(torch.ones(8).half())),
    ):
        refusal(delta, model, ConfigurationError, changes={**delta.decode(model), name: change})


def test_a_second_delta_and_a_removal_of_another_are_refused() -> None:
    model = tiny_model()
    first, second = tiny_delta(model), tiny_delta(model, task={"name": "other"})
    with unchanged(model), pytest.raises(DeltaStateError, match="no delta is applied"):
        first.remove_(model)
    first.apply_(model)
    for delta, name in ((first, "toy"), (second, "other")):
        message = refusal(delta, model, DeltaStateError)
        assert message.startswith("a delta (task toy, method supermask) is applied to this model already, so another ")
        assert f"(task {name}, method supermask) cannot be; remove it first, or pass switch=True" in message
    with unchanged(model), pytest.raises(DeltaStateError, match=r"another delta \(task toy, method supermask\)"):
        second.remove_(model)
    first.remove_(model)
    with unchanged(model), pytest.raises(DeltaStateError, match="no delta is applied"):
        first.remove_(model)


def test_a_parametrised_model_is_refused() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    parametrize.register_parametrization(model.dense, "weight", nn.Identity())
    with pytest.raises(DeltaStateError, match=r"module 'dense' is parametrised.*detach the method first"):
        delta.apply_(model)
    assert applied_digest(model) is None


# What may happen between apply and remove.


def test_an_equal_delta_removes_what_another_object_applied_on_many_models() -> None:
    models = [tiny_model() for _ in range(3)]
    before, delta, twin = snapshot(models[0]), tiny_delta(models[0]), tiny_delta(models[0])
    changes = delta.decode(dict(named_tensors(models[0])))
    for model in models:
        delta.apply_(model, changes)
    assert len({frozenset(snapshot(model).items()) for model in models}) == 1
    for model in models:
        twin.remove_(model)
        assert snapshot(model) == before


def test_training_in_between_is_noticed() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    delta.apply_(model)
    with torch.no_grad():
        model.dense.bias.zero_()
    message = r"the delta is removed, but something else changed the model .*dense\.bias"
    with pytest.raises(DeltaStateError, match=message):
        delta.remove_(model)
    assert applied_digest(model) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32])
def test_a_model_that_was_converted_in_between_is_not_touched(dtype: torch.dtype) -> None:
    model = nn.Linear(8, 8)
    delta = TaskDelta.create({"weight": KeepMask(pattern((8, 8), 4))}, base=base_fingerprint(model))
    delta.apply_(model)
    model.weight = nn.Parameter(model.weight.detach().to(dtype), requires_grad=False)
    for use in (delta.remove_, lambda model: delta.apply_(model, switch=True)):
        with unchanged(model), pytest.raises(DeltaStateError, match=r"was converted after .*: weight is .*float32"):
            use(model)
        assert delta.is_applied(model)


def test_a_copy_of_a_model_with_a_delta_is_no_base_and_the_model_is_not_kept_alive() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    delta.apply_(model)
    twin, reference = copy.deepcopy(model), weakref.ref(model)
    assert applied_digest(twin) is None
    refusal(delta, twin, BaseMismatchError)
    del model
    gc.collect()
    assert reference() is None


def test_without_verification_only_shapes_and_dtypes_are_checked() -> None:
    delta, model = tiny_delta(tiny_model()), tiny_model(seed=1)
    with unchanged(model), delta.applied(model, verify=False):
        assert not bool(model.dense.weight.detach()[~pattern((8, 8), 4)].any())
    refusal(delta, model, BaseMismatchError)


# Switching.


def other_delta(model: nn.Module, **described: Any) -> TaskDelta:
    """A delta that shares some tensors with `tiny_delta`, leaves others alone and has a head of its own."""
    changes = {
        "dense.weight": KeepMask(pattern((8, 8), 3)),
        "dense.bias": KeepMask(pattern((8,), 2)),
        "decoder.weight": KeepMask(pattern((12, 8), 5)),
        "norm.weight": DenseValues(torch.full((8,), 7.0)),
        "classifier.weight": DenseValues(torch.full((3, 8), -1.0)),
        "classifier.bias": DenseValues(torch.zeros(3)),
    }
    described = {"base_name": "tiny", "task": {"name": "other"}, "method": {"kind": "supermask"}, **described}
    return TaskDelta.create(changes, base=base_fingerprint(model, head=HEAD), head=HEAD, **described)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever a model is hashed."""
    calls: list[int] = []
    check = applying.require_base

    def counted(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        check(*arguments, **options)

    monkeypatch.setattr(applying, "require_base", counted)
    return calls


def with_delta(delta: TaskDelta) -> dict[str, bytes]:
    """What a fresh model holds with the delta alone on it."""
    return snapshot(delta.apply_(tiny_model(), verify=False))


def test_a_switch_is_a_removal_and_an_application_and_hashes_nothing(hashed: list[int]) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.classifier.weight.fill_(123.0)
    outside, (first, second) = surface(model), (tiny_delta(model), other_delta(model))
    with unchanged(model):
        for turn in range(6):
            delta = (first, second)[turn % 2]
            assert delta.apply_(model, switch=True) is model
            assert snapshot(model) == with_delta(delta)
            assert delta.is_applied(model)
            broken = {"dense.weight": KeepMask(pattern((8, 8), 3))}  # nor does a switch that fails in between
            refusal((second, first)[turn % 2], model, KeyError, switch=True, changes=broken)
        assert (len(hashed), surface(model)) == (1, outside)
        second.remove_(model)
        assert len(hashed) == 2


def test_a_switch_to_the_delta_that_is_on_puts_it_on_anew() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    with unchanged(model), delta.applied(model):
        before = snapshot(model)
        with torch.no_grad():
            model.dense.weight.view(-1)[0] = 5.0  # a dropped weight
        delta.apply_(model, switch=True)
        assert snapshot(model) == before


def test_without_verification_nothing_is_hashed(hashed: list[int]) -> None:
    model = tiny_model()
    first, second = tiny_delta(model), other_delta(model)
    for verified, count in (((True, False), 1), ((False, True), 3)):  # what was not verified before is so now
        with unchanged(model):
            first.apply_(model, verify=verified[0])
            second.apply_(model, switch=True, verify=verified[1])
            second.remove_(model)
        assert len(hashed) == count


def replace_where_it_was(model: TinyModel) -> None:
    writes, twin = model.dense.bias._version, nn.Parameter(torch.from_numpy(model.dense.bias.detach().numpy()))
    while twin._version < writes:
        twin.detach().add_(0)
    model.dense.bias = twin


TOUCHES: dict[str, Callable[[TinyModel], object]] = {
    "rewrite": lambda model: model.norm.bias.detach().view(torch.int32)[:1].bitwise_xor_(0),
    "rewrite a buffer": lambda model: model.position_ids.add_(0),
    "move": lambda model: setattr(model.dense.bias, "data", model.dense.bias.data.clone()),
    "replace": lambda model: setattr(model.dense, "bias", nn.Parameter(model.dense.bias.detach().clone())),
    "replace where it was": replace_where_it_was,
}


@pytest.mark.parametrize("touch", [*TOUCHES, "made in inference mode"])
def test_a_base_that_may_have_changed_is_hashed_again(touch: str, hashed: list[int]) -> None:
    with torch.inference_mode(touch not in TOUCHES):
        model = tiny_model()
        base, (first, second) = snapshot(model), (tiny_delta(model), other_delta(model))
        first.apply_(model)
        TOUCHES.get(touch, snapshot)(model)  # leaves every bit as it is
        second.apply_(model, switch=True)
        assert len(hashed) == 2
        assert snapshot(model) == with_delta(second)
        second.remove_(model)
        assert snapshot(model) == base


def test_a_base_that_has_changed_keeps_the_first_delta() -> None:
    model = tiny_model()
    first, second = tiny_delta(model), other_delta(model)
    first.apply_(model)
    with torch.no_grad():
        model.norm.bias.view(torch.int32)[0] ^= 1
    message = refusal(second, model, DeltaStateError, switch=True)
    assert "something else changed the model while a delta (task toy, " in message
    assert "still on it: " in message and "norm.bias" in message
    with torch.no_grad():
        model.norm.bias.view(torch.int32)[0] ^= 1
    second.apply_(model, switch=True)
    assert snapshot(model) == with_delta(second)


def test_a_write_behind_torchs_back_is_reported_on_removal() -> None:
    model = tiny_model()
    first, second = tiny_delta(model), other_delta(model)
    first.apply_(model)
    model.norm.bias.detach().numpy().view("int32")[0] ^= 1
    second.apply_(model, switch=True)
    with pytest.raises(DeltaStateError, match=r"something else changed the model .*norm\.bias"):
        second.remove_(model)
    assert applied_digest(model) is None


def test_a_switch_to_another_base_is_refused_and_to_another_head_hashes(hashed: list[int]) -> None:
    model = tiny_model()
    first, tail = tiny_delta(model), HEAD[1:]
    small = {"classifier.bias": DenseValues(torch.zeros(2))}
    shorter = TaskDelta.create(small, base=base_fingerprint(model, head=tail), head=tail)
    headless = TaskDelta.create({"dense.weight": KeepMask(pattern((8, 8), 3))}, base=base_fingerprint(model))
    first.apply_(model)
    assert "'tiny'" in refusal(other_delta(tiny_model(seed=1)), model, BaseMismatchError, switch=True)
    message = refusal(shorter, model, BaseMismatchError, switch=True)
    assert "classifier.bias has shape (3,) here and (2,) in the delta's head: load the base with the task's" in message
    hashed.clear()
    headless.apply_(model, switch=True)  # its base has the classifier among its tensors, so it is another fingerprint
    assert len(hashed) == 1
    assert snapshot(model) == with_delta(headless)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", FLOATS)
def test_on_a_device_and_across_devices(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(11)
    model = Strange(dtype, generator)
    made = [random_changes(model, generator) for _ in range(3)]
    base, deltas = snapshot(model), [coded(model, made[number], number) for number in range(3)]
    expected = [expected_with(model, changes) for changes in made]
    decoded = [delta.decode(model) for delta in deltas]
    model.to("cuda")
    for turn in range(6):
        deltas[turn % 3].apply_(model, decoded[turn % 3] if turn > 2 else None, switch=True, threads=3)
        assert snapshot(model) == expected[turn % 3]
        if turn == 3:
            model.to("cpu")
    deltas[2].remove_(model)
    assert snapshot(model) == base
