"""A newcomer's bad inputs: each is one line with the remedy, and exit code 2."""

import errno
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from supermask import TaskDelta, atomic
from tiny_command import Place, call, refused

# What is typed, with {short} for a short training on a file, and what the one line says.
TYPED = [
    ("trian", ("trian", "train", "supermask --help")),
    ("train --task rte", ("--output", "supermask train --help")),
    ("train --epochs many --output x", ("--epochs", "many", "supermask train --help")),
    ("train --output {run}", ("--task", "--train-file")),
    ("train --task mprc --output {run}", ("no task is called 'mprc'", "did you mean 'mrpc'", "qnli")),
    ("train --task mrpc --data-dir {run} --output {run}", ("run", "does not exist", "--data-dir")),
    ("train --train-file {run}.csv --output {run}", ("run.csv", "does not exist", "give the path")),
    ("train --train-file {train} --base {run} --output {run}", ("no folder '", "run'", "minilm-l6")),
    ("train --task rte --text a --regression --output {run}", ("--text, --regression", "--task")),
    ("{short} --data-dir glue", ("--data-dir", "--train-file")),
    ("{short} --text sentense", ("train.csv", "no column 'sentense'", "did you mean 'sentence'")),
    ("{short} --sparsty 0.5", ("--sparsty", "--sparsity", "supermask train --help")),
    ("{short} --method prunning", ("no method is called 'prunning'", "did you mean pruning?", "head-only")),
    ("{short} --method pruning --sparsity 1.5", ("sparsity", "less than or equal to 1", "1.5")),
    ("{short} --initial-sparsity 1.5", ("initial_sparsity", "1.5")),
    (
        "{short} --exclude keey --exclude block-7",
        ("'keey'", "did you mean key?", "'block-7'", "2 blocks", "roles: query, key, value"),
    ),
    (
        "{short} --sparsity 0.5 --scope global",
        ("--sparsity is no option of the method supermask but of pruning", "--initial-sparsity", "--scope"),
    ),
    ("{short} --method freezing --exclude key --mask-eps 1e-4", ("--mask-eps", "supermask")),
    ("{short} --method freezing", ("freezes nothing", "--exclude", "--method full")),
    ("{short} --method full --exclude key", ("--exclude", "--method freezing")),
    (
        "{short} --mask-learning-rate -1 --epochs 0 --warmup 2 --precision fp8",
        ("learning_rate is --mask-learning-rate here", "epochs", "warmup", "'fp8'", "'bf16'"),
    ),
    ("evaluate {trained} --file {train} --split dev", ("--split", "--file")),
    ("evaluate {trained} --label x", ("--label", "known task")),
    ("evaluate {trained}", ("'own-data'", "--file FILE")),
    ("evaluate {trained} --task probe-entailment", ("'own-data'", "probe-entailment", "labels")),
    ("evaluate {trained} --task rte --split valid --data-dir {trained}", ("'valid'", "train, dev, test")),
    ("predict {trained} --sentence w1 --file {train}", ("--file", "--sentence")),
    ("predict {trained} --sentence w1 --second w2", ("leave --second out",)),
    ("predict {trained} --task probe-sentiment", ("no test splits", "--split", "train, dev")),
]


@pytest.mark.parametrize(("typed", "words"), TYPED)
def test_one_line_says_what_and_the_remedy(
    typed: str, words: tuple[str, ...], place: Place, trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    short = shlex.join(map(str, place.short_run(place.train, run)))
    names = {"run": run, "train": place.train, "trained": shlex.quote(str(trained)), "short": short}
    refused(call(*shlex.split(typed.format(**names))), *words)
    assert not run.exists()


def test_label_outside_the_set(place: Place, tmp_path: Path) -> None:
    dev = tmp_path / "dev.csv"
    dev.write_text("sentence,label\nw1,low\nw2,middling\nw3,lower\n")
    outcome = call(*place.short_run(place.train, tmp_path / "run", "--dev-file", dev))
    refused(outcome, f"{dev}:3", "'middling'", f"{dev}:4", "'lower'", "high, low")


def test_empty_file(place: Place, tmp_path: Path) -> None:
    empty, header = tmp_path / "empty.csv", tmp_path / "header.csv"
    empty.touch()
    header.write_text("sentence,label\n")
    refused(call(*place.short_run(empty, tmp_path / "run")), str(empty), "empty", "header")
    refused(call(*place.short_run(header, tmp_path / "run")), str(header), "no rows", "one row for each example")


def test_delta_for_another_base(place: Place, trained: Path, tmp_path: Path) -> None:
    source = ("--base", place.other_base)
    words = ("encoder.layer.0.attention.self.query.weight", "differ")
    refused(call("predict", trained, "--sentence", "w1", *source), *words)
    refused(call("evaluate", trained, "--file", place.dev, *source), *words)
    refused(call("apply", trained, "--output", tmp_path / "model", *source), *words)
    assert list(tmp_path.iterdir()) == []


def test_output_folder_that_already_holds_a_run(place: Place, trained: Path) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    refused(call(*place.train_arguments(trained)), str(trained), "already holds a run", "resume", "overwrite")
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_output_folder_that_holds_something_else(place: Place, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    refused(call(*place.train_arguments(tmp_path, "--overwrite")), str(tmp_path), "not empty", "empty folder")
    assert (tmp_path / "thesis.tex").exists()


def test_disk_that_is_full_before_the_training(
    place: Place, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**30, 2**30, 0))
    refused(call(*place.train_arguments(tmp_path / "run")), "0 MiB are free", "free some space")
    refused(call("apply", trained, "--output", tmp_path / "model"), "0 MiB are free", "free some space")


def test_disk_that_is_full_when_the_delta_is_saved(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_through = atomic.write_through

    def write(place: Path, pieces: Iterable[bytes]) -> None:
        if place.parent.name == "delta":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place))
        write_through(place, pieces)

    monkeypatch.setattr(atomic, "write_through", write)
    outcome = call(*place.train_arguments(tmp_path / "run"))
    refused(outcome, str(tmp_path / "run" / "delta"), "No space left on device", "free some space")


def test_disk_that_is_full_where_nobody_expected_it(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(self: TaskDelta, path: Path, *, overwrite: bool = False) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(TaskDelta, "save", save)
    outcome = call(*place.train_arguments(tmp_path / "run"))
    refused(outcome, "no space is left", str(tmp_path / "run" / "delta"), "free some space")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 40 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not let a file system be mounted")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint_steps", [0, 1])
def test_disk_that_is_really_full(
    checkpoint_steps: int, place: Place, trained: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 0, 2**40))
    full = ("--method", "full", "--checkpoint-steps", checkpoint_steps)
    outcome = call(*place.short_run(place.train, small_disk / "run", *full))
    refused(outcome, "space", "free some space")
    assert not list(small_disk.glob("run/delta/delta*"))
    refused(call("apply", trained, "--output", small_disk / "model"), str(small_disk / "model"), "free some space")
    assert not list(small_disk.glob("*model*"))


def test_truncated_delta(trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained / "delta", tmp_path / "delta")
    file = copy / "delta.safetensors"
    whole = file.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 5):
        file.write_bytes(whole[:length])
        refused(call("inspect", copy), str(file), "truncated", "get it again")
        refused(call("predict", copy, "--sentence", "w1"), str(file), "truncated", "get it again")


def test_edited_delta(trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained / "delta", tmp_path / "delta")
    file = copy / "delta.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    outcome = call("evaluate", copy, "--file", trained / "dev.csv")
    refused(outcome, str(file), "do not have the hash", "get it again")


def test_folder_that_is_no_delta(place: Place, tmp_path: Path) -> None:
    for verb in (("inspect",), ("evaluate",), ("predict", "--sentence", "w1"), ("apply", "--output", tmp_path / "m")):
        refused(call(*verb, place.base), str(place.base), "no delta in this folder")
    refused(call("inspect", place.base / "model.safetensors"), "not a delta", "TaskDelta.save")
