"""A map of zeros for the terminal: numbers that read without colour, on a ground that shows them at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from supermask.cli.printing import PlainTable, plain_table, printable

if TYPE_CHECKING:
    from supermask.analysis import ZeroCount, ZerosTable

__all__ = ["zeros_map"]

# Points of the colour map cividis, from few zeros to many.
_GROUND = ((0, 34, 78), (53, 69, 108), (102, 105, 112), (148, 142, 119), (200, 184, 102), (254, 232, 56))
_DARK_TEXT_FROM = 0.55
_DIGITS = 5
_ROOM = 70


def zeros_map(table: ZerosTable) -> PlainTable:
    """Zeros in percent: blocks down, from the input up, and roles across, so that it fits a terminal at any depth."""
    columns = [*(printable(role).split("_") for role in table.roles), ["all"]]
    widths = [max(_DIGITS, *map(len, words)) for words in columns]
    # With every role masked, the table would be wider than 80 columns if it were set with air.
    air = " " if sum(widths) + 3 * len(widths) <= _ROOM else ""
    headers = (
        "\n".join(f"{air}{word:>{width}}{air}" for word in words) for words, width in zip(columns, widths, strict=True)
    )
    shown = plain_table("block", *(f">{header}" for header in headers))
    shown.padding = (0, 0)  # so that the grounds of neighbours nearly touch
    highest = max((cell.sparsity for cell in table.cells.values()), default=0.0)

    def add_row(name: str, counts: Sequence[ZeroCount | None]) -> None:
        shown.add_row(name, *(_cell(count, highest, width, air) for count, width in zip(counts, widths, strict=True)))

    for block in table.blocks:
        cells = [table.cells.get((role, block)) for role in table.roles]
        add_row("outside" if block is None else str(block), [*cells, table.of_block(block)])
    shown.add_section()
    add_row("all", [*(table.of_role(role) for role in table.roles), table.total])
    return shown


def _cell(count: ZeroCount | None, highest: float, width: int, air: str) -> Text:
    if count is None or not count.weights:
        return Text("")
    share = count.sparsity / highest if highest else 0.0
    ink = "black" if share > _DARK_TEXT_FROM else "white"
    red, green, blue = _GROUND[round(share * (len(_GROUND) - 1))]
    return Text(f"{air}{_short(100 * count.sparsity):>{width}}{air}", style=f"{ink} on rgb({red},{green},{blue})")


def _short(percent: float) -> str:
    """Three digits that count, so that few zeros do not all read 0.

    Example:
        >>> [_short(value) for value in (0.0123, 1.234, 12.34, 100.0)]
        ['0.012', '1.23', '12.3', '100']
    """
    if percent == 0 or percent >= 99.95:
        return f"{percent:.0f}"
    return f"{percent:.1f}" if percent >= 10 else f"{percent:.2f}" if percent >= 0.1 else f"{percent:.3f}"
