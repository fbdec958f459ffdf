"""Options that several verbs share, so that one thing has one name and one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
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
    "refuse_together",
]

_DATA = "Data"
_BASE = "Base"

DeltaPath = Annotated[
    Path, typer.Argument(metavar="DELTA", help="Folder of a delta, or of the run that made it.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Cpu = Annotated[bool, typer.Option("--cpu", help="Stay on the CPU even where there is an accelerator.")]

TaskName = Annotated[
    str | None,
    typer.Option("--task", metavar="NAME", help="A known task; `supermask tasks` lists them.", rich_help_panel=_DATA),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Folder with the official GLUE files; without it a GLUE task comes from the hub.",
        rich_help_panel=_DATA,
    ),
]
TextColumn = Annotated[
    str | None,
    typer.Option(
        "--text", metavar="COLUMN", help="Column of the text. [default: sentence]", rich_help_panel=_DATA
    ),
]
TextPairColumn = Annotated[
    str | None,
    typer.Option(
        "--text-pair", metavar="COLUMN", help="Column of the second text, for tasks of pairs.", rich_help_panel=_DATA
    ),
]

StoredBase = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="NAME_OR_DIR",
        help="Where the base is now. [default: what the delta names]",
        rich_help_panel=_BASE,
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        "--revision", metavar="REV", help="Branch, tag or commit of a base on the hub.", rich_help_panel=_BASE
    ),
]
AllowNew = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-new",
        metavar="PATTERN",
        help="Tensors that the base may lack and that are drawn at random. Repeatable.",
        rich_help_panel=_BASE,
    ),
]


def refuse_together(first: str, given: dict[str, object]) -> None:
    """Refuse options that have no effect beside another one.

    Args:
        first: the option that decides.
        given: the others by name; those that were not given are None or empty.

    Raises:
        ConfigurationError: naming those that were given.
    """
    from supermask.errors import ConfigurationError

    useless = [name for name, value in given.items() if value not in (None, False, [], ())]
    if useless:
        raise ConfigurationError(f"{', '.join(useless)} has no effect beside {first}; leave one of the two out")
