"""Options that several verbs share, so that one thing has one name and one help text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from supermask.cli.printing import examples_text

__all__ = [
    "DEFAULT_LABEL",
    "DEFAULT_TEXT",
    "AllowNew",
    "AsJson",
    "Cpu",
    "DataDir",
    "DeltaPath",
    "Revision",
    "StoredBase",
    "TaskName",
    "TextColumn",
    "TextPairColumn",
    "Verb",
    "add_verbs",
    "argument",
    "option",
    "refuse_together",
]

Verb = tuple[Callable[..., None], Sequence[str]]
"""A verb's function, and the examples that its help ends with."""

DEFAULT_TEXT = "sentence"
DEFAULT_LABEL = "label"


def argument(metavar: str, help: str) -> Any:
    """An argument of a verb."""
    return typer.Argument(metavar=metavar, help=help, show_default=False)


def option(panel: str | None, name: str, metavar: str | None, help: str) -> Any:
    """An option of a verb; a flag has an empty metavar, and a metavar that is None is the type's own name."""
    return typer.Option(name, metavar=metavar, help=help, rich_help_panel=panel)


DeltaPath = Annotated[
    str,
    argument(
        "DELTA",
        "Folder of a delta, or of the run that made it; or on the hub, OWNER/NAME or OWNER/NAME@REVISION/FOLDER.",
    ),
]
AsJson = Annotated[bool, option(None, "--json", "", "Print one JSON document instead of tables.")]
Cpu = Annotated[bool, option(None, "--cpu", "", "Stay on the CPU even where there is an accelerator.")]

TaskName = Annotated[str | None, option("Data", "--task", "NAME", "A known task; `supermask tasks` lists them.")]
DataDir = Annotated[
    Path | None,
    option(
        "Data", "--data-dir", "DIR", "Folder with the official GLUE files; without it a GLUE task comes from the hub."
    ),
]
TextColumn = Annotated[
    str | None, option("Data", "--text", "COLUMN", f"Column of the text. \\[default: {DEFAULT_TEXT}]")
]
TextPairColumn = Annotated[
    str | None, option("Data", "--text-pair", "COLUMN", "Column of the second text, for tasks of pairs.")
]

StoredBase = Annotated[
    str | None,
    option("Base", "--base", "NAME_OR_DIR", "Where the base is now. \\[default: what the delta names]"),
]
Revision = Annotated[str | None, option("Base", "--revision", "REV", "Branch, tag or commit of a base on the hub.")]
AllowNew = Annotated[
    list[str] | None,
    option(
        "Base", "--allow-new", "PATTERN", "Tensors that the base may lack and that are drawn at random. Repeatable."
    ),
]


def refuse_together(first: str, given: Mapping[str, object]) -> None:
    """Refuse options that have no effect beside another one; those that were not given are None, False or empty."""
    from supermask.errors import ConfigurationError

    useless = [name for name, value in given.items() if value is not None and value is not False and value != []]
    if useless:
        verb = "has" if len(useless) == 1 else "have"
        raise ConfigurationError(f"{', '.join(useless)} {verb} no effect beside {first}; leave one of the two out")


def add_verbs(
    app: typer.Typer, about: Callable[..., None], examples: Sequence[str], verbs: Mapping[str, Verb]
) -> typer.Typer:
    """Give an application what its help says and its verbs; the help of each ends with its examples."""
    app.callback(invoke_without_command=True, epilog=examples_text(examples))(about)
    for name, (verb, lines) in verbs.items():
        app.command(name, epilog=examples_text(lines))(verb)
    return app
