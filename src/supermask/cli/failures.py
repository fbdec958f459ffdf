"""What a person reads when something went wrong: one line with the remedy, and an exit code."""

from __future__ import annotations

import errno
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, final

import typer

from supermask.errors import SupermaskError

__all__ = ["Failure", "Interruption", "describe_failure", "one_line"]

# Which class stands here depends on the version of typer, which brings its own copy of click since 0.26.
_USAGE_ERROR: Final[type[Exception]] = typer.BadParameter.__mro__[1]

# How libraries word a write that found no space, where they do not raise an OSError that says so.
_NO_SPACE: Final = ("No space left on device", "os error 28", "PytorchStreamWriter failed", "file write failed")

_EXTRAS: Final = {
    "train": ("transformers", "accelerate", "sklearn", "scipy"),
    "figures": ("matplotlib",),
    "hub": ("datasets",),
    "parquet": ("pyarrow",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "peft": ("peft",),
}
_EXTRA_OF: Final = {library: extra for extra, libraries in _EXTRAS.items() for library in libraries}


@final
@dataclass(frozen=True)
class Failure:
    """The end of a command: one line, and 2 for what the person can mend, 130 after Ctrl-C, 1 for everything else."""

    line: str
    exit_code: int


@final
class Interruption(Exception):
    """Ctrl-C, where there is something to say about how to go on."""

    exit_code: ClassVar[int] = 130


def describe_failure(error: BaseException) -> Failure:
    """Say in one line what happened and what to do, whatever came out of a verb."""
    if isinstance(error, Interruption):
        return Failure(f"stopped: {one_line(str(error))}", Interruption.exit_code)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Failure("stopped", Interruption.exit_code)
    if isinstance(error, _USAGE_ERROR):
        return Failure(_usage(error), 2)
    if isinstance(error, SupermaskError):
        return Failure(f"error: {one_line(str(error))}", 2)
    if place := _full_disk(error):
        return Failure(f"error: no space is left on the disk{place}; free some space or choose another disk", 2)
    if isinstance(error, ModuleNotFoundError) and (extra := _EXTRA_OF.get((error.name or "").partition(".")[0])):
        return Failure(f"error: this needs {error.name}, which is not installed; pip install 'supermask[{extra}]'", 2)
    if type(error).__name__ == "OutOfMemoryError":  # torch's; naming its class would import torch
        return Failure(
            "error: the accelerator has too little memory; raise --gradient-accumulation, lower --batch-size or "
            "--max-length, or use --gradient-checkpointing or --cpu",
            1,
        )
    return Failure(
        f"error: unexpected {type(error).__name__}: {one_line(str(error))} ({_origin(error)}); for the whole traceback "
        "set SUPERMASK_DEBUG=1",
        1,
    )


def one_line(message: str) -> str:
    r"""A message without line ends: what stood on lines of its own is separated by semicolons.

    Example:
        >>> one_line("2 faults in the data:\n  a.csv:1: no label\n  a.csv:2: no text")
        '2 faults in the data: a.csv:1: no label; a.csv:2: no text'
    """
    text = ""
    for line in (" ".join(part.split()) for part in message.splitlines()):
        if text and line:
            text += " " if text[-1] in ":;,.?" else "; "
        text += line
    return text


def _usage(error: Any) -> str:
    from pydantic import ValidationError  # here, as help is to be there without it

    message = one_line(error.format_message()).replace("Value error, ", "").rstrip(".")
    if isinstance(error.__cause__, ValidationError):
        message += f", received {error.__cause__.errors()[0]['input']!r}"
    command = error.ctx.command_path if error.ctx is not None else "supermask"
    return f"error: {message[:1].lower()}{message[1:]}; see: {command} --help"


def _full_disk(error: BaseException) -> str | None:
    """Where the space ran out, as far as that is known; None if the error is of another kind."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return f" of {cause.filename}" if cause.filename else " that is written to"
        if any(phrase in str(cause) for phrase in _NO_SPACE):
            return " that is written to"
        cause = cause.__cause__ or cause.__context__
    return None


def _origin(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "no traceback"
    own = [frame for frame in frames if "supermask" in Path(frame.filename).parts]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"
