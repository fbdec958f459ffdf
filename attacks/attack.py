"""What an attack is: something to read that is not what it seems, and what must become of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, final

from fuzz.anatomy import Anatomy, put_together, take_apart
from fuzz.bases import base_named
from fuzz.judge import Refusal, attempt, judge
from fuzz.seeds import seeds_of
from supermask.deltas import TaskDelta
from supermask.errors import SupermaskError

__all__ = ["Attack", "anatomy", "edited", "on_file", "on_folder", "on_model", "seed"]


@final
class Attack(NamedTuple):
    """One attack.

    Args:
        name: of few words, as it stands in the table.
        what: is tried.
        outcome: that must come of it: `refused at load`, `refused at decoding`, `refused at applying`, or the error;
            `right` if what is read is what it was, `other` if it is a well-formed other one.
        words: that the refusal must have in it.
        run: crafts it in an empty folder and reads it; gives the outcome and the message.
    """

    name: str
    what: str
    outcome: str
    words: str
    run: Callable[[Path], tuple[str, str]]


def on_file(
    name: str, what: str, outcome: str, words: str, craft: Callable[[], bytes], *, base: str = "every"
) -> Attack:
    """An attack by a delta's file: loaded, decoded with and without the base, applied and removed."""

    def run(folder: Path) -> tuple[str, str]:
        verdict = judge(craft(), base, folder)
        return verdict.outcome, verdict.message

    return Attack(name, what, outcome, words, run)


def on_model(name: str, what: str, words: str, craft: Callable[[], bytes], *, base: str = "every") -> Attack:
    """An attack by a delta that loads and must not be applied, since the model is not its base."""

    def run(folder: Path) -> tuple[str, str]:
        data = craft()
        judge(data, base, folder)
        (folder / "delta.safetensors").write_bytes(data)
        delta = TaskDelta.load(folder)
        found = attempt(lambda: delta.apply_(base_named(base).model))
        return (found.error.__name__, found.message) if isinstance(found, Refusal) else ("other", "")

    return Attack(name, what, "BaseMismatchError", words, run)


def on_folder(
    name: str,
    what: str,
    error: type[Exception] | None,
    words: str,
    craft: Callable[[Path], Callable[[], Any]],
) -> Attack:
    """An attack by what lies in a folder; crafting it gives what reads it. Without an error it must do no harm."""

    def run(folder: Path) -> tuple[str, str]:
        found = attempt(craft(folder), (SupermaskError,))
        return (found.error.__name__, found.message) if isinstance(found, Refusal) else ("right", "")

    return Attack(name, what, error.__name__ if error else "right", words, run)


def seed(name: str = "one mask", *, base: str = "every") -> bytes:
    """An intact delta: `one mask` has a mask coded against the base, and a head."""
    (found,) = (seed.data for seed in seeds_of(base) if seed.name == name)
    return found


def anatomy(name: str = "one mask") -> Anatomy:
    """The parts of an intact delta."""
    return take_apart(seed(name))


def edited(edit: Callable[[Anatomy], object], name: str = "one mask") -> Callable[[], bytes]:
    """A delta whose document or payloads were edited, with every hash put right."""

    def craft() -> bytes:
        parts = anatomy(name)
        edit(parts)
        return put_together(parts)

    return craft
