from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from deltas.store.store_deltas import CARD
from deltas.tiny_deltas import tiny_delta, tiny_model
from supermask.deltas import BaseRecord
from supermask.deltas.store.card import StoreBase, create_card, read_card, require_base_of_store
from supermask.errors import BaseMismatchError, DeltaFormatError

GOOD: dict[str, Any] = {
    "format": "supermask-store",
    "version": 1,
    "base": {"architecture": "Bert", "dtype": "float32", "digest": "0" * 64},
}


@pytest.fixture(scope="module")
def base() -> BaseRecord:
    return tiny_delta(tiny_model(), base_revision="main").document.base


def test_what_is_written_is_read(tmp_path: Path, base: BaseRecord) -> None:
    create_card(tmp_path, base)
    told = {"name": "tiny", "revision": "main", "architecture": "TinyModel", "dtype": "float32", "digest": base.digest}
    assert read_card(tmp_path).model_dump() == told
    assert json.loads((tmp_path / CARD).read_text("utf-8")) == {"format": "supermask-store", "version": 1, "base": told}


def test_these_bytes_stay_readable(tmp_path: Path) -> None:
    (tmp_path / CARD).write_text(json.dumps(GOOD))
    assert read_card(tmp_path) == StoreBase(architecture="Bert", dtype="float32", digest="0" * 64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "store version '2' is unknown"),
        ({"version": True}, "store version 'True' is unknown"),
        ({"version": 1.0}, "store version '1.0' is unknown"),
        ({"version": None}, "is unknown"),
        ({"format": "supermask-delta"}, "does not say"),
        ({"more": 1}, "more"),
        ({"base": {}}, "digest"),
        ({"base": None}, "base"),
        ({"base": {**GOOD["base"], "digest": "../" * 21 + "x"}}, "digest"),
        ({"base": {**GOOD["base"], "digest": "0" * 64 + "\n"}}, "digest"),
        ({"base": {**GOOD["base"], "name": "\x1b[2J"}}, "name"),
        ({"base": {**GOOD["base"], "path": "/"}}, "path"),
        ({"base": {**GOOD["base"], "dtype": 32}}, "dtype"),
    ],
)
def test_an_edited_card_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    (tmp_path / CARD).write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(DeltaFormatError, match=words) as caught:
        read_card(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 5000,
        b"x" * 70_000,
        b'{"format": "supermask-store", "format": 1}',
        b"\0" * 9,
    ],
    ids=["empty", "list", "null", "no utf-8", "deep", "long", "twice", "zeros"],
)
def test_hostile_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CARD).write_bytes(content)
    with pytest.raises(DeltaFormatError, match=CARD):
        read_card(tmp_path)


def test_no_more_is_read_than_a_card_can_hold(tmp_path: Path) -> None:
    with (tmp_path / CARD).open("wb") as file:
        try:
            file.truncate(1 << 42)  # a hole, which takes no room on the disk and all of it in memory
        except OSError:
            pytest.skip("no such large files here")
    with pytest.raises(DeltaFormatError, match="longer than 65536 bytes"):
        read_card(tmp_path)


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(DeltaFormatError, match=r"no store of deltas, it has no store\.json .* add a delta"):
        read_card(tmp_path)
    with pytest.raises(DeltaFormatError, match="it is no folder"):
        read_card(tmp_path / "missing")
    (tmp_path / CARD).mkdir()
    with pytest.raises(DeltaFormatError, match=r"has no store\.json that is a file"):
        read_card(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_links_and_pipes_neither_hang_nor_grow(tmp_path: Path) -> None:
    for name, target in (("loop", CARD), ("gone", "nowhere"), ("endless", "/dev/zero")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / CARD).symlink_to(target)
        with pytest.raises(DeltaFormatError, match="that is a file"):
            read_card(folder)
    os.mkfifo(tmp_path / CARD)
    with pytest.raises(DeltaFormatError, match="that is a file"):
        read_card(tmp_path)


def test_a_linked_card_is_read_as_a_hub_cache_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text(json.dumps(GOOD))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / CARD).symlink_to("../blob")
    assert read_card(tmp_path / "store").architecture == "Bert"


def test_another_base_is_named_beside_the_stores(base: BaseRecord) -> None:
    store_base = StoreBase(name="other", architecture="Bert", dtype="bfloat16", digest="1" * 64)
    with pytest.raises(BaseMismatchError) as caught:
        require_base_of_store(base, store_base, delta="mrpc", store=Path("deltas"))
    assert f"mrpc: learnt on the base 'tiny', float32, fingerprint {base.digest[:16]}" in str(caught.value)
    assert "store deltas is over 'other', bfloat16, fingerprint 1111111111111111;" in str(caught.value)
    require_base_of_store(base, store_base.model_copy(update={"digest": base.digest}), delta="x", store=Path("y"))
