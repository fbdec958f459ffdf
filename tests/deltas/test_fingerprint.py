import hashlib
import struct
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from deltas.tiny_deltas import HEAD, tiny_model
from supermask.deltas.fingerprint import (
    Fingerprint,
    base_fingerprint,
    fingerprint,
    named_tensors,
    require_base,
)
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaStateError


def test_the_digest_by_hand() -> None:
    tensors = {"b": torch.tensor([[1.0, 2.0]]), "a": torch.tensor(7, dtype=torch.int64)}
    hash_a = hashlib.sha256(b"int64[]\n" + struct.pack("<q", 7)).digest()
    hash_b = hashlib.sha256(b"float32[1,2]\n" + struct.pack("<2f", 1.0, 2.0)).digest()
    root = b"supermask fingerprint 1\n" + b"\1\0\0\0a" + hash_a + b"\1\0\0\0b" + hash_b
    found = fingerprint(tensors)
    assert found.digest == hashlib.sha256(root).hexdigest()
    assert found.tensors == {"a": hash_a.hex()[:8], "b": hash_b.hex()[:8]}
    assert found.dtype == "float32"


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.tensor([[1.0, 2.0]])},
        {"a": torch.tensor([1.0, 2.0, 0.0])},
        {"a": torch.tensor([1.0, -2.0])},
        {"a": torch.tensor([1.0, 2.0]).double()},
        {"b": torch.tensor([1.0, 2.0])},
        {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([])},
        {},
    ],
)
def test_names_shapes_dtypes_and_bytes_all_count(other: dict[str, Tensor]) -> None:
    assert fingerprint(other).digest != fingerprint({"a": torch.tensor([1.0, 2.0])}).digest


def test_zeros_of_either_sign_differ() -> None:
    assert fingerprint({"a": torch.tensor([0.0])}) != fingerprint({"a": torch.tensor([-0.0])})


def test_a_name_cannot_run_into_the_next() -> None:
    one, two = torch.tensor([1.0]), torch.tensor([2.0])
    digests = {
        fingerprint({first: one, second: two}).digest for first, second in [("a", "bc"), ("ab", "c"), ("abc", "")]
    }
    assert len(digests) == 3


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.complex64]
)
def test_the_layout_in_memory_does_not_count(dtype: torch.dtype) -> None:
    tensor = torch.arange(12).reshape(3, 4).to(dtype)
    assert fingerprint({"a": tensor.t().contiguous()}) == fingerprint({"a": tensor.t()})
    assert fingerprint({"a": tensor[1:, ::2].clone()}) == fingerprint({"a": tensor[1:, ::2]})


def test_tied_tensors_and_persistent_buffers_are_in_and_scratch_is_not() -> None:
    model = tiny_model()
    assert named_tensors(model)["decoder.weight"] is model.embedding.weight
    found = base_fingerprint(model, head=HEAD)
    assert found.tensors["decoder.weight"] == found.tensors["embedding.weight"]
    assert "position_ids" in found.tensors
    assert "scratch" not in found.tensors
    assert not set(HEAD) & set(found.tensors)


def test_ties_count_and_are_hashed_after_the_tensors() -> None:
    one, copy = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])
    untied = fingerprint({"a": one, "b": copy, "c": copy.clone()})
    tied = fingerprint({"a": one, "b": copy, "c": one})
    hashed = hashlib.sha256(b"float32[2]\n" + struct.pack("<2f", 1.0, 2.0)).digest()
    root = b"supermask fingerprint 1\n" + b"".join(b"\1\0\0\0" + name + hashed for name in (b"a", b"b", b"c"))
    assert untied.digest == hashlib.sha256(root).hexdigest()
    root += b"\xff\xff\xff\xff" + b"\2\0\0\0" + b"\1\0\0\0a" + b"\1\0\0\0c"
    assert tied.digest == hashlib.sha256(root).hexdigest()
    assert tied.tensors == untied.tensors


def test_a_tie_is_one_tensor_under_whatever_object_and_no_part_of_one() -> None:
    whole = torch.arange(6.0)
    tied = fingerprint({"a": whole, "b": whole})
    assert fingerprint({"a": whole, "b": whole.detach()}) == fingerprint({"a": whole, "b": whole.view(6)}) == tied
    apart = {"a": whole.clone(), "b": whole.clone()}
    assert fingerprint({"a": whole, "b": whole.clone()}) == fingerprint(apart) != tied
    parts = {"a": whole[:3], "b": whole[:2], "c": whole.view(2, 3), "d": torch.empty(0), "e": torch.empty(0)}
    assert fingerprint(parts) == fingerprint({name: tensor.clone() for name, tensor in parts.items()})


def test_a_base_whose_ties_were_cut_is_another_base() -> None:
    model = tiny_model()
    expected = base_fingerprint(model, head=HEAD)
    model.decoder.weight = nn.Parameter(model.embedding.weight.detach().clone())
    with pytest.raises(BaseMismatchError, match="no tensor's short hash differs, but the digest does, as if others we"):
        require_base(model, expected, head=HEAD)


def test_the_head_does_not_count_and_everything_else_does() -> None:
    model = tiny_model()
    before = base_fingerprint(model, head=HEAD)
    with torch.no_grad():
        model.classifier.weight.fill_(3.0)
        assert base_fingerprint(model, head=HEAD) == before
        model.position_ids[0] = 1
        assert base_fingerprint(model, head=HEAD) != before


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"score\.weight: named as head, but no tensor of this Linear; .* weight, bias"
    ):
        base_fingerprint(nn.Linear(2, 2), head=["score.weight"])


def test_a_tensor_without_values_is_refused() -> None:
    with pytest.raises(DeltaStateError, match=r"weight is on the meta device"):
        base_fingerprint(nn.Linear(2, 2, bias=False, device="meta"))


def test_a_mismatch_names_what_differs() -> None:
    expected = fingerprint({name: torch.tensor([1.0]) for name in "abcdefg"})
    found = {name: torch.tensor([2.0]) for name in "bcdefx"} | {"g": torch.tensor([1.0])}
    with pytest.raises(BaseMismatchError) as caught:
        require_base(found, replace(expected, name="some-base"), head=())
    assert str(caught.value) == (
        "this is not the base 'some-base' that the delta was learnt on: 5 of 6 tensors differ (b, c, d, ...), 1 is "
        "missing (a), 1 is not in that base (x); load that base, at the revision that the delta names, with nothing "
        "attached and no delta on it"
    )
    other = Fingerprint(digest="0" * 64, tensors=expected.tensors, dtype="float32")
    with pytest.raises(BaseMismatchError, match="no tensor's short hash differs, but the digest does"):
        require_base({name: torch.tensor([1.0]) for name in "abcdefg"}, other)


def test_a_head_is_what_is_named_as_one_or_whatever_the_base_does_not_have() -> None:
    base = {"a": torch.tensor([1.0])}
    expected, headed = fingerprint(base), base | {"head": torch.ones(3)}
    require_base(headed, expected)
    require_base(headed, expected, head=["head"])
    with pytest.raises(BaseMismatchError, match=r"1 is not in that base \(head\)"):
        require_base(headed, expected, head=["other"])


def test_some_tensors_are_checked_by_their_short_hashes() -> None:
    base = {name: torch.tensor([float(place)]) for place, name in enumerate("abcdef")}
    expected = fingerprint(base)
    require_base({}, expected, names=base)
    require_base({"a": base["a"].clone(), "head": torch.ones(3)}, expected, names=["a", "head", "nowhere"])
    require_base({"a": base["a"], "b": base["a"]}, expected, names=["a"])
    with pytest.raises(BaseMismatchError, match=r"4 of 5 tensors differ \(b, c, d, \.\.\.\); .* no delta on it"):
        require_base({name: torch.zeros(1) for name in "abcde"}, expected, names=base)
    with pytest.raises(BaseMismatchError, match=r"1 of 1 tensors differ \(a\)"):
        require_base({"a": base["a"].reshape(1, 1)}, expected, names=base)
    with pytest.raises(DeltaStateError, match="a is on the meta device"):
        require_base({"a": base["a"].to("meta")}, expected, names=base)


def test_a_base_in_another_dtype_is_told_so() -> None:
    model = tiny_model()
    expected = base_fingerprint(model, head=HEAD)
    with pytest.raises(
        BaseMismatchError, match=r"it is bfloat16 here and was float32: load it with dtype=torch\.float32"
    ):
        require_base(model.to(torch.bfloat16), expected, head=HEAD)


@pytest.mark.gpu
def test_a_device_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supermask.deltas.fingerprint._CHUNK_BYTES", 64)
    model = tiny_model(torch.bfloat16)
    before = base_fingerprint(model, head=HEAD)
    assert base_fingerprint(model.to("cuda"), head=HEAD) == before
