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

FILES = ("delta.safetensors", "delta_config.json")
LOG_IN = "log in with `hf auth login`, or pass a token"


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
    assert str(caught.value).isprintable()
    return str(caught.value)


# What is fetched.


def test_a_delta_is_fetched_and_nothing_else(one: TinyHub, delta: TaskDelta, tmp_path: Path) -> None:
    assert from_pretrained("me/one") == delta
    wanted = {path.rpartition("/")[2] for path in (p for _, p in one.requests) if "/resolve/" in path}
    assert wanted == set(FILES)
    cached = [path.name for path in Path(constants.HF_HUB_CACHE).rglob("snapshots/*/*")]
    assert sorted(cached) == sorted(FILES)
    for files in one.repositories["me/one"].commits.values():
        files.pop("delta_config.json")
    assert from_pretrained("me/one", cache_dir=tmp_path / "again") == delta


def test_at_a_revision_and_where_a_branch_has_moved(
    one: TinyHub, delta: TaskDelta, other: TaskDelta, tmp_path: Path
) -> None:
    repository = one.repositories["me/one"]
    first = repository.refs["v1"] = repository.refs["main"]
    assert from_pretrained("me/one") == delta
    repository.commit(files_of(other, tmp_path / "other"))
    assert from_pretrained("me/one") == other
    for revision in ("v1", first):
        assert from_pretrained("me/one", revision=revision) == from_pretrained(f"me/one@{revision}") == delta
    for revision in ("v9", "0" * 40):
        assert message_of("me/one", revision=revision) == (
            f"the hub repository 'me/one' has no revision '{revision}'; leave it out or correct it"
        )


def test_one_of_many_and_all_of_them(many: TinyHub, delta: TaskDelta, other: TaskDelta, tmp_path: Path) -> None:
    assert from_pretrained("me/many", subfolder="mrpc") == delta
    assert "'hf://me/many/deep/rte' is not in the cache" in message_of("hf://me/many/deep/rte", local_files_only=True)
    assert from_pretrained("me/many@main/deep/rte") == from_pretrained("hf://me/many/deep/rte") == other
    folder = resolve_folder("me/many")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"store.json", *(f"{name}/{file}" for name in ("mrpc", "deep/rte") for file in FILES)}
    assert resolve_folder("hf://me/many/deep") == folder / "deep"
    assert resolve_folder(folder) == folder
    many.add("me/odd", files_of(delta, tmp_path / "c", "[ab]/") | files_of(other, tmp_path / "d", "a/"))
    assert from_pretrained("me/odd", subfolder="[ab]") == delta  # a name, and no pattern
    assert not many.asked_for("optimizer.pt") and not many.asked_for("/a/delta.safetensors")


def test_what_is_fetched_is_checked_as_what_is_loaded(one: TinyHub) -> None:
    repository = one.repositories["me/one"]
    content = bytearray(repository.commits[repository.refs["main"]]["delta.safetensors"])
    content[-1] ^= 1
    for damaged in (bytes(content), b"\x80\x04K\x01."):
        repository.commit({"delta.safetensors": damaged})
        with pytest.raises(DeltaFormatError):
            from_pretrained("me/one")


# Without a connection.


def test_offline_from_the_cache(one: TinyHub, delta: TaskDelta, monkeypatch: pytest.MonkeyPatch) -> None:
    where = f"to fetch it from the hub at {one.endpoint}"
    assert message_of("me/one", local_files_only=True) == (
        f"'me/one' is not in the cache; leave local_files_only out {where}"
    )
    commit = one.repositories["me/one"].refs["main"]
    assert from_pretrained("me/one") == delta
    one.requests.clear()
    for revision in (None, "main", commit):
        assert from_pretrained("me/one", revision=revision, local_files_only=True) == delta
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for revision in (None, "main", commit):
        assert from_pretrained("me/one", revision=revision) == delta
    assert message_of("me/one@v1") == f"'me/one@v1' is not in the cache, and HF_HUB_OFFLINE is set; unset it {where}"
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


# What the hub does not give.


def test_who_may_see_what(one: TinyHub, delta: TaskDelta, monkeypatch: pytest.MonkeyPatch) -> None:
    unseen = (
        f"is no file or folder here, and the hub at {one.endpoint} has no such repository, or it is private and this "
        f"token may not see it; check the name, or {LOG_IN}"
    )
    for token in (None, READER):
        assert message_of("me/two", token=token) == f"'me/two' {unseen}"
    assert message_of("me/one", token="hf_stolen") == (
        f"the hub at {one.endpoint} does not accept this token for 'me/one'; {LOG_IN}"
    )
    one.repositories["me/one"].private = True
    assert message_of("me/one") == f"'me/one' {unseen}"
    monkeypatch.setenv("HF_TOKEN", READER)
    assert message_of("me/one", token=False) == f"'me/one' {unseen}"
    assert from_pretrained("me/one") == delta
    one.add("me/gated", one.repositories["me/one"].commits[one.repositories["me/one"].refs["main"]])
    one.repositories["me/gated"].gated = True
    assert message_of("me/gated", token=False) == (
        f"the hub repository 'me/gated' is gated; accept its terms on its page, then {LOG_IN}"
    )
    assert from_pretrained("me/gated") == delta


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
        resolve_folder("hf://me/many/nope")
    one.add("me/evil", {f"\x1b[2J{number}/delta.safetensors": b"" for number in range(12)})
    assert "and 2 more" in message_of("me/evil")


def test_a_hub_that_is_unwell(one: TinyHub, delta: TaskDelta) -> None:
    one.refuse_all_with = 503
    assert message_of("me/one").startswith(f"the hub at {one.endpoint} answers for 'me/one': 503")
    one.refuse_all_with = None
    assert from_pretrained("me/one") == delta
    one.refuse_all_with = 503
    assert from_pretrained("me/one") == delta


def test_faults_of_the_disk_and_of_the_storage(one: TinyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    error: Exception = OSError(28, "No space left on device", "/cache/blob")
    with pytest.raises(OutputError, match=r"no space is left on the disk of /cache/blob to fetch 'me/one'"):
        from_pretrained("me/one")
    error = RuntimeError("Data processing error:\nchunk lost")
    assert message_of("me/one") == (
        f"'me/one' could not be fetched from the hub at {one.endpoint} (RuntimeError: Data processing error: chunk "
        "lost); try again"
    )


# On this machine.


def test_paths_need_no_hub_and_no_client(delta: TaskDelta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    delta.save(tmp_path / "many" / "mrpc")
    for path in (tmp_path / "many" / "mrpc", tmp_path / "many" / "mrpc" / "delta.safetensors"):
        assert from_pretrained(path) == from_pretrained(str(path)) == delta
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
