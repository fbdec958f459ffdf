from __future__ import annotations

import errno
import json
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deltas.tiny_deltas import tiny_delta, tiny_model
from deltas.tiny_files import load_bytes, smallest_file_1, smallest_file_2
from supermask.deltas import TaskDelta, files, read_document
from supermask.errors import DeltaFormatError, OutputError

DELTA, CONFIG = "delta.safetensors", "delta_config.json"


@pytest.fixture(scope="module")
def old() -> TaskDelta:
    return tiny_delta(tiny_model(), task={"name": "old"})


@pytest.fixture(scope="module")
def new() -> TaskDelta:
    return tiny_delta(tiny_model(), task={"name": "new"})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_gets_the_delta_and_a_readable_document(tmp_path: Path, old: TaskDelta) -> None:
    assert old.save(tmp_path / "a" / "b") == tmp_path / "a" / "b" / DELTA
    assert sorted(contents(tmp_path / "a" / "b")) == [DELTA, CONFIG]
    assert TaskDelta.load(tmp_path / "a" / "b") == TaskDelta.load(str(tmp_path / "a" / "b" / DELTA)) == old
    assert read_document(tmp_path / "a" / "b") == old.document
    assert json.loads((tmp_path / "a" / "b" / CONFIG).read_text("utf-8"))["task"] == {"name": "old"}


def test_a_file_name_gets_the_delta_alone(tmp_path: Path, old: TaskDelta) -> None:
    assert old.save(tmp_path / "x.safetensors") == tmp_path / "x.safetensors"
    assert list(contents(tmp_path)) == ["x.safetensors"]
    assert TaskDelta.load(tmp_path / "x.safetensors") == old


def test_saving_what_was_loaded_gives_the_same_bytes(tmp_path: Path, old: TaskDelta) -> None:
    old.save(tmp_path / "a")
    TaskDelta.load(tmp_path / "a").save(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_users_umask_decides_who_may_read(tmp_path: Path, old: TaskDelta) -> None:
    before = os.umask(0o027)
    try:
        path = old.save(tmp_path / "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


# A folder's two files must agree.


def test_the_configuration_may_be_missing(tmp_path: Path, old: TaskDelta) -> None:
    old.save(tmp_path)
    (tmp_path / CONFIG).unlink()
    assert TaskDelta.load(tmp_path) == old


def test_the_configuration_may_be_laid_out_anew_but_not_edited(tmp_path: Path, old: TaskDelta) -> None:
    old.save(tmp_path)
    content = json.loads((tmp_path / CONFIG).read_text("utf-8"))
    (tmp_path / CONFIG).write_text(json.dumps(content))
    assert TaskDelta.load(tmp_path) == old
    content["task"]["name"] = "another"
    (tmp_path / CONFIG).write_text(json.dumps(content))
    for read in (TaskDelta.load, read_document):
        with pytest.raises(DeltaFormatError, match=r"delta_config\.json: disagrees with .* delete it"):
            read(tmp_path)


def test_the_configuration_of_the_other_version_is_refused(tmp_path: Path) -> None:
    for data, other in ((smallest_file_1(), smallest_file_2()), (smallest_file_2(), smallest_file_1())):
        delta, stranger = load_bytes(tmp_path, data), load_bytes(tmp_path, other)
        delta.save(tmp_path / "delta", overwrite=True)
        stranger.save(tmp_path / "other", overwrite=True)
        (tmp_path / "other" / CONFIG).replace(tmp_path / "delta" / CONFIG)
        with pytest.raises(DeltaFormatError, match=r"delta_config\.json: disagrees with .* delete it"):
            TaskDelta.load(tmp_path / "delta")


def test_a_delta_of_either_version_replaces_one_of_the_other(tmp_path: Path) -> None:
    for data in (smallest_file_1(), smallest_file_2(), smallest_file_1()):
        delta = load_bytes(tmp_path, data)
        delta.save(tmp_path / "delta", overwrite=True)
        assert TaskDelta.load(tmp_path / "delta") == delta
        assert read_document(tmp_path / "delta").version == delta.document.version


@pytest.mark.parametrize("text", ["", "{}", "[]", "\ud800".encode("utf-8", "surrogatepass"), '{"a": 1, "a": 1}'])
def test_a_broken_configuration_is_refused(tmp_path: Path, old: TaskDelta, text: str | bytes) -> None:
    old.save(tmp_path)
    (tmp_path / CONFIG).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DeltaFormatError, match=CONFIG):
        TaskDelta.load(tmp_path)


def test_an_unreadable_configuration_is_refused(tmp_path: Path, old: TaskDelta) -> None:
    old.save(tmp_path)
    (tmp_path / CONFIG).unlink()
    (tmp_path / CONFIG).mkdir()
    with pytest.raises(DeltaFormatError, match=r"cannot be read"):
        TaskDelta.load(tmp_path)


# Overwriting.


@pytest.mark.parametrize("there", [[DELTA, CONFIG], [DELTA], [CONFIG]])
def test_what_is_there_is_only_replaced_on_request(
    tmp_path: Path, old: TaskDelta, new: TaskDelta, there: list[str]
) -> None:
    old.save(tmp_path)
    for name in {DELTA, CONFIG} - set(there):
        (tmp_path / name).unlink()
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=rf"{there[0]} exists already; pass overwrite=True"):
        new.save(tmp_path)
    assert contents(tmp_path) == before
    new.save(tmp_path, overwrite=True)
    assert sorted(contents(tmp_path)) == [DELTA, CONFIG]
    assert TaskDelta.load(tmp_path) == new


def test_a_single_file_is_only_replaced_on_request(tmp_path: Path, old: TaskDelta, new: TaskDelta) -> None:
    path = old.save(tmp_path / "x.safetensors")
    with pytest.raises(OutputError, match="exists already"):
        new.save(path)
    assert TaskDelta.load(path) == old
    new.save(path, overwrite=True)
    assert TaskDelta.load(path) == new
    assert list(contents(tmp_path)) == ["x.safetensors"]


def test_other_files_in_the_folder_stay(tmp_path: Path, old: TaskDelta, new: TaskDelta) -> None:
    (tmp_path / "README.md").write_text("mine")
    old.save(tmp_path)
    new.save(tmp_path, overwrite=True)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, old: TaskDelta) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"cannot be saved: .*; choose a path that can be written"):
        old.save(tmp_path / "file")
    with pytest.raises(OutputError, match=r"cannot be saved"):
        old.save(tmp_path / "file" / "below")
    assert contents(tmp_path) == {"file": b"x"}


# A full disk, at every point at which one can fill up.


def fail_on_call(number: int, real: Callable[..., Any]) -> Callable[..., Any]:
    calls = iter(range(1, 1000))

    def failing(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **options)

    return failing


FULL = [("os.write", number) for number in (1, 2, 5, 8)] + [
    ("os.fsync", 1),
    ("os.fsync", 2),
    ("os.open", 1),
    ("os.open", 2),
]
RENAMES = [("pathlib.Path.replace", 1), ("pathlib.Path.replace", 2)]


@pytest.mark.parametrize(("where", "number"), FULL + RENAMES)
def test_a_full_disk_leaves_the_old_delta(
    tmp_path: Path, old: TaskDelta, new: TaskDelta, monkeypatch: pytest.MonkeyPatch, where: str, number: int
) -> None:
    old.save(tmp_path)
    before = contents(tmp_path)
    real = Path.replace if where.startswith("pathlib") else getattr(os, where.removeprefix("os."))
    with monkeypatch.context() as patch:
        patch.setattr(where, fail_on_call(number, real))
        with pytest.raises(OutputError, match=r"cannot be saved: No space left on device; free some space") as caught:
            new.save(tmp_path, overwrite=True)
    assert isinstance(caught.value, OSError)
    assert contents(tmp_path) == before
    assert TaskDelta.load(tmp_path) == old


@pytest.mark.parametrize(("where", "number"), FULL)
def test_a_full_disk_leaves_nothing_new(
    tmp_path: Path, new: TaskDelta, monkeypatch: pytest.MonkeyPatch, where: str, number: int
) -> None:
    real = getattr(os, where.removeprefix("os."))
    with monkeypatch.context() as patch:
        patch.setattr(where, fail_on_call(number, real))
        with pytest.raises(OutputError, match=r"No space left"):
            new.save(tmp_path / "a" / "b")
    assert contents(tmp_path) == {}


def test_a_short_write_is_continued(tmp_path: Path, old: TaskDelta, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr("os.write", lambda descriptor, data: real(descriptor, data[:7]))
    old.save(tmp_path)
    assert TaskDelta.load(tmp_path) == old


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process that can be killed at a chosen moment")
@pytest.mark.parametrize("moment", range(1, 14))
def test_a_kill_at_any_moment_leaves_the_old_delta_or_the_new_one(
    tmp_path: Path, old: TaskDelta, new: TaskDelta, moment: int
) -> None:
    old.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        calls = iter(range(1, 1000))

        def dying(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                if next(calls) == moment:
                    os._exit(9)
                return real(*arguments, **options)

            return call

        files.write_through = dying(files.write_through)
        for owner, names in ((os, ("open", "fsync", "close")), (Path, ("replace", "unlink"))):
            for name in names:
                setattr(owner, name, dying(getattr(owner, name)))
        try:
            new.save(tmp_path, overwrite=True)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9
    assert TaskDelta.load(tmp_path) in (old, new)
