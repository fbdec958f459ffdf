"""The command line called in this process, on a tiny base and tiny tasks."""

import io
import json
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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


def said(*arguments: object) -> str:
    """What `supermask ARGUMENTS`, which succeeds, says on standard output."""
    outcome = call(*arguments)
    assert outcome.exit_code == 0, outcome.stderr
    return outcome.stdout


def told(*arguments: object) -> Any:
    """The JSON document that `supermask ARGUMENTS --json`, which succeeds, says on standard output."""
    return json.loads(said(*arguments, "--json"))


def command_of(*verbs: str) -> Any:
    """The command of a verb, or of a verb of a group, as click knows it."""
    from supermask.cli.app import make_command

    command = make_command()
    for verb in verbs:
        command = command.commands[verb]
        command = getattr(command, "real", command)
    return command


def understood(line: str) -> Any:
    """Parse a command line, and return what of it was understood."""
    program, verb, *words = shlex.split(line)
    assert program == "supermask"
    command = command_of(verb)
    if hasattr(command, "commands"):
        inner, *words = words
        command = command.commands[inner]
    return command.make_context(verb, words)


@dataclass(frozen=True)
class Place:
    """Where a session's tiny things are."""

    base: Path
    other_base: Path
    train: Path
    dev: Path
    pairs: Path
    numbers: Path

    def short_run(self, train: Path, output: Path, *more: object) -> list[object]:
        """Two steps of training on a file."""
        return [
            *("train", "--train-file", train, "--base", self.base, "--output", output),
            *("--max-steps", 2, "--batch-size", 4, "--logging-steps", 1, "--cpu", "--quiet", *more),
        ]

    def train_arguments(self, output: Path, *more: object) -> list[object]:
        """Two steps of supermask training on sentences, at rates that flip weights at once."""
        rates = ("--mask-learning-rate", 9.0, "--head-learning-rate", 0.01, "--draws", 2)
        return self.short_run(self.train, output, "--dev-file", self.dev, *rates, *more)


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
