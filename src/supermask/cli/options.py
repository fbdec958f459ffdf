"""Options that several verbs share, so that one thing has one name and one help text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.models import OptionInfo

__all__ = [
    *("DEFAULT_LABEL", "DEFAULT_TEXT", "AllowNew", "AsJson", "Cpu", "DataDir", "DeltaPath", "Revision", "StoredBase"),
    *("TaskName", "TextColumn", "TextPairColumn", "argument", "named", "option", "refuse_together", "spelt"),
]

_Verb = TypeVar("_Verb", bound=Callable[..., None])

DEFAULT_TEXT = "sentence"
DEFAULT_LABEL = "label"


def argument(metavar: str, help: str) -> Any:
    """An argument of a verb."""
    return typer.Argument(metavar=metavar, help=help, show_default=False)


def option(panel: str | None, metavar: str | None, help: str, *, name: str | None = None) -> Any:
    """An option of a verb, called as its parameter is if no name is given.

    A flag has an empty metavar, and a metavar that is None is the type's own name.
    """
    return typer.Option(*([] if name is None else [name]), metavar=metavar, help=help, rich_help_panel=panel)


_DELTA = "Folder of a delta, or of the run that made it; or on the hub, OWNER/NAME or OWNER/NAME@REVISION/FOLDER."
DeltaPath = Annotated[str, argument("DELTA", _DELTA)]
AsJson = Annotated[bool, option(None, "", "Print one JSON document instead of tables.", name="--json")]
Cpu = Annotated[bool, option(None, "", "Stay on the CPU even where there is an accelerator.")]

_OFFICIAL = "Folder with the official GLUE files; without it a GLUE task comes from the hub."
TaskName = Annotated[str | None, option("Data", "NAME", "A known task; `supermask tasks` lists them.", name="--task")]
DataDir = Annotated[Path | None, option("Data", "DIR", _OFFICIAL)]
TextColumn = Annotated[str | None, option("Data", "COLUMN", f"Column of the text. \\[default: {DEFAULT_TEXT}]")]
TextPairColumn = Annotated[str | None, option("Data", "COLUMN", "Column of the second text, for tasks of pairs.")]

_LACKING = "Tensors that the base may lack and that are drawn at random. Repeatable."
StoredBase = Annotated[
    str | None, option("Base", "NAME_OR_DIR", "Where the base is now. \\[default: what the delta names]")
]
Revision = Annotated[str | None, option("Base", "REV", "Branch, tag or commit of a base on the hub.")]
AllowNew = Annotated[list[str] | None, option("Base", "PATTERN", _LACKING)]


def refuse_together(first: str, given: Mapping[str, object]) -> None:
    """Refuse options that have no effect beside another one; those that were not given are None, False or empty."""
    from supermask.errors import ConfigurationError

    useless = [name for name, value in given.items() if value is not None and value is not False and value != []]
    if useless:
        verb = "has" if len(useless) == 1 else "have"
        raise ConfigurationError(f"{', '.join(useless)} {verb} no effect beside {first}; leave one of the two out")


def spelt(parameter: str) -> str:
    """An option as it is typed."""
    return f"--{parameter.replace('_', '-')}"


def named(verb: _Verb) -> _Verb:
    """Call each option of a verb that has no name as its parameter is called; typer would give flags a --no- form."""
    signature = inspect.signature(verb, eval_str=True)
    for name, parameter in signature.parameters.items():
        for kind in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(kind, OptionInfo) and kind.default is ... and not kind.param_decls:
                kind.param_decls = (spelt(name),)
    verb.__signature__ = signature  # type: ignore[attr-defined]
    return verb
