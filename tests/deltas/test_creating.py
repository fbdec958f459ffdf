"""Deltas made and made anew: against the base and without it, exact and rounded."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from deltas import reference_version_1
from deltas.any_changes import bits, same, tensors_and_changes
from deltas.tiny_deltas import HEAD, snapshot, tiny_changes, tiny_delta, tiny_model, unchanged
from deltas.tiny_files import file_bytes, load_bytes
from supermask import load_base
from supermask.deltas import (
    Change,
    DenseValues,
    KeepMask,
    SparseValues,
    TaskDelta,
    base_fingerprint,
    fingerprint,
    named_tensors,
)
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaStateError

RESULTS = Path(__file__).parents[2] / "results" / "minilm-l6"
REAL = [RESULTS / task / "supermask-seed0.delta.safetensors" for task in ("rte", "sst2")]


def require_same_changes(delta: TaskDelta, base: Any, changes: dict[str, Change]) -> None:
    found = delta.changes_for(base)
    assert list(found) == list(changes)
    assert all(same(found[name], change) for name, change in changes.items())


def tiny_delta_1(model: nn.Module, folder: Path, **described: Any) -> TaskDelta:
    """The tiny delta, loaded from a file of version 1."""
    changes, usual = tiny_changes(model)
    base = {name: tensor for name, tensor in named_tensors(model).items() if name not in HEAD}
    return load_bytes(folder, reference_version_1.file_bytes(changes, base=base, **{**usual, **described}))


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


# Coding anew.


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_delta_of_version_1_becomes_the_same_in_version_2(tmp_path: Path, dtype: torch.dtype) -> None:
    model = tiny_model(dtype)
    old = tiny_delta_1(model, tmp_path)
    assert old.document.version == 1
    for options in ({}, {"self_contained": True}):
        new = old.recode(model, **options)
        assert new == tiny_delta(model, base_tensors=None if options else named_tensors(model))
        assert load_bytes(tmp_path, file_bytes(new)) == new
        require_same_changes(new, model, tiny_changes(model)[0])
        with unchanged(model):
            with old.applied(model):
                before = snapshot(model)
            with new.applied(model):
                assert snapshot(model) == before
    assert old.recode({}, self_contained=True) == tiny_delta(model)


def test_recoding_keeps_what_is_said_of_the_delta(tmp_path: Path) -> None:
    model = tiny_model()
    described: dict[str, Any] = {"base_name": "ß/base", "training": {"seed": 3, "scores": {"f1": 0.1}}}
    new = tiny_delta_1(model, tmp_path, **described).recode(model)
    old = tiny_delta(model, **described).document
    for field in ("head", "method", "task", "training", "base"):
        assert getattr(new.document, field) == getattr(old, field)
    places = {record.name: (record.role, record.block) for record in new.document.changes}
    assert places == {record.name: (record.role, record.block) for record in old.changes}
    assert places["dense.weight"] == ("query", 0)


def test_a_structured_delta_is_smaller_against_its_base() -> None:
    base, changes = structured()
    alone, against = structured_delta(), structured_delta().recode(base)
    require_same_changes(against, base, changes)

    def sizes(delta: TaskDelta, part: str) -> dict[str, int]:
        return {name: len(data) for name, data in delta.payloads.items() if name.endswith(part)}

    masks, values = sizes(alone, ":keep"), sizes(alone, ":values")
    smaller_masks, smaller_values = sizes(against, ":keep"), sizes(against, ":values")
    assert smaller_masks["small:keep"] < 0.6 * masks["small:keep"]
    assert smaller_masks["pruned:keep"] < 0.2 * masks["pruned:keep"]
    assert smaller_masks["rows:keep"] == masks["rows:keep"]  # which needs no base
    assert smaller_values["tuned:values"] < 0.7 * values["tuned:values"]
    assert smaller_values["pruned:values"] < 0.7 * values["pruned:values"]
    assert smaller_values["head:values"] == values["head:values"]
    assert against.needs_base and not alone.needs_base
    assert against.recode(base, self_contained=True) == alone


@pytest.mark.slow
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.parent.name)
def test_learnt_deltas_are_smaller_in_version_2_and_the_same(path: Path, tmp_path: Path) -> None:
    base = named_tensors(load_base("minilm-l6", num_labels=2).model)
    old = TaskDelta.load(path)
    if old.document.version != 1:
        pytest.skip("learnt in version 2")
    new = load_bytes(tmp_path, file_bytes(old.recode(base)))
    assert new.needs_base
    assert new.nbytes_on_disk() < 0.94 * old.nbytes_on_disk()
    assert old.changes_for({}).keys() == new.changes_for(base).keys()
    assert all(same(new.changes_for(base)[name], change) for name, change in old.changes_for({}).items())
    assert new.recode(base, self_contained=True) == old.recode({}, self_contained=True)


def test_without_the_base_only_what_was_coded_without_is_decoded() -> None:
    base, changes = structured()
    delta = structured_delta(base_tensors=base)
    found = delta.changes_for({})
    assert same(found["head"], changes["head"])
    assert same(found["rows"], changes["rows"])
    for name in ("small", "pruned", "tuned"):
        with pytest.raises(DeltaStateError, match=rf"^{name}: .*pass the base"):
            found[name]
    with pytest.raises(DeltaStateError, match=r"^small: .*pass the base"):
        delta.recode({})


# The base that is coded against must be the delta's own.


def test_another_base_is_refused_when_coding_against_it() -> None:
    base, _ = structured()
    other = {**base, "small": base["small"] + 1, "tuned": -base["tuned"]}
    message = r"2 of 4 tensors are not the base's \(small, tuned\); pass the base as it was loaded"
    for make in (
        lambda: structured_delta(base_tensors=other),
        lambda: structured_delta().recode(other),
        lambda: structured_delta(base_tensors=base).recode(other),
        lambda: structured_delta(base_tensors=base).recode(other, self_contained=True),
    ):
        with pytest.raises(BaseMismatchError, match=message):
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


def test_the_head_is_never_coded_against_the_model_that_was_trained() -> None:
    model = tiny_model()
    changes: dict[str, Change] = {name: DenseValues(named_tensors(model)[name].detach().clone()) for name in HEAD}
    delta = TaskDelta.create(
        changes, base=base_fingerprint(model, head=HEAD), base_tensors=named_tensors(model), head=HEAD
    )
    assert not delta.needs_base
    require_same_changes(delta, {}, changes)


def test_what_the_base_tensors_lack_is_coded_by_itself() -> None:
    base, changes = structured()
    delta = structured_delta(base_tensors={"small": base["small"]})
    assert {record.name: record.values.coding for record in delta.document.changes if record.values} == {
        name: record.values.coding
        for record in structured_delta().document.changes
        if record.values
        for name in [record.name]
    }
    require_same_changes(delta, {"small": base["small"]}, changes)


def test_a_base_in_another_dtype_than_the_values_is_done_without() -> None:
    base = {"w": torch.randn(64, generator=torch.Generator().manual_seed(0))}
    values = base["w"].double() + 1e-9
    delta = TaskDelta.create({"w": DenseValues(values)}, base=fingerprint(base), base_tensors=base)
    assert not delta.needs_base
    assert same(delta.changes_for({})["w"], DenseValues(values))


# Rounding.


def rounded_by_hand(value: float, precision: int) -> float:
    """A normal number to so many significant bits, ties to even."""
    exact, step = abs(Fraction(value)), Fraction(1)
    while exact >= step * 2**precision:
        step *= 2
    while exact < step * 2 ** (precision - 1):
        step /= 2
    return float(round(Fraction(value) / step) * step)


@pytest.mark.parametrize(("kind", "precision"), [("bfloat16", 8), ("float16", 11)])
@pytest.mark.parametrize("against", [False, True])
def test_rounding_is_exact_and_labelled(tmp_path: Path, kind: Any, precision: int, against: bool) -> None:
    base, changes = structured()
    delta = structured_delta(round_values=kind, base_tensors=base if against else None)
    delta = load_bytes(tmp_path, file_bytes(delta))
    assert {record.name: (record.rounded, record.dtype) for record in delta.document.changes} == {
        "small": (None, None),
        "rows": (None, None),
        "pruned": (kind, "float32"),
        "tuned": (kind, "float32"),
        "head": (kind, "float32"),
    }
    assert delta.digest != structured_delta(base_tensors=base if against else None).digest
    found = delta.changes_for(base)
    for name in ("pruned", "tuned", "head"):
        change, exact = found[name], changes[name]
        assert isinstance(change, DenseValues | SparseValues) and isinstance(exact, DenseValues | SparseValues)
        assert change.values.dtype is torch.float32
        pairs = list(zip(change.values.reshape(-1).tolist(), exact.values.reshape(-1).tolist(), strict=True))
        for value, was in pairs[::10]:
            if abs(was) > 2**-13:
                assert value == rounded_by_hand(was, precision)
            elif kind == "float16":
                assert value == struct.unpack("<e", struct.pack("<e", was))[0]
    for name in ("small", "rows"):
        assert same(found[name], changes[name])
    exact_size = structured_delta(base_tensors=base if against else None).nbytes_on_disk()
    assert delta.nbytes_on_disk() < (0.5 if against else 0.6) * exact_size


def test_rounding_takes_every_dtype_of_32_bits_or_more_and_leaves_the_others() -> None:
    values = {
        "double": torch.tensor([1 + 2**-8 + 2**-40, 1 + 2**-8, -0.0], dtype=torch.float64),
        "single": torch.tensor([1 + 2**-8, float("inf"), float("nan"), 1e-42]),
        "half": torch.tensor([1.001], dtype=torch.float16),
        "bf": torch.tensor([1.001], dtype=torch.bfloat16),
        "integer": torch.tensor([(1 << 40) + 1]),
    }
    base = {name: torch.zeros_like(tensor) for name, tensor in values.items()}
    changes = {name: DenseValues(tensor) for name, tensor in values.items()}
    delta = TaskDelta.create(changes, base=fingerprint(base), base_tensors=base, round_values="bfloat16")
    rounded = {record.name: record.rounded for record in delta.document.changes}
    assert rounded == {"double": "bfloat16", "single": "bfloat16", "half": None, "bf": None, "integer": None}
    found = {name: change.values for name, change in delta.changes_for(base).items()}  # type: ignore[union-attr]
    assert found["double"].tolist() == [1 + 2**-7, 1.0, -0.0]
    assert bits(found["double"])[-8:] == struct.pack("<d", -0.0)
    assert bits(found["single"]) == struct.pack("<4I", 0x3F800000, 0x7F800000, 0x7FC00000, 0)
    for name in ("half", "bf", "integer"):
        assert bits(found[name]) == bits(values[name])


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_a_base_beyond_the_range_of_16_bits_is_coded_against_all_the_same(kind: Any) -> None:
    odd = [float("inf"), float("-inf"), float("nan"), 3.4e38, -3.4e38, 7e4, 1e-45, -0.0]
    base = {"w": torch.tensor(odd * 40).reshape(8, 40)}
    values = torch.linspace(-2, 2, 320).reshape(8, 40)
    keep = torch.arange(320).reshape(8, 40) % 3 > 0
    for change in (DenseValues(values), SparseValues(keep, values[keep])):
        delta = TaskDelta.create({"w": change}, base=fingerprint(base), base_tensors=base, round_values=kind)
        found = delta.changes_for(base)["w"]
        alone = TaskDelta.create({"w": change}, base=fingerprint(base), round_values=kind).changes_for({})["w"]
        assert same(found, alone)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_what_was_rounded_stays_so_and_goes_on_to_be_said(kind: Any) -> None:
    base, _ = structured()
    rounded = structured_delta(round_values=kind)
    for again in (
        rounded.recode(base),
        rounded.recode(base, round_values=kind),
        rounded.recode(base).recode(base, self_contained=True),
    ):
        assert [record.rounded for record in again.document.changes] == [None, None, kind, kind, kind]
        assert all(same(change, rounded.changes_for({})[name]) for name, change in again.changes_for(base).items())
    assert rounded.recode(base).recode(base, self_contained=True) == rounded
    assert structured_delta().recode(base, round_values=kind) == structured_delta(base_tensors=base, round_values=kind)


def test_values_are_not_rounded_to_two_forms() -> None:
    base, _ = structured()
    rounded = structured_delta(round_values="float16")
    with pytest.raises(ConfigurationError, match=r"rounded to float16 already, and rounding them to bfloat16 is not"):
        rounded.recode(base, round_values="bfloat16")


def test_rounding_without_effect_is_refused() -> None:
    base = {"w": torch.ones(2, 2)}
    for change in (KeepMask(torch.eye(2) > 0), DenseValues(torch.ones(2, 2, dtype=torch.bfloat16))):
        with pytest.raises(ConfigurationError, match="no value here could be rounded to bfloat16; leave that out"):
            TaskDelta.create({"w": change}, base=fingerprint(base), round_values="bfloat16")
        delta = TaskDelta.create({"w": change}, base=fingerprint(base))
        with pytest.raises(ConfigurationError, match="no value here could be rounded"):
            delta.recode(base, round_values="bfloat16")


def test_a_value_that_cannot_be_rounded_is_refused_by_name() -> None:
    base = {"w": torch.ones(2)}
    with pytest.raises(ConfigurationError, match=r"^w: 70000\.0 is beyond float16's largest value"):
        TaskDelta.create({"w": DenseValues(torch.tensor([1.0, 7e4]))}, base=fingerprint(base), round_values="float16")
    with pytest.raises(ConfigurationError, match=r"^w: 'int8' is no 16-bit form"):
        TaskDelta.create({"w": DenseValues(torch.ones(2))}, base=fingerprint(base), round_values="int8")  # type: ignore[arg-type]
