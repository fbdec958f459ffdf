"""A newcomer's bad inputs: each is one line with the remedy, and exit code 2."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supermask import TaskDelta
from tiny_command import Command, Place, refused


def test_unknown_task(supermask: Command, tmp_path: Path) -> None:
    outcome = supermask("train", "--task", "mprc", "--output", tmp_path / "run")
    refused(outcome, "no task is called 'mprc'", "did you mean 'mrpc'", "qnli")


def test_missing_folder(supermask: Command, tmp_path: Path) -> None:
    missing = tmp_path / "glue"
    outcome = supermask("train", "--task", "mrpc", "--data-dir", missing, "--output", tmp_path / "run")
    refused(outcome, str(missing), "does not exist", "--data-dir")


def test_missing_file(supermask: Command, tmp_path: Path) -> None:
    missing = tmp_path / "train.csv"
    outcome = supermask("train", "--train-file", missing, "--output", tmp_path / "run")
    refused(outcome, str(missing), "does not exist", "give the path")


def test_missing_base(supermask: Command, place: Place, tmp_path: Path) -> None:
    missing = tmp_path / "base"
    outcome = supermask("train", "--train-file", place.train, "--base", missing, "--output", tmp_path / "run")
    refused(outcome, f"no folder '{missing}'", "minilm-l6")


def test_wrong_column(supermask: Command, place: Place, tmp_path: Path) -> None:
    outcome = supermask(*place.train_arguments(tmp_path / "run", "--text", "sentense"))
    refused(outcome, str(place.train), "no column 'sentense'", "did you mean 'sentence'")


def test_label_outside_the_set(supermask: Command, place: Place, tmp_path: Path) -> None:
    dev = tmp_path / "dev.csv"
    dev.write_text("sentence,label\nw1,low\nw2,middling\nw3,lower\n")
    outcome = supermask(*place.short_run(place.train, tmp_path / "run", "--dev-file", dev))
    refused(outcome, f"{dev}:3", "'middling'", f"{dev}:4", "'lower'", "high, low")


def test_empty_file(supermask: Command, place: Place, tmp_path: Path) -> None:
    empty, header = tmp_path / "empty.csv", tmp_path / "header.csv"
    empty.touch()
    header.write_text("sentence,label\n")
    refused(supermask(*place.short_run(empty, tmp_path / "run")), str(empty), "empty", "header")
    refused(supermask(*place.short_run(header, tmp_path / "run")), str(header), "no rows", "one row for each example")


def test_sparsity_of_one_and_a_half(supermask: Command, place: Place, tmp_path: Path) -> None:
    pruning = ("--method", "pruning", "--sparsity", "1.5")
    line = refused(supermask(*place.short_run(place.train, tmp_path / "run", *pruning)), "sparsity", "1.5")
    assert "less than or equal to 1" in line
    initial = ("--initial-sparsity", "1.5")
    refused(supermask(*place.short_run(place.train, tmp_path / "run", *initial)), "initial_sparsity", "1.5")
    assert not (tmp_path / "run").exists()


def test_selection_that_matches_nothing(supermask: Command, place: Place, tmp_path: Path) -> None:
    outcome = supermask(*place.train_arguments(tmp_path / "run", "--exclude", "keey", "--exclude", "block-7"))
    refused(outcome, "'keey'", "did you mean key?", "'block-7'", "2 blocks", "roles: query, key, value")
    assert not (tmp_path / "run").exists()


def test_delta_for_another_base(supermask: Command, place: Place, trained: Path, tmp_path: Path) -> None:
    source = ("--base", place.other_base)
    words = ("encoder.layer.0.attention.self.query.weight", "differ")
    refused(supermask("predict", trained, "--sentence", "w1", *source), *words)
    refused(supermask("evaluate", trained, "--file", place.dev, *source), *words)
    refused(supermask("apply", trained, "--output", tmp_path / "model", *source), *words)
    assert list(tmp_path.iterdir()) == []


def test_output_folder_that_already_holds_a_run(supermask: Command, place: Place, trained: Path) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    refused(supermask(*place.train_arguments(trained)), str(trained), "already holds a run", "resume", "overwrite")
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_output_folder_that_holds_something_else(supermask: Command, place: Place, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    refused(supermask(*place.train_arguments(tmp_path, "--overwrite")), str(tmp_path), "not empty", "empty folder")
    assert (tmp_path / "thesis.tex").exists()


def test_disk_that_is_full_before_the_training(
    supermask: Command, place: Place, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**30, 2**30, 0))
    refused(supermask(*place.train_arguments(tmp_path / "run")), "0 MiB are free", "free some space")
    refused(supermask("apply", trained, "--output", tmp_path / "model"), "0 MiB are free", "free some space")


def test_disk_that_is_full_when_the_delta_is_saved(
    supermask: Command, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from supermask.deltas import files

    def write(place: Path, pieces: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place))

    monkeypatch.setattr(files, "write_through", write)
    outcome = supermask(*place.train_arguments(tmp_path / "run"))
    refused(outcome, str(tmp_path / "run" / "delta"), "No space left on device", "free some space")


def test_disk_that_is_full_where_nobody_expected_it(
    supermask: Command, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(self: TaskDelta, path: Path, *, overwrite: bool = False) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(TaskDelta, "save", save)
    outcome = supermask(*place.train_arguments(tmp_path / "run"))
    refused(outcome, "no space is left", str(tmp_path / "run" / "delta"), "free some space")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not let a file system be mounted")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint_steps", [0, 1])
def test_disk_that_is_really_full(
    checkpoint_steps: int,
    supermask: Command,
    place: Place,
    trained: Path,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 0, 2**40))
    full = ("--method", "full", "--checkpoint-steps", checkpoint_steps)
    outcome = supermask(*place.short_run(place.train, small_disk / "run", *full))
    refused(outcome, "space", "free some space")
    assert not list(small_disk.glob("run/delta/delta*"))
    refused(supermask("apply", trained, "--output", small_disk / "model"), str(small_disk / "model"), "free some space")
    assert not list(small_disk.glob("*model*"))


def test_truncated_delta(supermask: Command, trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained / "delta", tmp_path / "delta")
    file = copy / "delta.safetensors"
    whole = file.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 5):
        file.write_bytes(whole[:length])
        refused(supermask("inspect", copy), str(file), "truncated", "get it again")
        refused(supermask("predict", copy, "--sentence", "w1"), str(file), "truncated", "get it again")


def test_edited_delta(supermask: Command, trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained / "delta", tmp_path / "delta")
    file = copy / "delta.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    refused(supermask("evaluate", copy, "--file", trained / "dev.csv"), str(file), "checksum", "get it again")


def test_folder_that_is_no_delta(supermask: Command, place: Place, tmp_path: Path) -> None:
    for verb in (("inspect",), ("evaluate",), ("predict", "--sentence", "w1"), ("apply", "--output", tmp_path / "m")):
        refused(supermask(*verb, place.base), str(place.base), "no delta in this folder")
    refused(supermask("inspect", place.base / "model.safetensors"), "not a delta", "TaskDelta.save")


def test_option_that_no_method_has(supermask: Command, place: Place, tmp_path: Path) -> None:
    outcome = supermask(*place.train_arguments(tmp_path / "run", "--sparsty", "0.5"))
    refused(outcome, "--sparsty", "--sparsity", "supermask train --help")


def test_option_of_another_method(supermask: Command, place: Place, tmp_path: Path) -> None:
    outcome = supermask(*place.train_arguments(tmp_path / "run", "--sparsity", "0.5", "--scope", "global"))
    refused(outcome, "--sparsity is no option of the method supermask but of pruning", "--initial-sparsity", "--scope")
    frozen = ("--method", "freezing", "--exclude", "key", "--mask-eps", "1e-4")
    refused(supermask(*place.short_run(place.train, tmp_path / "run", *frozen)), "--mask-eps", "supermask")
    full = ("--method", "full", "--exclude", "key")
    refused(supermask(*place.short_run(place.train, tmp_path / "run", *full)), "--exclude", "--method freezing")


def test_unknown_method(supermask: Command, place: Place, tmp_path: Path) -> None:
    outcome = supermask(*place.short_run(place.train, tmp_path / "run", "--method", "prunning"))
    refused(outcome, "no method is called 'prunning'", "did you mean pruning?", "head-only")


def test_settings_out_of_range_are_told_together(supermask: Command, place: Place, tmp_path: Path) -> None:
    wrong = ("--mask-learning-rate", "-1", "--epochs", "0", "--warmup", "2", "--precision", "fp8")
    outcome = supermask(*place.short_run(place.train, tmp_path / "run", *wrong))
    refused(outcome, "learning_rate is --mask-learning-rate here", "epochs", "warmup", "'fp8'", "'bf16'")


def test_value_of_the_wrong_type(supermask: Command) -> None:
    refused(supermask("train", "--epochs", "many", "--output", "x"), "--epochs", "many", "supermask train --help")


def test_missing_output(supermask: Command) -> None:
    refused(supermask("train", "--task", "rte"), "--output", "supermask train --help")


def test_unknown_verb(supermask: Command) -> None:
    refused(supermask("trian"), "trian", "train", "supermask --help")


def test_nothing_to_learn(supermask: Command, tmp_path: Path) -> None:
    refused(supermask("train", "--output", tmp_path / "run"), "--task", "--train-file")


def test_options_without_effect(supermask: Command, place: Place, trained: Path, tmp_path: Path) -> None:
    output = ("--output", tmp_path / "run")
    refused(
        supermask("train", "--task", "rte", "--text", "a", "--regression", *output), "--text, --regression", "--task"
    )
    outcome = supermask(*place.short_run(place.train, tmp_path / "run", "--data-dir", "glue"))
    refused(outcome, "--data-dir", "--train-file")
    refused(supermask("evaluate", trained, "--file", place.dev, "--split", "dev"), "--split", "--file")
    refused(supermask("evaluate", trained, "--label", "x"), "--label", "known task")
    refused(supermask("predict", trained, "--sentence", "w1", "--file", place.dev), "--file", "--sentence")
    outcome = supermask(*place.short_run(place.train, tmp_path / "run", "--method", "freezing"))
    refused(outcome, "freezes nothing", "--exclude", "--method full")
