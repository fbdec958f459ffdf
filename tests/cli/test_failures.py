"""From an error to one line and an exit code."""

import errno
import os

import pytest
import torch
from safetensors import SafetensorError

from supermask.cli.failures import Interruption, describe_failure
from supermask.errors import DataError
from tiny_command import call


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "runs/x"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError(
            "[enforce fail at inline_container.cc] PytorchStreamWriter failed writing file data/1: file write failed"
        ),
    ],
)
def test_full_disk_however_it_is_worded(error: Exception) -> None:
    wrapped = RuntimeError("saving failed")
    wrapped.__cause__ = error
    for raised in (error, wrapped):
        failure = describe_failure(raised)
        assert failure.exit_code == 2
        assert failure.line.startswith("error: no space is left on the disk")
        assert "free some space" in failure.line
        assert "\n" not in failure.line


def test_other_errors_of_the_system_are_not_a_full_disk() -> None:
    failure = describe_failure(PermissionError(errno.EACCES, "Permission denied", "x"))
    assert failure.exit_code == 1
    assert "unexpected PermissionError" in failure.line


def test_several_faults_stand_in_one_line() -> None:
    failure = describe_failure(DataError("2 faults in the data:\n  a.csv:1: no label\n  a.csv:2: no text"))
    assert failure.line == "error: 2 faults in the data: a.csv:1: no label; a.csv:2: no text"


def test_missing_library_names_its_extra() -> None:
    failure = describe_failure(ModuleNotFoundError("No module named 'accelerate'", name="accelerate"))
    assert (failure.exit_code, "supermask[train]" in failure.line) == (2, True)
    assert describe_failure(ModuleNotFoundError("No module named 'own'", name="own")).exit_code == 1


def test_too_little_memory_says_what_to_lower() -> None:
    failure = describe_failure(torch.OutOfMemoryError("CUDA out of memory."))
    assert failure.exit_code == 1
    assert "--batch-size" in failure.line


def test_interrupts() -> None:
    assert describe_failure(KeyboardInterrupt()).exit_code == 130
    assert describe_failure(Interruption("go on")).line == "stopped: go on"


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def known_tasks() -> None:
        raise ZeroDivisionError("a fault\nof ours")

    monkeypatch.setattr("supermask.tasks.known_tasks", known_tasks)


@pytest.mark.usefixtures("broken")
def test_unexpected_failure_is_short() -> None:
    outcome = call("tasks")
    assert outcome.exit_code == 1
    assert outcome.stdout == ""
    [line] = outcome.stderr.splitlines()
    assert line.startswith("error: unexpected ZeroDivisionError: a fault; of ours (tasks.py, line ")
    assert "SUPERMASK_DEBUG=1" in line


@pytest.mark.usefixtures("broken")
def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    by_option = call("--debug", "tasks")
    monkeypatch.setenv("SUPERMASK_DEBUG", "1")
    by_variable = call("tasks")
    for outcome in (by_option, by_variable):
        assert outcome.exit_code == 1
        assert "Traceback (most recent call last)" in outcome.stderr
        assert outcome.stderr.splitlines()[-1].startswith("error: ")


def test_interrupt_of_any_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    def known_tasks() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("supermask.tasks.known_tasks", known_tasks)
    outcome = call("tasks")
    assert (outcome.exit_code, outcome.stdout) == (130, "")
    assert outcome.stderr.startswith("stopped: ")
