"""A new folder appears whole or not at all, and the base's configuration comes back as it was."""

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest
from safetensors import SafetensorError

from interop.tiny_exports import LABELS, tiny_base, tiny_delta
from supermask.errors import OutputError
from supermask.interop.export_folder import check_new_folder, new_folder, task_config


def test_everything_appears_at_once(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "model"
    with new_folder(str(place), needed_nbytes=10) as partial:
        (partial / "one").write_text("1")
        (partial / "inner").mkdir()
        (partial / "inner" / "two").write_text("2")
        assert not place.exists()
    assert (place / "one").read_text() + (place / "inner" / "two").read_text() == "12"
    assert [path.name for path in place.parent.iterdir()] == ["model"]


def test_it_is_as_open_as_any_new_folder(tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    with new_folder(tmp_path / "model", needed_nbytes=0):
        pass
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken"), OutputError("mine")])
def test_nothing_is_left_of_a_block_that_did_not_end(error: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught, new_folder(tmp_path / "model", needed_nbytes=0) as partial:
        (partial / "half").write_bytes(b"half")
        raise error
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), SafetensorError("No space left on device")]
)
def test_a_failed_write_names_the_place_and_the_remedy(error: Exception, tmp_path: Path) -> None:
    place = tmp_path / "model"
    with (
        pytest.raises(OutputError, match=f"{place}: cannot be written: No space left on device; free some space"),
        new_folder(place, needed_nbytes=0),
    ):
        raise error


def test_too_little_space_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**30, 2**30 - 2**20, 2**20))
    with pytest.raises(OutputError, match="1 MiB are free and about 2 MiB are needed"):
        new_folder(tmp_path / "model", needed_nbytes=2**21).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_taken_places(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_new_folder(tmp_path / "empty")
    check_new_folder(tmp_path / "new")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for taken, words in ((tmp_path, "not empty"), (tmp_path / "file", "no folder"), (tmp_path / "link", "no folder")):
        with pytest.raises(OutputError, match=f"{taken}: .*{words}; name a new folder"):
            check_new_folder(taken)


def test_the_configuration_speaks_of_the_task_for_a_while(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    config, before = base.model.config, base.model.config.to_dict()
    with pytest.raises(RuntimeError, match="inside"), task_config(base, tiny_delta(base)):
        assert config.label2id == {name: index for index, name in enumerate(LABELS)}
        assert config.architectures == ["BertForSequenceClassification"]
        raise RuntimeError("inside")
    assert config.to_dict() == before
    assert before["architectures"] == ["BertModel"]
