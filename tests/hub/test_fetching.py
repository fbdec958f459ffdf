from __future__ import annotations

import re
import shutil
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from deltas.tiny_deltas import tiny_delta, tiny_model
from supermask.deltas import TaskDelta
from supermask.errors import DeltaFormatError, MissingDependencyError, OutputError, UnknownNameError
from supermask.hub import from_pretrained, resolve_delta, resolve_folder
from tiny_hub import READER, Files, TinyHub


@pytest.fixture(scope="module")
def delta() -> TaskDelta:
    return tiny_delta(tiny_model())


@pytest.fixture(scope="module")
def other() -> TaskDelta:
    return tiny_delta(tiny_model(), task={"name": "other"})


def files_of(delta: TaskDelta, folder: Path, prefix: str = "") -> Files:
    delta.save(folder)
    return {prefix + path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def one(hub: TinyHub, delta: TaskDelta, tmp_path: Path) -> TinyHub:
    """A repository with one delta, and what a careless owner puts beside it."""
    files = files_of(delta, tmp_path / "saved")
    hub.add("me/one", {**files, "pytorch_model.bin": b"\x80\x04 a pickle", "README.md": b"# one"})
    return hub


@pytest.fixture
def many(hub: TinyHub, delta: TaskDelta, other: TaskDelta, tmp_path: Path) -> TinyHub:
    files = files_of(delta, tmp_path / "a", "mrpc/") | files_of(other, tmp_path / "b", "deep/rte/")
    hub.add("me/many", {**files, "store.json": b"{}", "mrpc/optimizer.pt": b"a pickle", "big.bin": b"big"})
    return hub


def message_of(name: str | Path, **options: object) -> str:
    with pytest.raises(UnknownNameError) as caught:
        from_pretrained(name, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_delta_is_fetched_and_nothing_else(one: TinyHub, delta: TaskDelta) -> None:
    assert from_pretrained("me/one") == delta
    wanted = {path.rpartition("/")[2] for path in (p for _, p in one.requests) if "/resolve/" in path}
    assert wanted == {"delta.safetensors", "delta_config.json"}
    cached = [path.name for path in Path(constants.HF_HUB_CACHE).rglob("snapshots/*/*")]
    assert sorted(cached) == ["delta.safetensors", "delta_config.json"]


def test_at_a_revision(one: TinyHub, delta: TaskDelta, other: TaskDelta, tmp_path: Path) -> None:
    repository = one.repositories["me/one"]
    first = repository.refs["main"]
    repository.refs["v1"] = first
    repository.commit(files_of(other, tmp_path / "other"))
    assert from_pretrained("me/one") == other
    for revision in ("v1", first):
        assert from_pretrained("me/one", revision=revision) == delta
        assert from_pretrained(f"me/one@{revision}") == delta


def test_a_branch_that_moves_is_followed(one: TinyHub, delta: TaskDelta, other: TaskDelta, tmp_path: Path) -> None:
    assert from_pretrained("me/one") == delta
    one.repositories["me/one"].commit(files_of(other, tmp_path / "other"))
    assert from_pretrained("me/one") == other


def test_one_of_many(many: TinyHub, delta: TaskDelta, other: TaskDelta) -> None:
    assert from_pretrained("me/many", subfolder="mrpc") == delta
    assert from_pretrained("me/many@main/deep/rte") == other
    assert from_pretrained("hf://me/many/deep/rte") == other
    assert not many.asked_for("optimizer.pt")


def test_a_folder_of_many(many: TinyHub) -> None:
    folder = resolve_folder("me/many")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    both = {"delta.safetensors", "delta_config.json"}
    assert found == {"store.json", *(f"{name}/{file}" for name in ("mrpc", "deep/rte") for file in both)}
    assert resolve_folder("me/many", subfolder="deep") == folder / "deep"
    assert resolve_folder(folder) == folder


def test_a_subfolder_is_a_name_and_no_pattern(hub: TinyHub, delta: TaskDelta, other: TaskDelta, tmp_path: Path) -> None:
    hub.add("me/odd", files_of(delta, tmp_path / "a", "[ab]/") | files_of(other, tmp_path / "b", "a/"))
    assert from_pretrained("me/odd", subfolder="[ab]") == delta
    assert not hub.asked_for("/a/delta.safetensors")


def test_without_configuration_beside_it(one: TinyHub, delta: TaskDelta) -> None:
    for files in one.repositories["me/one"].commits.values():
        files.pop("delta_config.json")
    assert from_pretrained("me/one") == delta


def test_what_is_fetched_is_checked_as_what_is_loaded(one: TinyHub) -> None:
    repository = one.repositories["me/one"]
    content = bytearray(repository.commits[repository.refs["main"]]["delta.safetensors"])
    content[-1] ^= 1
    repository.commit({"delta.safetensors": bytes(content)})
    with pytest.raises(DeltaFormatError):
        from_pretrained("me/one")
    repository.commit({"delta.safetensors": b"\x80\x04K\x01."})
    with pytest.raises(DeltaFormatError, match="pickle"):
        from_pretrained("me/one")


def test_offline_from_the_cache(one: TinyHub, delta: TaskDelta, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = one.repositories["me/one"].refs["main"]
    assert from_pretrained("me/one") == delta
    one.requests.clear()
    for revision in (None, "main", commit):
        assert from_pretrained("me/one", revision=revision, local_files_only=True) == delta
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for revision in (None, "main", commit):
        assert from_pretrained("me/one", revision=revision) == delta
    assert not one.requests


def test_without_a_connection_the_cache_is_read_and_nobody_waits(
    one: TinyHub, delta: TaskDelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert from_pretrained("me/one") == delta
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the port `discard`, where nobody listens
    begun = time.monotonic()
    assert from_pretrained("me/one") == delta
    assert re.fullmatch(
        r"'me/two' is no file or folder here and not in the cache, and the hub at http://127\.0\.0\.1:9 cannot be "
        r"reached \(\w+: .*refused.*\); check the name and the connection",
        message_of("me/two"),
    )
    assert time.monotonic() - begun < 10  # the client's own retries take half a minute


def test_a_cache_of_ones_own(one: TinyHub, delta: TaskDelta, tmp_path: Path) -> None:
    assert from_pretrained("me/one", cache_dir=tmp_path / "own") == delta
    assert (tmp_path / "own" / "models--me--one").is_dir()
    assert not Path(constants.HF_HUB_CACHE).exists()
    assert "not in the cache" in message_of("me/one", local_files_only=True)


def test_offline_and_not_cached(one: TinyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    where = f"to fetch it from the hub at {one.endpoint}"
    assert message_of("me/one", local_files_only=True) == (
        f"'me/one' is not in the cache; leave local_files_only out {where}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert message_of("me/one@v1") == f"'me/one@v1' is not in the cache, and HF_HUB_OFFLINE is set; unset it {where}"
    assert not one.requests


def test_only_another_delta_of_the_repository_is_cached(many: TinyHub, delta: TaskDelta) -> None:
    assert from_pretrained("me/many", subfolder="mrpc") == delta
    many.requests.clear()
    complaint = message_of("me/many", subfolder="deep/rte", local_files_only=True)
    assert "'hf://me/many/deep/rte' is not in the cache" in complaint
    assert not many.requests


def test_no_such_repository(one: TinyHub) -> None:
    for token in (None, READER):
        assert message_of("me/two", token=token) == (
            f"'me/two' is no file or folder here, and the hub at {one.endpoint} has no such repository, or it is "
            "private and this token may not see it; check the name, or log in with `hf auth login`, or pass a token"
        )


def test_a_private_repository(one: TinyHub, delta: TaskDelta, monkeypatch: pytest.MonkeyPatch) -> None:
    one.repositories["me/one"].private = True
    assert "or it is private" in message_of("me/one")
    assert from_pretrained("me/one", token=READER) == delta


def test_the_token_of_the_environment(one: TinyHub, delta: TaskDelta, monkeypatch: pytest.MonkeyPatch) -> None:
    one.repositories["me/one"].private = True
    monkeypatch.setenv("HF_TOKEN", READER)
    assert "or it is private" in message_of("me/one", token=False)
    assert from_pretrained("me/one") == delta


def test_a_gated_repository(one: TinyHub, delta: TaskDelta) -> None:
    one.repositories["me/one"].gated = True
    assert message_of("me/one") == (
        "the hub repository 'me/one' is gated; accept its terms on its page, then log in with `hf auth login`, or pass "
        "a token"
    )
    assert from_pretrained("me/one", token=READER) == delta


def test_a_token_that_is_none(one: TinyHub) -> None:
    assert message_of("me/one", token="hf_stolen") == (
        f"the hub at {one.endpoint} does not accept this token for 'me/one'; log in with `hf auth login`, or "
        "pass a token"
    )


def test_no_such_revision(one: TinyHub) -> None:
    for revision in ("v9", "0" * 40):
        assert message_of("me/one", revision=revision) == (
            f"the hub repository 'me/one' has no revision '{revision}'; leave it out or correct it"
        )


def test_no_delta_there(many: TinyHub, one: TinyHub) -> None:
    assert message_of("me/many") == (
        "the hub repository 'me/many' has no delta.safetensors; it holds deltas in deep/rte, mrpc: name one with "
        "subfolder"
    )
    assert message_of("me/many@main", subfolder="rte").startswith(
        "the hub repository 'me/many' has no rte/delta.safetensors at revision 'main'; it holds deltas in deep/rte, "
        "mrpc: name one"
    )
    assert message_of("me/one", subfolder="mrpc").endswith("it holds a delta itself; leave the subfolder out")
    one.add("me/model", {"model.safetensors": b"", "config.json": b"{}"})
    assert message_of("me/model").endswith("it holds no delta at all; check the name and the revision")
    with pytest.raises(UnknownNameError, match=r"has no nope/delta\.safetensors"):
        resolve_folder("me/many", subfolder="nope")


def test_names_of_folders_cannot_paint_over_a_terminal(hub: TinyHub) -> None:
    hub.add("me/evil", {f"\x1b[2J{number}/delta.safetensors": b"" for number in range(12)})
    complaint = message_of("me/evil")
    assert complaint.isprintable()
    assert "and 2 more" in complaint


def test_a_hub_that_is_unwell(one: TinyHub, delta: TaskDelta) -> None:
    one.refuse_all_with = 503
    assert message_of("me/one").startswith(f"the hub at {one.endpoint} answers for 'me/one': 503")
    one.refuse_all_with = None
    assert from_pretrained("me/one") == delta
    one.refuse_all_with = 503
    assert from_pretrained("me/one") == delta


def test_a_full_disk(one: TinyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device", "/cache/blob")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(OutputError, match=r"no space is left on the disk of /cache/blob to fetch 'me/one'"):
        from_pretrained("me/one")


def test_a_fault_of_the_storage_is_no_fault_of_the_connection(one: TinyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("Data processing error:\nchunk lost")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    assert message_of("me/one") == (
        f"'me/one' could not be fetched from the hub at {one.endpoint} (RuntimeError: Data processing error: chunk "
        "lost); try again"
    )


def test_paths_need_no_hub_and_no_client(delta: TaskDelta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    delta.save(tmp_path / "many" / "mrpc")
    for path in (tmp_path / "many" / "mrpc", tmp_path / "many" / "mrpc" / "delta.safetensors"):
        assert from_pretrained(path) == delta
        assert from_pretrained(str(path)) == delta
    assert from_pretrained(tmp_path / "many", subfolder="mrpc") == delta
    with pytest.raises(MissingDependencyError, match=r"pip install 'supermask\[hub\]'"):
        from_pretrained("me/one")


def test_a_folder_that_hides_a_repository(
    one: TinyHub, delta: TaskDelta, other: TaskDelta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other.save("me/one")
    assert from_pretrained("me/one") == other
    assert from_pretrained("hf://me/one") == delta
    shutil.rmtree("me/one")
    other.save("me/one/mrpc")
    with pytest.raises(UnknownNameError) as caught:
        resolve_delta("me/one")
    assert str(caught.value) == (
        "me/one: no delta in this folder, it has no delta.safetensors; it holds deltas in mrpc: name one with "
        "subfolder, or hf://me/one for the hub's repository of that name, which the folder here hides"
    )
