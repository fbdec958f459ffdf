"""Options that several verbs share, so that one thing has one name and one help text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

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
    "refuse_together",
]

DEFAULT_TEXT = "sentence"
DEFAULT_LABEL = "label"

_DATA = "Data"
_BASE = "Base"

DeltaPath = Annotated[
    str,
    typer.Argument(
        metavar="DELTA",
        help="Folder of a delta, or of the run that made it; or on the hub, OWNER/NAME or OWNER/NAME@REVISION/FOLDER.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON document instead of tables.")]
Cpu = Annotated[bool, typer.Option("--cpu", metavar="", help="Stay on the CPU even where there is an accelerator.")]

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
        "--text", metavar="COLUMN", help=f"Column of the text. \\[default: {DEFAULT_TEXT}]", rich_help_panel=_DATA
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
        help="Where the base is now. \\[default: what the delta names]",
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


def refuse_together(first: str, given: Mapping[str, object]) -> None:
    """Refuse options that have no effect beside another one.

    Args:
        first: the option that decides.
        given: the others by name; those that were not given are None or empty.

    Raises:
        ConfigurationError: naming those that were given.
    """
    from supermask.errors import ConfigurationError

    useless = [name for name, value in given.items() if value is not None and value is not False and value != []]
    if useless:
        verb = "has" if len(useless) == 1 else "have"
        raise ConfigurationError(f"{', '.join(useless)} {verb} no effect beside {first}; leave one of the two out")
