"""Deltas for stores, and children that are told to do something to a store and report by their exit code."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

from torch import nn

from deltas.tiny_deltas import tiny_delta
from supermask.deltas import TaskDelta

CARD, DELTA, CONFIG = "store.json", "delta.safetensors", "delta_config.json"


def named(model: nn.Module, task: str, **described: object) -> TaskDelta:
    """A delta of a task of that name."""
    return tiny_delta(model, task={"name": task, "metrics": ["f1", "accuracy"]}, **described)


def undecodable(delta: TaskDelta) -> TaskDelta:
    """The same delta with one zero more in what it says about each mask: every checksum is right, no mask is."""
    changes = tuple(
        record if record.kind != "keep_mask" else record.model_copy(update={"zeros": (record.zeros or 0) + 1})
        for record in delta.document.changes
    )
    return TaskDelta(delta.document.model_copy(update={"changes": changes}), delta.payloads)


def damage(folder: Path) -> None:
    """Turn one bit of a delta's last payload."""
    content = bytearray((folder / DELTA).read_bytes())
    content[-1] ^= 1
    (folder / DELTA).write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder but the lock, hidden ones included."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def in_child(work: Callable[[], object], refusal: type[Exception] = OSError) -> int:
    """Start a process that does the work; it exits with 0, with 3 if it is refused, with 1 on any other error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except refusal:
            code = 3
        finally:
            os._exit(code)
    return child


def exit_code(child: int) -> int:
    """Wait for a child."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
