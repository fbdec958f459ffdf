"""What goes to standard output and what to standard error.

Names, labels and messages may come from a file of anyone's making. Whatever is printed goes through here, and only here
is it made safe for a terminal.
"""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.segment import Segment, Segments
from rich.table import Table

__all__ = [
    *("PlainTable", "answer", "examples_text", "facts_table", "never_fail_to_encode", "note", "percent"),
    *("plain_table", "print_json", "print_lines", "printable", "show", "shown", "shown_bytes"),
]


@final
class PlainTable(Table):
    """A table with a rule under its header, whose cells cannot steer the terminal.

    It is shown as wide as it is, or, if it `folds`, on more lines where the terminal is too narrow. Nothing is cut off.
    """

    folds = False

    def add_row(self, *cells: RenderableType | None, **settings: Any) -> None:
        """As in rich, with text made printable."""
        super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **settings)


def never_fail_to_encode() -> None:
    """Let standard output and error print a question mark for what their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def examples_text(examples: Sequence[str]) -> str:
    """The end of a help page: commands to type, in rich markup, one a line."""
    return "\n".join(["[bold]Examples[/bold]", *(f"  [cyan]{escape(example)}[/cyan]" for example in examples)])


def note(text: str) -> None:
    """Tell the person something that is no result: on standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def print_json(document: Mapping[str, Any]) -> None:
    """Print the one JSON document of a command; numbers that JSON does not know become null."""
    print(json.dumps(_finite(document), indent=1, allow_nan=False))


def answer(document: Mapping[str, Any], told: Iterable[str | Table], *, as_json: bool) -> None:
    """Print what came of a command: one JSON document for programs, or lines and tables for people."""
    if as_json:
        print_json(document)
        return
    for one in told:
        print_lines([one]) if isinstance(one, str) else show(one)


def show(table: Table) -> None:
    """Print a table, styled if standard output is a terminal."""
    # Names of tasks, labels and files may hold what rich would take for markup.
    console = Console(highlight=False, markup=False, emoji=False)
    if not (isinstance(table, PlainTable) and table.folds):
        natural = console.measure(table, options=console.options.update(width=9999)).maximum
        console.width = max(console.width, natural)
    # Cells that have a style of their own come as rich's text, and are text from a file all the same.
    console.print(Segments(map(_printable_segment, console.render(table))))


def print_lines(lines: Iterable[str]) -> None:
    """Print lines as they are, however long: paths and commands are there to be copied."""
    for line in lines:
        print(printable(line))


def plain_table(*columns: str, rows: Iterable[Sequence[str]] = (), folds: bool = False) -> PlainTable:
    """A table of rows; columns whose header begins with > are set flush right."""
    table = PlainTable(box=box.SIMPLE_HEAD, pad_edge=False)
    table.folds = folds
    for column in columns:
        header = column.removeprefix(">")
        table.add_column(header, justify="left" if header == column else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def facts_table(facts: Iterable[tuple[str, str]]) -> PlainTable:
    """Names and what they stand for, a line each."""
    table = plain_table("", "", rows=facts, folds=True)
    table.show_header = False
    return table


def shown(value: float | None, form: str) -> str:
    """A number in a table, or the dash of one that there is not.

    Example:
        >>> shown(0.5, ".2f"), shown(None, ".2f")
        ('0.50', '–')
    """
    return "–" if value is None else format(value, form)


def percent(fraction: float | None) -> str:
    """A fraction in percent, two decimals, or the dash of one that there is not."""
    if fraction is not None and not math.isfinite(fraction):
        return "undefined"
    return shown(fraction and 100 * fraction, ".2f")


def printable(text: str) -> str:
    """A line of text without what would steer a terminal: control characters, line ends, marks of writing direction.

    Example:
        >>> printable("name\\x1b[2J")
        'name?[2J'
    """
    return "".join(character if character.isprintable() or character == "\t" else "?" for character in text)


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


def _printable_segment(segment: Segment) -> Segment:
    if segment.control or segment.text == "\n":
        return segment
    return Segment(printable(segment.text), segment.style)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value
