import errno
import os
import stat
from pathlib import Path

import pytest

from supermask.atomic import sweep, write_atomically, write_through
from supermask.errors import OutputError

NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failing(error: BaseException) -> object:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("place", ["delta.bin", "a/b/c.json"])
@pytest.mark.parametrize("pieces", [(), (b"head", memoryview(bytearray(b"body")), b"")])
def test_pieces_make_a_file_and_its_folders(tmp_path: Path, place: str, pieces: tuple[bytes, ...]) -> None:
    write_atomically(tmp_path / place, *pieces)
    assert (tmp_path / place).read_bytes() == b"".join(pieces)
    assert files_in((tmp_path / place).parent) == [Path(place).name]


def test_an_old_file_is_replaced_whole_and_who_reads_it_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(b"a much longer old content")
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"a much longer old content"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_result_is_as_readable_as_any_file_of_the_user(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "ours", b"1")
        (tmp_path / "plain").write_bytes(b"1")
        assert os.umask(umask) == umask, "the process keeps its own umask"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize(
    ("owner", "call", "failure", "told"),
    [
        *((owner, call, NO_SPACE, OutputError) for owner, call in ((os, "write"), (os, "fsync"), (Path, "replace"))),
        (os, "fsync", KeyboardInterrupt(), KeyboardInterrupt),
        (os, "fsync", MemoryError(), MemoryError),
        (os, "write", TypeError(), TypeError),  # as for a piece of text
    ],
)
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, owner, call, failure, told) -> None:
    path = tmp_path / "delta.safetensors"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch, pytest.raises(told) as caught:
        patch.setattr(owner, call, failing(failure))
        write_atomically(path, b"new")
    if told is OutputError:
        assert "delta.safetensors: cannot be written: No space left on device; free some" in str(caught.value)
    assert path.read_bytes() == b"old"
    assert files_in(tmp_path) == ["delta.safetensors"]


def test_the_data_is_on_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for owner, name in ((os, "fsync"), (Path, "replace")):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, real=real, name=name: (calls.append(name), real(*args))[1])
    write_atomically(tmp_path / "delta.bin", b"1")
    assert calls == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize(
    ("place", "reason"),
    [("folder", "Is a dir"), ("file/delta.bin", "(File exists|Not a directory)"), ("a\0b", ".*"), ("a" * 300, ".*")],
)
def test_a_place_that_takes_no_file_is_refused(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"a file")
    with pytest.raises(OutputError, match=f"cannot be written: {reason}") as caught:
        write_atomically(tmp_path / place, b"1")
    assert isinstance(caught.value, OSError)
    assert (tmp_path / "file").read_bytes() == b"a file"
    assert files_in(tmp_path) == ["file", "folder"] and files_in(tmp_path / "folder") == []


def test_what_the_system_takes_in_parts_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    write_through(tmp_path / "delta.bin", iter([b"0123456789", b"", memoryview(b"abcd")]))
    assert (tmp_path / "delta.bin").read_bytes() == b"0123456789abcd"


def test_writing_through_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_through(tmp_path / "taken", [b"new"])
    assert (tmp_path / "taken").read_bytes() == b"old"


def test_a_failed_write_through_leaves_no_open_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    real = os.close
    monkeypatch.setattr(os, "fsync", failing(OSError(errno.EIO, os.strerror(errno.EIO))))
    monkeypatch.setattr(os, "close", lambda descriptor: (closed.append(descriptor), real(descriptor))[1])
    with pytest.raises(OSError, match="Input/output error"):
        write_through(tmp_path / "delta.bin", [b"1"])
    assert len(closed) == 1


def test_only_old_litter_of_this_very_file_is_swept(tmp_path: Path) -> None:
    names = [f".x.{'a' * 16}.part", f".x.{'b' * 16}.part", f".y.{'a' * 16}.part", ".x.part", ".x.a.part", "x"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / names[1])
    sweep(tmp_path / "x")
    assert files_in(tmp_path) == sorted(names[1:])
