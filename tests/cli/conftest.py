"""A tiny base, a tiny task as CSV files, and a command line that is called in this process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from tiny_bases import save_tiny_base
from tiny_tasks import tiny_data


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    stdout: str
    stderr: str


class _Input(io.StringIO):
    def __init__(self, text: str | None) -> None:
        super().__init__(text or "")
        self.terminal = text is None

    def isatty(self) -> bool:
        return self.terminal


Command = Callable[..., Outcome]


def call(*arguments: object, stdin: str | None = None) -> Outcome:
    """Run `supermask ARGUMENTS`; without `stdin`, standard input is a terminal."""
    from supermask.cli.app import run

    stdout, stderr, before = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = _Input(stdin)
    try:
        with redirect_stdout(stdout), redirect_stderr(stderr):
            exit_code = run([str(argument) for argument in arguments])
    finally:
        sys.stdin = before
    return Outcome(exit_code, stdout.getvalue(), stderr.getvalue())


@pytest.fixture
def supermask() -> Command:
    """The command line: `supermask("tasks", "--json")`."""
    return call


@dataclass(frozen=True)
class Place:
    """Where a session's tiny things are."""

    base: Path
    other_base: Path
    train: Path
    dev: Path
    pairs: Path
    numbers: Path

    def train_arguments(self, output: Path, *more: object) -> list[object]:
        return [
            "train",
            *("--train-file", self.train, "--dev-file", self.dev, "--base", self.base),
            *("--max-steps", 2, "--batch-size", 4, "--mask-learning-rate", 9.0, "--head-learning-rate", 0.01),
            *("--draws", 2, "--logging-steps", 1, "--cpu", "--quiet", "--output", output),
            *more,
        ]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A base, another one of the same shape, and files of three tasks."""
    root = tmp_path_factory.mktemp("tiny")
    data = tiny_data()
    files = {}
    for split in ("train", "dev"):
        rows = zip(data[split].first, data[split].labels or (), strict=True)
        files[split] = root / f"{split}.csv"
        files[split].write_text("sentence,label\n" + "".join(f"{text},{'low' if y else 'high'}\n" for text, y in rows))
    pairs, numbers = root / "pairs.csv", root / "numbers.jsonl"
    pairs.write_text("one,two,label\n" + "".join(f"w{i},w{i + 1},{i % 2}\n" for i in range(12)))
    numbers.write_text("".join(f'{{"sentence": "w{i} w{i + 1}", "label": {i / 4}}}\n' for i in range(12)))
    other = save_tiny_base(root / "other-base")
    _change_one_weight(other)
    return Place(save_tiny_base(root / "base"), other, files["train"], files["dev"], pairs, numbers)


def _change_one_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.0.attention.self.query.weight"][0, 0] += 1.0
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="session")
def trained(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a run: a supermask learnt on the tiny task, two steps."""
    output = tmp_path_factory.mktemp("runs") / "mine"
    outcome = call(*place.train_arguments(output))
    assert outcome.exit_code == 0, outcome.stderr
    yield output


def refused(outcome: Outcome, *words: str) -> str:
    """Exit code 2, nothing on standard output, and one line on standard error that has these words in it."""
    assert outcome.exit_code == 2, (outcome.stdout, outcome.stderr)
    assert outcome.stdout == ""
    lines = outcome.stderr.splitlines()
    assert len(lines) == 1, outcome.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0], (word, lines[0])
    return lines[0]
