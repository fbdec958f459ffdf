"""What goes to standard output and what goes to standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

__all__ = ["examples_text", "note", "percent", "plain_table", "print_json", "print_lines", "show", "shown_bytes"]


def examples_text(examples: Sequence[str]) -> str:
    """The end of a help page: commands to type, in rich markup, one a line."""
    from rich.markup import escape

    return "\n".join(["[bold]Examples[/bold]", *(f"  [cyan]{escape(example)}[/cyan]" for example in examples)])


def note(text: str) -> None:
    """Tell the person something that is no result: on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_json(document: Mapping[str, Any]) -> None:
    """Print the one JSON document of a command; numbers that JSON does not know become null."""
    print(json.dumps(_finite(document), indent=1, allow_nan=False))


def show(*renderables: RenderableType, whole: bool = False) -> None:
    """Print tables and text, styled if standard output is a terminal.

    Args:
        renderables: what to print.
        whole: cut and wrap nothing, even where that is wider than the terminal.
    """
    for renderable in renderables:
        console = _console()
        if whole:
            console.width = max(
                console.width, console.measure(renderable, options=console.options.update(width=9999)).maximum
            )
        console.print(renderable)


def print_lines(lines: Sequence[str]) -> None:
    """Print lines as they are, however long: paths and commands are there to be copied."""
    for line in lines:
        print(line)


def plain_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table with a rule under its header.

    Args:
        columns: headers; what stands in the first is never cut.
        right: headers of the columns that are set flush right, as numbers are.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if column in right else "left", no_wrap=position == 0)
    return table


def percent(fraction: float) -> str:
    """A score in percent, two decimals.

    Example:
        >>> percent(0.87654)
        '87.65'
    """
    return f"{100 * fraction:.2f}" if math.isfinite(fraction) else "undefined"


def printable(text: str) -> str:
    """Text from a file that may come from anywhere, without what would steer a terminal.

    Example:
        >>> printable("name\x1b[2J")
        'name?[2J'
    """
    return "".join(character if character.isprintable() else "?" for character in text)


def shown_bytes(count: int) -> str:
    """A number of bytes, exact and at a glance.

    Example:
        >>> shown_bytes(123_456)
        '123,456 bytes (121 KiB)'
    """
    if count < 1024:
        return f"{count} bytes"
    size, unit = (count / 2**10, "KiB") if count < 2**20 else (count / 2**20, "MiB")
    return f"{count:,} bytes ({size:.3g} {unit})" if size < 1000 else f"{count:,} bytes ({size:,.0f} {unit})"


def _console() -> Console:
    from rich.console import Console

    # Names of tasks, labels and files may hold what rich would take for markup.
    return Console(highlight=False, markup=False, emoji=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value
