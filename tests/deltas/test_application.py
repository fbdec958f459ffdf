from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from deltas.tiny_deltas import HEAD, TinyModel, pattern, snapshot, surface, tiny_delta, tiny_model, unchanged
from supermask.deltas import Change, KeepMask, SparseValues, TaskDelta, base_fingerprint, mask_kernels
from supermask.deltas.application import applied_digest
from supermask.deltas.payloads import StoredChanges
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError, DeltaStateError

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def expected_bits(model: nn.Module, delta: TaskDelta) -> dict[str, bytes]:
    """What the model should hold with the delta on it, by slow means: a list of integers a tensor."""
    found = snapshot(model)
    size = next(model.parameters()).element_size()
    for name, change in delta.changes_for(model).items():
        old = [found[name][at : at + size] for at in range(0, len(found[name]), size)]
        if isinstance(change, KeepMask):
            kept = change.keep.reshape(-1).tolist()
            new = [element if keep else b"\0" * size for element, keep in zip(old, kept, strict=True)]
        else:
            flat = bytes(change.values.reshape(-1).view(torch.uint8).tolist())
            values = iter([flat[at : at + size] for at in range(0, len(flat), size)])
            kept = change.keep.reshape(-1).tolist() if isinstance(change, SparseValues) else [True] * len(old)
            new = [next(values) if keep else b"\0" * size for keep in kept]
        found[name] = b"".join(new)
    found["decoder.weight"] = found["embedding.weight"]
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [True, False])
def test_apply_changes_exactly_what_it_says_and_remove_restores_every_bit(dtype: torch.dtype, training: bool) -> None:
    model = tiny_model(dtype).train(training)
    delta = tiny_delta(model)
    expected, outside = expected_bits(model, delta), surface(model)
    with unchanged(model):
        assert delta.apply_(model) is model
        assert snapshot(model) == expected
        assert surface(model) == outside
        assert delta.remove_(model) is model
    with unchanged(model), delta.applied(model) as applied:
        assert applied is model
        assert snapshot(model) == expected


def test_dropped_weights_are_plus_zero() -> None:
    model = tiny_model()
    with tiny_delta(model).applied(model):
        dropped = model.dense.weight.detach()[~pattern((8, 8), 4)]
        assert dropped.view(torch.int32).tolist() == [0] * 16


def test_tied_weights_stay_tied() -> None:
    model = tiny_model()
    with tiny_delta(model).applied(model):
        assert model.decoder.weight is model.embedding.weight
        assert model.decoder.weight.count_nonzero() <= 14


def test_a_head_of_any_state_is_replaced_and_given_back() -> None:
    delta = tiny_delta(tiny_model())
    model = tiny_model()
    with torch.no_grad():
        model.classifier.weight.fill_(123.0)
    with unchanged(model), delta.applied(model):
        assert model.classifier.weight.tolist() == torch.linspace(-1, 1, 24).reshape(3, 8).tolist()


def test_gradients_and_graphs_do_not_see_the_change() -> None:
    model = tiny_model()
    model.dense.weight.grad = torch.ones(8, 8)
    with tiny_delta(model).applied(model):
        assert model.dense.weight.is_leaf
        assert model.dense.weight.grad_fn is None
        assert model.dense.weight.grad.tolist() == torch.ones(8, 8).tolist()


def test_it_works_under_inference_mode_of_the_caller() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    with torch.inference_mode(), unchanged(model):
        delta.apply_(model)
        delta.remove_(model)


# Refusals: each leaves the model as it is.


def refusal(delta: TaskDelta, model: nn.Module, error: type[Exception]) -> str:
    with unchanged(model), pytest.raises(error) as caught:
        delta.apply_(model)
    assert applied_digest(model) is None
    return str(caught.value)


def test_one_changed_bit_of_the_base_is_refused_by_name() -> None:
    delta = tiny_delta(tiny_model())
    model = tiny_model()
    with torch.no_grad():
        model.norm.bias.view(torch.int32)[3] ^= 1
    message = refusal(delta, model, BaseMismatchError)
    assert "the base 'tiny'" in message
    assert "1 of 9 tensors differ (norm.bias)" in message


def test_another_base_is_refused() -> None:
    assert "differ" in refusal(tiny_delta(tiny_model()), tiny_model(seed=1), BaseMismatchError)
    message = refusal(tiny_delta(tiny_model()), nn.Linear(2, 2), BaseMismatchError)
    assert "dense.weight of the delta's base is missing here" in message
    assert message.endswith("and 3 more")


def test_another_dtype_is_refused_with_the_remedy() -> None:
    message = refusal(tiny_delta(tiny_model()), tiny_model(torch.bfloat16), BaseMismatchError)
    assert "is bfloat16 here, not float32: load the base with dtype=torch.float32" in message
    model = tiny_model()
    delta = TaskDelta.create({"dense.weight": KeepMask(pattern((8, 8), 2))}, base=base_fingerprint(model))
    assert "load it with dtype=torch.float32" in refusal(delta, tiny_model(torch.float16), BaseMismatchError)


def test_a_head_of_another_shape_is_refused_with_the_remedy() -> None:
    message = refusal(tiny_delta(tiny_model()), tiny_model(labels=2), BaseMismatchError)
    assert "classifier.weight has shape (2, 8) here and (3, 8) in the delta's head" in message
    assert "load the base with the task's number of labels" in message


def test_a_model_without_values_is_refused() -> None:
    with torch.device("meta"):
        model = TinyModel()
    with pytest.raises(BaseMismatchError, match="meta device"):
        tiny_delta(tiny_model()).apply_(model)


def test_one_tensor_under_two_changed_names_is_refused() -> None:
    untied = tiny_model()
    untied.decoder.weight = nn.Parameter(untied.embedding.weight.detach().clone())
    keep = KeepMask(pattern((12, 8), 5))
    changes = {"embedding.weight": keep, "decoder.weight": keep}
    delta = TaskDelta.create(changes, base=base_fingerprint(untied))
    message = refusal(delta, tiny_model(), BaseMismatchError)
    assert "decoder.weight and embedding.weight are one tensor here and two in the delta" in message


def test_a_second_delta_is_refused() -> None:
    model = tiny_model()
    first, second = tiny_delta(model), tiny_delta(model, task={"name": "other"})
    first.apply_(model)
    for delta, name in ((first, "toy"), (second, "other")):
        message = (
            rf"a delta \(task toy, method supermask\) is applied .* another \(task {name}, method supermask\) cannot "
            "be; remove it first, or pass switch=True"
        )
        with unchanged(model), pytest.raises(DeltaStateError, match=message):
            delta.apply_(model)
    assert first.is_applied(model)
    assert not second.is_applied(model)


def test_removing_what_is_not_there_is_refused() -> None:
    model = tiny_model()
    first, second = tiny_delta(model), tiny_delta(model, task={"name": "other"})
    with unchanged(model), pytest.raises(DeltaStateError, match="no delta is applied"):
        first.remove_(model)
    first.apply_(model)
    with unchanged(model), pytest.raises(DeltaStateError, match=r"another delta \(task toy, method supermask\)"):
        second.remove_(model)
    first.remove_(model)
    with unchanged(model), pytest.raises(DeltaStateError, match="no delta is applied"):
        first.remove_(model)


def test_a_parametrised_model_is_refused() -> None:
    model = tiny_model()
    delta = tiny_delta(model)

    class Same(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight

    parametrize.register_parametrization(model.dense, "weight", Same())
    with pytest.raises(DeltaStateError, match=r"module 'dense' is parametrised.*detach the method first"):
        delta.apply_(model)
    assert applied_digest(model) is None


# What may happen between apply and remove.


def test_an_equal_delta_removes_what_another_object_applied(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = tiny_model()
    path = tiny_delta(model).save(tmp_path_factory.mktemp("delta") / "d.safetensors")
    with unchanged(model):
        TaskDelta.load(path).apply_(model)
        TaskDelta.load(path).remove_(model)


def test_writing_to_a_mask_after_applying_it_changes_nothing() -> None:
    model = tiny_model()
    keep = pattern((8, 8), 4)
    delta = TaskDelta.create({"dense.weight": KeepMask(keep)}, base=base_fingerprint(model))
    with unchanged(model):
        keep.fill_(False)
        delta.apply_(model)
        assert int((model.dense.weight.view(torch.int32) == 0).sum()) == 16
        delta.remove_(model)


def test_training_in_between_is_noticed() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    delta.apply_(model)
    with torch.no_grad():
        model.dense.bias.zero_()
    with pytest.raises(
        DeltaStateError, match=r"the delta is removed, but something else changed the model .*dense\.bias"
    ):
        delta.remove_(model)
    assert applied_digest(model) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32])
def test_a_model_that_was_converted_in_between_is_not_touched(dtype: torch.dtype) -> None:
    model = nn.Linear(8, 8)
    delta = TaskDelta.create({"weight": KeepMask(pattern((8, 8), 4))}, base=base_fingerprint(model))
    delta.apply_(model)
    model.weight = nn.Parameter(model.weight.detach().to(dtype), requires_grad=False)
    with (
        unchanged(model),
        pytest.raises(DeltaStateError, match=r"was converted after .*: weight is .*float32"),
    ):
        delta.remove_(model)


def test_a_copy_of_a_model_with_a_delta_is_no_base() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    delta.apply_(model)
    twin = copy.deepcopy(model)
    assert applied_digest(twin) is None
    refusal(delta, twin, BaseMismatchError)


def test_the_model_is_not_kept_alive() -> None:
    model = tiny_model()
    tiny_delta(model).apply_(model)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


def test_without_verification_only_shapes_and_dtypes_are_checked() -> None:
    delta = tiny_delta(tiny_model())
    model = tiny_model(seed=1)
    with unchanged(model), delta.applied(model, verify=False):
        assert not bool(model.dense.weight.detach()[~pattern((8, 8), 4)].any())
    with unchanged(model), pytest.raises(BaseMismatchError):
        delta.apply_(model)


# Failures in the middle.


@pytest.mark.parametrize("error", [DeltaFormatError, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("at", ["dense.weight", "transposed.weight", "classifier.bias"])
def test_everything_is_undone_on_a_failure(
    monkeypatch: pytest.MonkeyPatch, at: str, error: type[BaseException]
) -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    decode = StoredChanges.__getitem__

    def failing(changes: StoredChanges, name: str) -> Change:
        if name == at:
            raise error(name)
        return decode(changes, name)

    with monkeypatch.context() as patch:
        patch.setattr(StoredChanges, "__getitem__", failing)
        with unchanged(model), pytest.raises(error):
            delta.apply_(model)
    assert applied_digest(model) is None
    with unchanged(model):
        delta.apply_(model)
        delta.remove_(model)


@pytest.mark.parametrize("late", [False, True])
def test_a_failure_within_a_tensor_is_undone(monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    lift = mask_kernels.lift_bits

    def failing(*arguments: object) -> None:
        if late:
            lift(*arguments)
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(mask_kernels, "lift_bits", failing)
        with unchanged(model), pytest.raises(RuntimeError, match="out of memory"):
            delta.apply_(model)
    assert applied_digest(model) is None


@pytest.mark.parametrize("threads", [0, -2])
def test_no_threads_are_refused(threads: int) -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    for use in (delta.apply_, lambda model, threads: delta.decode(model, threads=threads)):
        with unchanged(model), pytest.raises(ConfigurationError, match="threads must be at least 1"):
            use(model, threads=threads)
    assert applied_digest(model) is None


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_on_a_device_and_across_devices(dtype: torch.dtype) -> None:
    model = tiny_model(dtype)
    delta = tiny_delta(model)
    expected = expected_bits(model, delta)
    before = snapshot(model)
    model.to("cuda")
    delta.apply_(model)
    assert snapshot(model) == expected
    delta.remove_(model)
    assert snapshot(model) == before
    delta.apply_(model)
    model.to("cpu")
    delta.remove_(model)
    assert snapshot(model) == before
    assert base_fingerprint(model, head=HEAD) == delta.base
