from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from deltas.store.store_deltas import CONFIG, damage, named, undecodable
from deltas.tiny_deltas import snapshot, tiny_model
from supermask.deltas import TaskDelta, files, fingerprint, named_tensors
from supermask.deltas.store import DeltaStore, verification
from supermask.deltas.store.verification import base_tensors, misfits, require_base_tensors
from supermask.errors import BaseMismatchError, DeltaFormatError


@pytest.fixture(scope="module")
def base() -> nn.Module:
    return tiny_model()


@pytest.fixture(scope="module")
def delta(base: nn.Module) -> TaskDelta:
    return named(base, "mrpc")


@pytest.fixture
def store(tmp_path: Path, delta: TaskDelta) -> DeltaStore:
    store = DeltaStore(tmp_path)
    for name in ("a", "b", "c"):
        store.add(delta, name=name)
    return store


def test_all_is_well(store: DeltaStore, base: nn.Module) -> None:
    before = snapshot(base)
    for given in (None, base, named_tensors(base), tiny_model(labels=7)):
        result = store.verify(given)
        assert (result.intact, result.faults, result.strangers) == (("a", "b", "c"), (), ())
        assert result.decoded == (given is not None)
    assert snapshot(base) == before


def test_every_fault_is_told(store: DeltaStore, base: nn.Module, delta: TaskDelta) -> None:
    damage(store.path / "a")
    undecodable(delta).save(store.path / "d")
    named(tiny_model(seed=1), "x").save(store.path / "e")
    (store.path / "c" / CONFIG).write_text("{}")
    (store.path / "f").mkdir()
    (store.path / "f" / CONFIG).write_text("{}")
    (store.path / "notes").write_text("")
    compared = store.verify()
    assert compared.intact == ("b", "d")
    assert [fault.name for fault in compared.faults] == ["a", "c", "e", "f"]
    decoded = store.verify(base)
    assert decoded.intact == ("b",)
    assert [fault.name for fault in decoded.faults] == ["a", "c", "d", "d", "e", "f"]
    masks = [fault.what.split(":")[0] for fault in decoded.faults if fault.name == "d"]
    assert masks == ["dense.weight", "embedding.weight"]
    assert [stranger.name for stranger in decoded.strangers] == ["notes"]


def test_a_claim_that_the_base_does_not_bear_out_is_not_decoded(
    store: DeltaStore, base: nn.Module, delta: TaskDelta
) -> None:
    changes = tuple(
        record.model_copy(update={"shape": (1 << 17, 1 << 17)}) if record.name == "dense.weight" else record
        for record in delta.document.changes
    )
    TaskDelta(delta.document.model_copy(update={"changes": changes}), delta.payloads).save(store.path / "huge")
    faults = store.verify(base).faults
    assert [(fault.name, fault.what) for fault in faults] == [
        ("huge", "dense.weight: claims the shape (131072, 131072), and the base's is (8, 8)")
    ]


def test_misfits(delta: TaskDelta, base: nn.Module) -> None:
    tensors = dict(named_tensors(base))
    assert misfits(delta.document, tensors) == {}
    tensors["norm.weight"] = tensors["norm.weight"].half()
    tensors["dense.weight"] = torch.zeros(8, 7)
    tensors["classifier.weight"] = torch.zeros(2, 8)  # the base's head is not the delta's
    assert misfits(delta.document, tensors) == {
        "norm.weight": "claims the dtype float32, and the base's is float16",
        "dense.weight": "claims the shape (8, 8), and the base's is (8, 7)",
    }


def test_another_base_is_refused_at_once(store: DeltaStore) -> None:
    with pytest.raises(BaseMismatchError, match="this model is not the base 'tiny'"):
        store.verify(tiny_model(seed=1))
    with pytest.raises(BaseMismatchError, match="1 is missing"):
        store.verify({name: tensor for name, tensor in named_tensors(tiny_model()).items() if name != "norm.bias"})


def test_the_base_is_hashed_once(store: DeltaStore, base: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []

    def counting(tensors: dict[str, torch.Tensor]) -> object:
        hashed.append(tensors)
        return fingerprint(tensors)

    monkeypatch.setattr(verification, "fingerprint", counting)
    store.verify(base)
    assert len(hashed) == 1


def test_tensors_of_a_base(base: nn.Module, delta: TaskDelta) -> None:
    assert base_tensors(base).keys() == named_tensors(base).keys()
    given = {"a": torch.zeros(1)}
    assert base_tensors(given) is given
    require_base_tensors(named_tensors(base), delta.document)


def test_a_delta_that_goes_away_meanwhile_is_no_fault(store: DeltaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supermask.deltas.store.delta_store.scan_store", lambda folder: (("a", "gone"), ()))
    assert store.verify().faults == ()


def test_an_overwrite_in_between_is_no_damage(
    store: DeltaStore, base: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = named(base, "new")
    read, races = files.read_container, []

    def raced(path: Path) -> object:
        found = read(path)
        if not races:  # between the reading of the one file and of the other
            races.append(path)
            new.save(path.parent, overwrite=True)
        return found

    monkeypatch.setattr(files, "read_container", raced)
    assert store["a"] == new
    assert races == [store.path / "a" / "delta.safetensors"]


def test_real_damage_is_found_all_the_same(store: DeltaStore) -> None:
    damage(store.path / "a")
    with pytest.raises(DeltaFormatError, match="does not have the checksum"):
        store["a"]
