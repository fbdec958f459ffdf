import copy
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from deltas.any_changes import bits, same, tensors_and_changes
from deltas.tiny_deltas import HEAD, pattern, snapshot, tiny_delta, tiny_model, unchanged
from supermask.deltas import (
    Change,
    ChangePlace,
    DenseValues,
    KeepMask,
    SparseValues,
    TaskDelta,
    base_fingerprint,
    fingerprint,
    named_tensors,
)
from supermask.deltas.file import Payloads
from supermask.deltas.payloads import StoredChanges
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError, DeltaStateError


def test_what_a_delta_says_of_itself() -> None:
    model = tiny_model()
    delta = tiny_delta(model, base_revision="abc", training={"config": {"seed": 3}})
    assert delta.base == base_fingerprint(model, head=HEAD)
    assert (delta.head, delta.method.kind, delta.task.name, delta.training.seed) == (HEAD, "supermask", "toy", 3)
    assert (delta.zeros, delta.weights, delta.sparsity) == (114, 208, 114 / 208)
    assert list(delta.changes_for({}))[:2] == ["dense.weight", "embedding.weight"]
    assert "task='toy'" in repr(delta)
    assert "zeros=114 of 208 weights" in repr(delta)


def test_equality_is_by_content() -> None:
    model = tiny_model()
    assert tiny_delta(model) == tiny_delta(model)
    assert hash(tiny_delta(model)) == hash(tiny_delta(model))
    assert tiny_delta(model) != tiny_delta(model, task={})
    assert tiny_delta(model) != "delta"


def test_deltas_can_be_copied_and_sent_to_other_processes() -> None:
    delta = tiny_delta(tiny_model())
    assert copy.deepcopy(delta) == delta
    assert pickle.loads(pickle.dumps(delta)).payloads == delta.payloads


def test_changes_that_are_written_to_do_not_change_the_delta() -> None:
    delta = tiny_delta(tiny_model())
    before = delta.digest
    for change in delta.changes_for({}).values():
        (change.values if isinstance(change, DenseValues) else change.keep).zero_()
    delta.method.settings["name"] = "changed"
    assert delta.digest == before
    assert int((~pattern((8, 8), 4)).sum()) == delta.changes_for({})["dense.weight"].zeros  # type: ignore[union-attr]


def test_a_delta_without_masks_has_no_sparsity() -> None:
    model = nn.Linear(2, 2)
    delta = TaskDelta.create(
        {"bias": DenseValues(torch.zeros(2))}, base=base_fingerprint(model, head=["bias"]), head=["bias"]
    )
    assert (delta.zeros, delta.weights, delta.sparsity) == (0, 0, 0.0)


def test_masks_of_any_device_and_layout_are_stored_alike() -> None:
    model = nn.Linear(8, 6)
    keep = pattern((8, 6), 5).t()
    one, two = (
        TaskDelta.create({"weight": KeepMask(mask)}, base=base_fingerprint(model)) for mask in (keep, keep.contiguous())
    )
    assert one == two


ONES = {"weight": DenseValues(torch.ones(2, 2))}


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {}, "a delta without changes would have no effect"),
        ({"nowhere": KeepMask(torch.ones(2, 2, dtype=torch.bool))}, {}, "nowhere: changed, but neither"),
        ({"weight": DenseValues(torch.ones(2, 2).bool())}, {}, "^weight: torch.bool values cannot be stored"),
        ({"weight": DenseValues(torch.ones(2, 2).cfloat())}, {}, "^weight: torch.complex64 values cannot"),
        (ONES, {"head": ["bias"]}, "bias: a head tensor comes with dense values"),
        ({"bias": KeepMask(torch.ones(2).bool())}, {"head": ["bias"]}, "bias: a head tensor comes with dense"),
        (ONES, {"training": {"notes": {"loss": float("nan")}}}, "loss: nan is no JSON"),
        (
            ONES,
            {"training": {"seed": 0}},
            "training: 'seed' is no field; fields: .*, notes; anything else goes into notes",
        ),
        (ONES, {"method": {"labels": {1, 2}}}, "method"),
        (ONES, {"method": {1: 2}}, "method"),
        (ONES, {"places": {"weight": ChangePlace(block=-1)}}, "block"),
        (ONES, {"base_name": "a\x1b[31m"}, "base.name|name"),
        (ONES, {"training": {"notes": {"text": " " * (4 << 20)}}}, "cannot be stored: its document"),
    ],
)
def test_what_cannot_be_stored_is_refused_when_it_is_made(
    changes: dict[str, Change], options: dict[str, Any], message: str
) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ConfigurationError, match=message):
        TaskDelta.create(changes, base=base_fingerprint(model, head=options.get("head", [])), **options)


@pytest.mark.parametrize("against", [False, True])
@settings(max_examples=60)
@given(tensors_and_changes())
def test_any_delta_is_stored_applied_and_removed_exactly(
    tmp_path_factory: pytest.TempPathFactory, against: bool, drawn: tuple[dict[str, Tensor], dict[str, Change]]
) -> None:
    tensors, changes = drawn
    model = nn.Module()
    for name, tensor in tensors.items():
        model.register_buffer(name, tensor.clone())
    delta = TaskDelta.create(changes, base=base_fingerprint(model), base_tensors=tensors if against else None)
    path = tmp_path_factory.mktemp("delta") / "d.safetensors"
    loaded = TaskDelta.load(delta.save(path))
    assert loaded == delta
    assert path.stat().st_size == delta.nbytes_on_disk()
    assert all(same(loaded.changes_for(tensors)[name], change) for name, change in changes.items())
    with unchanged(model):
        loaded.apply_(model)
        found = snapshot(model)
        for name, tensor in tensors.items():
            assert found[name] == bits(changes[name].apply(tensor) if name in changes else tensor)
        loaded.remove_(model)


# Coding anew.


def structured() -> tuple[dict[str, Tensor], dict[str, Change]]:
    """A base, and what training may have done to it: small weights dropped, rows dropped, values moved a little."""
    generator = torch.Generator().manual_seed(0)
    base = {name: torch.randn(96, 128, generator=generator) * 0.05 for name in ("small", "rows", "pruned", "tuned")}
    chance = torch.rand(96, 128, generator=generator)
    rows = torch.where(torch.arange(96) % 8 == 0, 0.4, 0.01).unsqueeze(1)
    moved = {name: base[name] + 1e-4 * torch.randn(96, 128, generator=generator) for name in ("pruned", "tuned")}
    keep = moved["pruned"].abs() > 0.02
    return base, {
        "small": KeepMask((base["small"].abs() > 0.02) | (chance < 0.1)),
        "rows": KeepMask(chance > rows),
        "pruned": SparseValues(keep, moved["pruned"][keep]),
        "tuned": DenseValues(moved["tuned"]),
        "head": DenseValues(torch.randn(2, 128, generator=generator)),
    }


def structured_delta(**options: Any) -> TaskDelta:
    base, changes = structured()
    return TaskDelta.create(changes, base=fingerprint(base), head=["head"], **options)


def require_same_changes(delta: TaskDelta, base: Any, changes: Mapping[str, Change]) -> None:
    found = delta.changes_for(base)
    assert list(found) == list(changes)
    assert all(same(found[name], change) for name, change in changes.items())


@settings(max_examples=60)
@given(tensors_and_changes(sides=12))
def test_recoding_keeps_every_bit_of_every_change(drawn: tuple[dict[str, Tensor], dict[str, Change]]) -> None:
    tensors, changes = drawn
    plain = TaskDelta.create(changes, base=fingerprint(tensors))
    against = plain.recode(tensors)
    require_same_changes(against, tensors, changes)
    alone = against.recode(tensors, self_contained=True)
    assert not alone.needs_base
    require_same_changes(alone, {}, changes)
    assert alone == plain
    assert against == TaskDelta.create(changes, base=fingerprint(tensors), base_tensors=tensors)
    assert against.nbytes_on_disk() <= plain.nbytes_on_disk() + 64  # names of codings in the compressed document


def test_recoding_keeps_what_is_said_of_the_delta() -> None:
    model = tiny_model()
    old = tiny_delta(model, base_name="ß/base", training={"steps": 3, "scores": {"dev": {"f1": 0.1}}})
    new = old.recode(model)
    for field in ("head", "method", "task", "training", "base"):
        assert getattr(new.document, field) == getattr(old.document, field)
    places = {record.name: (record.role, record.block) for record in new.document.changes}
    assert places == {record.name: (record.role, record.block) for record in old.document.changes}
    assert places["dense.weight"] == ("query", 0)


def test_a_structured_delta_is_smaller_against_its_base() -> None:
    base, changes = structured()
    alone, against = structured_delta(), structured_delta().recode(base)
    require_same_changes(against, base, changes)
    sizes = {name: [tuple(map(len, delta.payloads[name])) for delta in (alone, against)] for name in changes}
    (small, smaller), (pruned, fewer), (tuned, nearer) = (sizes[name] for name in ("small", "pruned", "tuned"))
    assert smaller[0] < 0.6 * small[0]
    assert fewer[0] < 0.2 * pruned[0] and fewer[1] < 0.7 * pruned[1]
    assert nearer[1] < 0.7 * tuned[1]
    assert sizes["rows"][0] == sizes["rows"][1] and sizes["head"][0] == sizes["head"][1]  # which need no base
    assert against.needs_base and not alone.needs_base
    assert against.recode(base, self_contained=True) == alone
    with pytest.raises(DeltaStateError, match=r"^small: .*pass the base"):
        against.recode({})


# The base that is coded against must be the delta's own.


def test_another_base_is_refused_when_coding_against_it() -> None:
    base, _ = structured()
    other = {**base, "small": base["small"] + 1, "tuned": -base["tuned"]}
    for make in (
        lambda: structured_delta(base_tensors=other),
        lambda: structured_delta().recode(other),
        lambda: structured_delta(base_tensors=base).recode(other),
        lambda: structured_delta(base_tensors=base).recode(other, self_contained=True),
    ):
        with pytest.raises(BaseMismatchError, match=r"2 of 4 tensors differ \(small, tuned\)"):
            make()
    assert structured_delta().recode(other, self_contained=True) == structured_delta()


def test_a_base_with_a_delta_on_it_is_no_base() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    with delta.applied(model), pytest.raises(BaseMismatchError, match="nothing attached and no delta on it"):
        delta.recode(model)
    assert delta.recode(model) == tiny_delta(model, base_tensors=named_tensors(model))


def test_a_change_must_have_the_shape_of_the_base() -> None:
    base = {"w": torch.ones(2, 3)}
    with pytest.raises(BaseMismatchError, match=r"^w: the change has shape \(3, 2\), and the base's is \(2, 3\)"):
        TaskDelta.create({"w": DenseValues(torch.ones(3, 2))}, base=fingerprint(base), base_tensors=base)


def test_neither_the_head_nor_what_is_not_at_hand_is_coded_against_a_base() -> None:
    model = tiny_model()
    changes: dict[str, Change] = {name: DenseValues(named_tensors(model)[name].detach().clone()) for name in HEAD}
    expected = base_fingerprint(model, head=HEAD)
    assert not TaskDelta.create(changes, base=expected, base_tensors=named_tensors(model), head=HEAD).needs_base
    base, structured_changes = structured()
    partly = structured_delta(base_tensors={"small": base["small"]})
    require_same_changes(partly, {"small": base["small"]}, structured_changes)


def test_a_base_in_another_dtype_than_the_values_is_done_without() -> None:
    base = {"w": torch.randn(64, generator=torch.Generator().manual_seed(0))}
    values = base["w"].double() + 1e-9
    delta = TaskDelta.create({"w": DenseValues(values)}, base=fingerprint(base), base_tensors=base)
    assert not delta.needs_base
    assert same(delta.changes_for({})["w"], DenseValues(values))


# Decoding once.


@pytest.mark.parametrize("threads", [None, 1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_decoded_changes_do_what_the_coded_ones_do(dtype: torch.dtype, threads: int | None) -> None:
    model = tiny_model(dtype)
    delta = tiny_delta(model, base_tensors=named_tensors(model))
    decoded = delta.decode(model, threads=threads)
    assert list(decoded) == [record.name for record in delta.document.changes]
    with delta.applied(model):
        expected = snapshot(model)
    for _ in range(2):
        with unchanged(model), delta.applied(model, decoded, threads=threads) as applied:
            assert applied is model
            assert snapshot(model) == expected
            assert delta.is_applied(model)
    twins = pickle.loads(pickle.dumps(decoded))
    with unchanged(model), delta.applied(model, twins):
        assert snapshot(model) == expected


def test_nothing_is_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    decoded = delta.decode(named_tensors(copy.deepcopy(model)))

    def refuse(changes: StoredChanges, name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(StoredChanges, "__getitem__", refuse)
    with unchanged(model), delta.applied(model, decoded):
        pass


def test_memory_is_that_of_the_smallest_form() -> None:
    model = nn.Linear(64, 100)
    for every, nbytes in ((100, 4 * 64), (4, 6400 // 8)):
        mask = KeepMask(pattern((100, 64), every))
        found = TaskDelta.create({"weight": mask}, base=base_fingerprint(model)).decode(model)["weight"]
        assert isinstance(found, KeepMask) and found.dropped.nbytes == nbytes


def test_decoding_needs_the_base() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    for verify in (True, False):
        with pytest.raises(BaseMismatchError, match="load the base with the task's number of labels"):
            delta.decode(tiny_model(labels=2), verify=verify)
    with pytest.raises(BaseMismatchError, match="differ"):
        delta.decode(tiny_model(seed=1))
    with delta.applied(model), pytest.raises(DeltaStateError, match="remove the delta first"):
        delta.decode(model)


def test_a_delta_that_does_not_decode_is_refused() -> None:
    model = tiny_model()
    delta = tiny_delta(model)
    payloads = {**delta.payloads, "dense.weight": Payloads(keep=b"\xff" * len(delta.payloads["dense.weight"].keep))}
    with pytest.raises(DeltaFormatError, match=r"dense\.weight"):
        TaskDelta(delta.document, payloads).decode(model)
